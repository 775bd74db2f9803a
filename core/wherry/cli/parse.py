"""What docker's flags mean in the API's words: ports, mounts, devices, environment files, one small function each.

Raises InvalidRequest with docker's words where scripts may match them.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wherry.errors import InvalidRequest
from wherry.quantities import parse_duration, parse_size, parse_ulimit

Json = dict[str, Any]


def environment(files: Iterable[str], given: Iterable[str]) -> list[str]:
    """`NAME=value`; a NAME alone is taken from our own environment, or left out. Flags come after files."""
    found = []
    for text in [*(line for file in files for line in _lines(file)), *given]:
        name, equals, _ = text.partition("=")
        if not name:
            raise InvalidRequest(f"invalid environment variable: {text}")
        if equals:
            found.append(text)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def labels(files: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    return pairs([*(line for file in files for line in _lines(file)), *given])


def pairs(given: Iterable[str]) -> dict[str, str]:
    """`name=value`, repeated; a name alone has an empty value."""
    return {name: value for name, _, value in (text.partition("=") for text in given)}


def _lines(file: str) -> list[str]:
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file}: cannot be read: {getattr(error, 'strerror', error)}") from error
    return [line.lstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def ports(published: Iterable[str], exposed: Iterable[str]) -> tuple[Json, Json]:
    """(ExposedPorts, PortBindings) of `-p 127.0.0.1:8080-8082:80-82/tcp` and `--expose 80-90/udp`."""
    exposures: Json = {}
    bindings: dict[str, list[Json]] = {}
    for text in published:
        rest, _, protocol = text.partition("/")
        address, host, inside = _split_port(rest, text)
        low, high = _range(inside, text)
        first, last = _range(host, text) if host else (0, 0)
        if host and last - first != high - low and not (high == low):
            raise InvalidRequest(
                f"invalid ranges specified for container and host Ports: {inside} and {host}"
            )
        for offset in range(high - low + 1):
            key = f"{low + offset}/{(protocol or 'tcp').lower()}"
            outside = "" if not host else host if low == high else str(first + offset)
            exposures[key] = {}
            bindings.setdefault(key, []).append({"HostIp": address, "HostPort": outside})
    for text in exposed:
        rest, _, protocol = text.partition("/")
        low, high = _range(rest, text)
        exposures |= {f"{port}/{(protocol or 'tcp').lower()}": {} for port in range(low, high + 1)}
    return exposures, bindings


def _split_port(text: str, whole: str) -> tuple[str, str, str]:
    address = ""
    if text.startswith("["):
        address, bracket, text = text[1:].partition("]:")
        if not bracket:
            raise InvalidRequest(f"invalid publish: {whole}")
    parts = text.split(":")
    if not address and len(parts) > 2:
        address, parts = ":".join(parts[:-2]), parts[-2:]
    if len(parts) > 2:
        raise InvalidRequest(f"invalid publish: {whole}")
    return address, parts[0] if len(parts) == 2 else "", parts[-1]


def _range(text: str, whole: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    try:
        first, last = int(low), int(high if dash else low)
    except ValueError:
        first, last = 0, -1
    if not 0 < first <= last <= 65535:
        raise InvalidRequest(
            f"Invalid containerPort: {text}" if text == whole else f"invalid port in {whole}: {text}"
        )
    return first, last


def volumes(given: Iterable[str]) -> tuple[list[str], Json]:
    """(HostConfig.Binds, Config.Volumes): a path alone is an anonymous volume, `./x` is below the working directory."""
    binds: list[str] = []
    anonymous: Json = {}
    for text in given:
        source, colon, rest = text.partition(":")
        if not colon:
            anonymous[source] = {}
        elif source.startswith((".", "~")):
            binds.append(f"{os.path.abspath(os.path.expanduser(source))}:{rest}")
        else:
            binds.append(text)
    return binds, anonymous


_KEYS = {
    "type": "Type", "source": "Source", "src": "Source", "target": "Target", "dst": "Target",
    "destination": "Target", "readonly": "ReadOnly", "ro": "ReadOnly", "consistency": "Consistency",
}  # fmt: skip


def mount(text: str) -> Json:
    """`type=bind,source=/a,target=/b,readonly`: API Mount."""
    found: Json = {"Type": "volume"}
    for field in next(csv.reader([text])):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        match key:
            case "readonly" | "ro":
                found["ReadOnly"] = _boolean(value if equals else "true", field)
            case _ if key in _KEYS:
                found[_KEYS[key]] = value
            case "bind-propagation":
                found.setdefault("BindOptions", {})["Propagation"] = value
            case "bind-nonrecursive":
                found.setdefault("BindOptions", {})["NonRecursive"] = _boolean(
                    value if equals else "true", field
                )
            case "bind-create-src":
                found.setdefault("BindOptions", {})["CreateMountpoint"] = _boolean(
                    value if equals else "true", field
                )
            case "bind-recursive":
                found.setdefault("BindOptions", {}).update(_recursive(value, field))
            case "volume-nocopy":
                found.setdefault("VolumeOptions", {})["NoCopy"] = _boolean(value if equals else "true", field)
            case "volume-subpath":
                found.setdefault("VolumeOptions", {})["Subpath"] = value
            case "volume-label":
                found.setdefault("VolumeOptions", {}).setdefault("Labels", {}).update(pairs([value]))
            case "volume-driver":
                found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value
            case "volume-opt":
                driver = found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
                driver.setdefault("Options", {}).update(pairs([value]))
            case "tmpfs-size":
                found.setdefault("TmpfsOptions", {})["SizeBytes"] = parse_size(value)
            case "tmpfs-mode":
                found.setdefault("TmpfsOptions", {})["Mode"] = _octal(value, field)
            case _:
                raise InvalidRequest(
                    f"invalid argument \"{text}\" for --mount: unexpected key '{key}' in '{field}'"
                )
    if not found.get("Target"):
        raise InvalidRequest(f'invalid argument "{text}" for --mount: target is required')
    if found["Type"] == "bind" and found.get("Source", "").startswith("."):
        found["Source"] = os.path.abspath(found["Source"])
    return found


def _recursive(value: str, field: str) -> Json:
    table = {
        "enabled": {},
        "disabled": {"NonRecursive": True},
        "writable": {"ReadOnlyNonRecursive": True},
        "readonly": {"ReadOnlyForceRecursive": True},
    }
    if value not in table:
        raise InvalidRequest(f"invalid value in '{field}': one of {', '.join(table)}")
    return table[value]


def _boolean(value: str, field: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise InvalidRequest(f"invalid value in '{field}': true or false")
    return value.lower() in ("true", "1")


def _octal(value: str, field: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise InvalidRequest(f"invalid value in '{field}': octal digits") from None


def device(text: str) -> Json:
    """`/dev/x[:/dev/y][:rwm]`."""
    parts = text.split(":")
    mode = "rwm"
    if len(parts) > 1 and parts[-1] and set(parts[-1]) <= set("rwm"):
        mode = parts.pop()
    if not parts[0] or len(parts) > 2:
        raise InvalidRequest(f"invalid device specification: {text}")
    return {"PathOnHost": parts[0], "PathInContainer": parts[-1], "CgroupPermissions": mode}


def throttle(text: str, key: str = "Rate") -> Json:
    """`/dev/sda:1mb`: a device and its rate or weight."""
    path, colon, rate = text.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise InvalidRequest(f"bad format: {text}; write /dev/sda:1mb")
    return {"Path": path, key: parse_size(rate)}


def ulimit(text: str) -> Json:
    name, soft, hard = parse_ulimit(text)
    return {"Name": name, "Soft": soft, "Hard": hard}


def restart(text: str) -> Json:
    """`no`, `always`, `unless-stopped`, `on-failure[:times]`."""
    name, colon, times = text.partition(":")
    if colon and (name != "on-failure" or not times.isdigit()):
        raise InvalidRequest(f"invalid restart policy: {text}")
    return {"Name": name or "no", "MaximumRetryCount": int(times or 0)}


def size(text: str) -> int:
    """0 where nothing was said; -1 stays."""
    return int(text) if text in ("", "-1") and text else parse_size(text) if text else 0


def cpus(text: str) -> int:
    """Nanoseconds of CPU per second of `--cpus 1.5`."""
    try:
        return round(float(text) * 10**9) if text else 0
    except ValueError:
        raise InvalidRequest(f'invalid argument "{text}" for --cpus: a number of CPUs, like 1.5') from None


def duration(text: str) -> int:
    return parse_duration(text) if text else 0


def tmpfs(given: Iterable[str]) -> dict[str, str]:
    return {path: options for path, _, options in (text.partition(":") for text in given)}


def extra_host(text: str) -> str:
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not (name and separator and address):
        raise InvalidRequest(f'bad format for add-host: "{text}"')
    return f"{name}:{address.strip('[]')}"


def security(text: str) -> str:
    """A seccomp profile is read here: the daemon may be elsewhere."""
    name, _, value = text.replace(":", "=", 1).partition("=") if "=" not in text else text.partition("=")
    if name != "seccomp" or value in ("unconfined", "builtin", ""):
        return text
    try:
        return "seccomp=" + json.dumps(json.loads(Path(value).read_text()))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"opening seccomp profile ({value}) failed: {error}") from error
