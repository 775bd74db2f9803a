"""The engine in a few words: info, version, disk usage, networks with their members. Source: API 1.51 SystemInfo."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from wherry.clock import now, parse
from wherry.house import House
from wherry.network.places import PREDEFINED
from wherry.spec.frontend import Filters, NetworkView
from wherry.spec.network import Network


@cache
def version() -> str:
    """The version of this engine."""
    try:
        return installed("wherry-core")
    except PackageNotFoundError:
        return "0"


def info(house: House) -> Mapping[str, Any]:
    """API SystemInfo, except what only the front knows."""
    views = [container.view for container in house.containers.all()]
    settings = house.settings
    exec_info = house.driver("exec", settings.exec_driver).call("info") or {}
    support = house.support
    forwarding = _flag("/proc/sys/net/ipv4/ip_forward")
    kernel = os.uname()
    return {
        "ID": house.engine_id,
        "Containers": len(views),
        "ContainersRunning": sum(view.status in ("running", "restarting") for view in views),
        "ContainersPaused": sum(view.status == "paused" for view in views),
        "ContainersStopped": sum(view.status in ("created", "exited", "dead") for view in views),
        "Images": len(house.images.list(all=True)),
        "Driver": house.storage.name,
        "DriverStatus": [[key, value] for key, value in (house.storage.call("status") or {}).items()],
        "SystemStatus": None,
        "Plugins": {
            "Volume": ["local"],
            "Network": sorted(house.catalogue.names("network")),
            "Authorization": None,
            "Log": sorted(house.catalogue.names("log")),
        },
        "MemoryLimit": support.memory,
        "SwapLimit": support.swap,
        "CpuCfsPeriod": support.cfs,
        "CpuCfsQuota": support.cfs,
        "CPUShares": support.shares,
        "CPUSet": support.cpuset,
        "PidsLimit": support.pids,
        "IPv4Forwarding": forwarding,
        "BridgeNfIptables": _flag("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        "BridgeNfIp6tables": _flag("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
        "Debug": settings.debug,
        "NFd": len(os.listdir("/proc/self/fd")),
        "OomKillDisable": support.oom_kill_disable,
        "NGoroutines": len(os.listdir("/proc/self/task")),
        "SystemTime": now(),
        "LoggingDriver": settings.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(support.version),
        "NEventsListener": 0,
        "KernelVersion": kernel.release,
        "OperatingSystem": _os_release().get("PRETTY_NAME", "Linux"),
        "OSVersion": _os_release().get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": kernel.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
            "IndexConfigs": {
                "docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}
            },
            "Mirrors": [],
        },
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "GenericResources": None,
        "DockerRootDir": str(house.data_root),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": platform.node(),
        "Labels": list(settings.labels),
        "ExperimentalBuild": False,
        "ServerVersion": version(),
        "Runtimes": {name: {"path": name} for name in house.catalogue.names("exec")},
        "DefaultRuntime": settings.exec_driver,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": settings.live_restore,
        "Isolation": "",
        "InitBinary": "wherry-init",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": _guards(house),
        "CDISpecDirs": [],
        "Warnings": [*support.lacks(), *([] if forwarding else ["WARNING: IPv4 forwarding is disabled"])]
        or None,
        "ExecDriver": f"{settings.exec_driver} {exec_info.get('Version', '')}".strip(),
    }


def _guards(house: House) -> list[str]:
    """What containers have unless they say otherwise, in Docker's words."""
    settings = house.settings
    profile = settings.seccomp_profile
    found = [f"name=seccomp,profile={'builtin' if profile in ('', 'default') else profile}", "name=cgroupns"]
    if settings.no_new_privileges:
        found.append("name=no-new-privileges")
    if house.userns is not None:
        found.append("name=userns")
    return found


def disk_usage(house: House) -> Mapping[str, Any]:
    """API SystemDataUsageResponse as raw numbers: bytes by kind and id."""
    layers = {c.id: int(house.storage.call("usage", layer=c.id)) for c in house.containers.all()}
    images = house.images.list(all=True)
    return {
        "LayersSize": sum(image.size for image in images),
        "Containers": layers,
        "Volumes": {v.name: _size(house.volumes.path(v.name)) for v in house.volumes.all()},
        "BuildCacheSize": 0,
    }


def networks(house: House, filters: Filters) -> list[NetworkView]:
    """Every network that fits, with who is in it."""
    fitting = [network(house, found) for found in house.networks.list() if _wanted(found, filters)]
    for wanted in filters.get("dangling", ())[:1]:
        unused = wanted.lower() in ("true", "1", "t")
        fitting = [view for view in fitting if _dangles(view) == unused]
    return fitting


def _dangles(view: NetworkView) -> bool:
    return not view.containers and view.network.name not in PREDEFINED


def network(house: House, found: Network) -> NetworkView:
    """A network with the containers that are in it now."""
    return NetworkView(network=found, containers=members(house, found.id))


def members(house: House, network_id: str) -> dict[str, tuple[str, str, str, str, str]]:
    """Container id → (name, endpoint id, mac, ipv4/prefix, ipv6/prefix) of the containers in a network."""
    found = {}
    for container in house.containers.all():
        for endpoint in container.view.networks.values():
            if endpoint.network_id == network_id and container.running:
                found[container.id] = (
                    container.name,
                    endpoint.endpoint_id,
                    endpoint.mac,
                    f"{endpoint.address}/{endpoint.prefix}" if endpoint.address else "",
                    f"{endpoint.ipv6}/{endpoint.ipv6_prefix}" if endpoint.ipv6 else "",
                )
    return found


def _wanted(network: Network, filters: Filters) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda v: re.search(re.escape(v), network.name) is not None,
        "id": network.id.startswith,
        "driver": lambda v: v == network.driver,
        "type": lambda v: v == ("builtin" if network.name in PREDEFINED else "custom"),
        "scope": lambda v: v == "local",
        "until": lambda v: parse(network.created) < int(float(v) * 1e9),
    }
    # Alternatives, but labels: each must be there.
    return (
        all(any(tests[key](v) for v in values) for key, values in filters.items() if key in tests and values)
        and all(_has_label(network, wanted) for wanted in filters.get("label", ()))
        and not any(_has_label(network, unwanted) for unwanted in filters.get("label!", ()))
    )


def _has_label(network: Network, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in network.labels and (not equals or network.labels[name] == value)


def _flag(path: str) -> bool:
    try:
        return Path(path).read_text().strip() != "0"
    except OSError:
        return False


@cache
def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _size(top: Path) -> int:
    total = 0
    for directory, _, files in os.walk(top):
        for name in files:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except FileNotFoundError:
                continue
    return total
