"""`wherry info` and `wherry version`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

from wherry.cli.connection import DaemonError
from wherry.cli.flags import flag
from wherry.cli.session import Session
from wherry.cli.template import Template
from wherry.cli.version import VERSION
from wherry.quantities import human_size

Format = Annotated[str, flag("-f", "--format", help="json or a Go template")]

_LINES = {
    "Containers": "Containers", "ContainersRunning": " Running", "ContainersPaused": " Paused",
    "ContainersStopped": " Stopped", "Images": "Images", "ServerVersion": "Server Version", "Driver": "Storage Driver",
    "DriverStatus": "", "LoggingDriver": "Logging Driver", "CgroupDriver": "Cgroup Driver",
    "CgroupVersion": "Cgroup Version", "Runtimes": "Exec Drivers", "DefaultRuntime": "Default Exec Driver",
    "SecurityOptions": "Security Options", "KernelVersion": "Kernel Version", "OperatingSystem": "Operating System",
    "OSType": "OSType", "Architecture": "Architecture", "NCPU": "CPUs", "MemTotal": "Total Memory", "Name": "Name",
    "ID": "ID", "DockerRootDir": "Root Dir", "Debug": "Debug Mode", "Labels": "Labels",
    "LiveRestoreEnabled": "Live Restore Enabled",
}  # fmt: skip


def info(session: Session, format: Format = "") -> int:
    found = session.client.call("GET", "/info")
    if format:
        print(json.dumps(found) if format == "json" else Template(format).render(found))
        return 0
    for key, title in _LINES.items():
        if key in found:
            for line in _info_lines(title, key, found[key]):
                print(line)
    for warning in found.get("Warnings") or []:
        print(warning, file=sys.stderr)
    return 0


def _info_lines(title: str, key: str, value: Any) -> Iterator[str]:
    match value:
        case bool():
            yield f"{title}: {str(value).lower()}"
        case list() if key == "DriverStatus":
            yield from (f" {name}: {text}" for name, text in value)
        case list():
            if value:
                yield f"{title}:"
                yield from (f" {each}" for each in value)
        case dict():
            yield f"{title}: {' '.join(sorted(value))}"
        case int() if key == "MemTotal":
            yield f"{title}: {human_size(value, 1024)}"
        case _:
            yield f"{title}: {value}"


def version(session: Session, format: Format = "") -> int:
    client: dict[str, Any] = {"Version": VERSION, "Python": sys.version.split()[0]}
    try:
        server = session.client.call("GET", "/version")
        problem = None
    except DaemonError as error:
        server, problem = None, error
    found = {"Client": client, "Server": server}
    if format:
        print(json.dumps(found) if format == "json" else Template(format).render(found))
    else:
        print(f"Client:\n Version:      {VERSION}\n Python:       {client['Python']}")
        if server:
            print(f"\nServer: {(server.get('Platform') or {}).get('Name', '')}".rstrip())
            for title, key in (
                ("Version", "Version"),
                ("API version", "ApiVersion"),
                ("OS/Arch", "Os"),
                ("Kernel", "KernelVersion"),
            ):
                text = f"{server.get('Os')}/{server.get('Arch')}" if key == "Os" else server.get(key, "")
                print(f" {title + ':':<13} {text}")
    if problem:
        print(f"wherry: {problem}", file=sys.stderr)
        return 1
    return 0
