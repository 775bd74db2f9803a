"""The engine as a whole. Source: API 1.51 /_ping, /version, /info, /events, /system/df; moby `router/system`."""

from __future__ import annotations

import os
import platform
from functools import partial
from typing import Any, Final

from wherry_docker_api.answer import JSON, TEXT, Answer, encode, json
from wherry_docker_api.call import Call, Route
from wherry_docker_api.flow import relay
from wherry_docker_api.render import container, image
from wherry_docker_api.render.event import event
from wherry_docker_api.words import ZERO_TIME

_EVENT_FILTERS: Final = frozenset(
    "config container daemon event image label network node plugin scope secret service type volume".split()
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_DF_TYPES: Final = ("container", "image", "volume", "build-cache")

_PING: Final = Answer(
    200,
    b"OK",
    TEXT,
    (
        (b"Builder-Version", b"1"),  # the classic builder: there is no BuildKit here
        (b"Cache-Control", b"no-cache, no-store, must-revalidate"),
        (b"Pragma", b"no-cache"),
        (b"Swarm", b"inactive"),
    ),
)


async def ping(call: Call) -> Answer:
    return _PING


async def version(call: Call) -> Answer:
    kernel = os.uname()
    ours = call.engine.version()
    facts = {
        "ApiVersion": _dotted(call.newest),
        "Arch": _ARCHITECTURES.get(kernel.machine, kernel.machine),
        "BuildTime": "",
        "GitCommit": "",
        "GoVersion": f"python{platform.python_version()}",
        "KernelVersion": kernel.release,
        "MinAPIVersion": _dotted(call.oldest),
        "Os": "linux",
    }
    engine = {"Name": "Engine", "Version": ours, "Details": {**facts, "Experimental": "false"}}
    return json({"Platform": {"Name": "wherry"}, "Components": [engine], "Version": ours, **facts})


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


# What clients expect to find; the engine knows better.
_INFO: Final[dict[str, Any]] = {
    "ID": "", "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0, "ContainersStopped": 0, "Images": 0,
    "Driver": "", "DriverStatus": [], "Plugins": {"Volume": [], "Network": [], "Authorization": None, "Log": []},
    "MemoryLimit": True, "SwapLimit": True, "CpuCfsPeriod": True, "CpuCfsQuota": True, "CPUShares": True,
    "CPUSet": True, "PidsLimit": True, "IPv4Forwarding": True, "Debug": False, "NFd": 0, "OomKillDisable": False,
    "NGoroutines": 0, "SystemTime": ZERO_TIME, "LoggingDriver": "", "CgroupDriver": "cgroupfs", "CgroupVersion": "2",
    "NEventsListener": 0, "KernelVersion": "", "OperatingSystem": "", "OSVersion": "", "OSType": "linux",
    "Architecture": "", "IndexServerAddress": "https://index.docker.io/v1/", "RegistryConfig": None, "NCPU": 0,
    "MemTotal": 0, "GenericResources": None, "DockerRootDir": "", "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
    "Name": "", "Labels": [], "ExperimentalBuild": False, "ServerVersion": "", "Runtimes": {}, "DefaultRuntime": "",
    "Swarm": {
        "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
        "RemoteManagers": None,
    },
    "LiveRestoreEnabled": False, "Isolation": "", "InitBinary": "", "ContainerdCommit": {"ID": ""},
    "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""}, "SecurityOptions": [], "CDISpecDirs": [], "Warnings": None,
}  # fmt: skip


async def info(call: Call) -> Answer:
    return json({**_INFO, **await call.door.read(call.engine.info)})


async def events(call: Call) -> None:
    query = call.query
    filters = query.filters(_EVENT_FILTERS)
    since, until = query.time_ns("since"), query.time_ns("until")
    stream = await call.door.read(call.engine.events, since, until, filters)
    await relay(call, stream, lambda happened: encode(event(happened)) + b"\n", JSON)


async def disk_usage(call: Call) -> Answer:
    wanted = [each for each in call.query.texts("type") if each in _DF_TYPES] or list(_DF_TYPES)
    used = await call.door.read(call.engine.disk_usage)
    shown: dict[str, Any] = {
        "LayersSize": 0,
        "Images": None,
        "Containers": None,
        "Volumes": None,
        "BuildCache": None,
    }
    if "image" in wanted:
        found = await call.door.read(call.engine.images, False)
        # Here, unlike in a list, dockerd counts.
        shown["Images"] = [
            image.summary(each, call.version) | {"Containers": each.containers, "SharedSize": 0}
            for each in found
        ]
        shown["LayersSize"] = used.get("LayersSize", sum(each.size for each in found))
    if "container" in wanted:
        sizes = used.get("Containers") or {}
        views = await call.door.read(call.engine.containers, True)
        shown["Containers"] = [container.summary(view, (sizes.get(view.id, 0), 0)) for view in views]
    if "volume" in wanted:
        shown["Volumes"] = [_volume(name, size) for name, size in (used.get("Volumes") or {}).items()]
    if "build-cache" in wanted:
        shown["BuildCache"] = []
        if call.version < (1, 42):
            shown["BuilderSize"] = 0
    return json(shown)


def _volume(name: str, size: int) -> dict[str, Any]:
    return {
        "Name": name, "Driver": "local", "Mountpoint": "", "Labels": None, "Options": None, "Scope": "local",
        "UsageData": {"RefCount": -1, "Size": size},
    }  # fmt: skip


async def drivers(call: Call) -> Answer:
    """Not of docker: `wherry drivers` asks it."""
    check = call.query.flag("check")
    return json([dict(each) for each in await call.door.work(partial(call.engine.drivers, check))])


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/_ping", ping),
    ("HEAD", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/events", events),
    ("GET", "/system/df", disk_usage),
    ("GET", "/wherry/drivers", drivers),
)
