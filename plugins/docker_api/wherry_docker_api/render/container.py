"""A container: as `inspect` shows it, and as a line of `ps`.

Source: moby `api/types/container`, `daemon/inspect.go`, `container/view.go`, `container/state.go`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wherry.spec.container import (
    Config,
    ContainerView,
    EndpointRequest,
    EndpointView,
    HostConfig,
    MountPoint,
    PortBinding,
)
from wherry_docker_api.words import seconds, since

# What Go leaves out of its answer where it is empty.
_CONFIG_OMITS: Final = frozenset(
    "ExposedPorts Healthcheck ArgsEscaped NetworkDisabled MacAddress StopSignal StopTimeout Shell".split()
)
_HEALTHCHECK_OMITS: Final = frozenset("Test Interval Timeout StartPeriod StartInterval Retries".split())
_HOST_CONFIG_OMITS: Final = frozenset(
    "Annotations StorageOpt Tmpfs Sysctls Runtime KernelMemory KernelMemoryTCP Mounts LxcConf".split()
)
_NOT_SHOWN_IF_NULL: Final = ("Init",)


def inspect(view: ContainerView) -> dict[str, Any]:
    """`GET /containers/{id}/json`, without sizes."""
    return {
        "Id": view.id,
        "Created": view.created,
        "Path": view.path,
        "Args": view.args,
        "State": state(view),
        "Image": view.image_id,
        "ResolvConfPath": view.resolv_conf_path,
        "HostnamePath": view.hostname_path,
        "HostsPath": view.hosts_path,
        "LogPath": view.log_path,
        "Name": f"/{view.name}",
        "RestartCount": view.restart_count,
        "Driver": view.storage_driver,
        "Platform": "linux",
        "MountLabel": view.mount_label,
        "ProcessLabel": view.process_label,
        "AppArmorProfile": view.apparmor_profile,
        "ExecIDs": view.exec_ids or None,
        "HostConfig": host_config(view.host_config),
        "GraphDriver": {"Data": view.storage_data or None, "Name": view.storage_driver},
        "Mounts": [mount(point) for point in view.mounts],
        "Config": config(view.config),
        "NetworkSettings": network_settings(view),
    }


def state(view: ContainerView) -> dict[str, Any]:
    status = view.status
    shown: dict[str, Any] = {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": view.oom_killed,
        "Dead": status == "dead",
        "Pid": view.pid,
        "ExitCode": view.exit_code,
        "Error": view.error,
        "StartedAt": view.started_at,
        "FinishedAt": view.finished_at,
    }
    if view.health is not None:
        shown["Health"] = msgspec.to_builtins(view.health)
    return shown


def config(value: Config) -> dict[str, Any]:
    """API ContainerConfig."""
    shown: dict[str, Any] = msgspec.to_builtins(value)
    if value.healthcheck is not None:
        shown["Healthcheck"] = _without_empty(shown["Healthcheck"], _HEALTHCHECK_OMITS)
    for name in ("Cmd", "Entrypoint"):
        if isinstance(shown[name], str):
            shown[name] = [shown[name]]
    shown["Labels"] = shown["Labels"] or {}
    if shown["ExposedPorts"]:
        shown["ExposedPorts"] = {port: {} for port in shown["ExposedPorts"]}
    if shown["Volumes"]:
        shown["Volumes"] = {path: {} for path in shown["Volumes"]}
    # A stop timeout of 0 was asked for; null was not.
    if value.stop_timeout == 0:
        return _without_empty(shown, _CONFIG_OMITS - {"StopTimeout"})
    return _without_empty(shown, _CONFIG_OMITS)


def host_config(value: HostConfig) -> dict[str, Any]:
    """API HostConfig."""
    shown: dict[str, Any] = msgspec.to_builtins(value)
    shown["ConsoleSize"] = shown["ConsoleSize"] or [0, 0]
    shown["PortBindings"] = shown["PortBindings"] or {}
    shown["LogConfig"]["Config"] = shown["LogConfig"]["Config"] or {}
    for name in ("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"):
        shown[name] = shown[name] or []
    shown["BlkioWeightDevice"] = shown["BlkioWeightDevice"] or []
    if shown["Mounts"]:
        shown["Mounts"] = [_mount_request(each) for each in shown["Mounts"]]
    for name in _NOT_SHOWN_IF_NULL:
        if shown[name] is None:
            del shown[name]
    return _without_empty(shown, _HOST_CONFIG_OMITS)


def _mount_request(shown: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in shown.items() if value or name in ("Type", "Target")}
    for name, value in kept.items():
        if isinstance(value, dict):
            kept[name] = {inner: each for inner, each in value.items() if each}
    return kept


def mount(point: MountPoint) -> dict[str, Any]:
    """API MountPoint."""
    shown: dict[str, Any] = msgspec.to_builtins(point)
    del shown["Request"]
    return _without_empty(shown, frozenset({"Name", "Driver"}))


def network_settings(view: ContainerView) -> dict[str, Any]:
    """API NetworkSettings; its flat half is that of the default network, which old clients read."""
    first = view.networks.get("bridge", EndpointView())
    return {
        "Bridge": "",
        "SandboxID": view.sandbox_path.rpartition("/")[2],
        "SandboxKey": view.sandbox_path,
        "Ports": {
            port: bindings and [_binding(each) for each in bindings] for port, bindings in view.ports.items()
        },
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": first.endpoint_id,
        "Gateway": first.gateway,
        "GlobalIPv6Address": first.ipv6,
        "GlobalIPv6PrefixLen": first.ipv6_prefix,
        "IPAddress": first.address,
        "IPPrefixLen": first.prefix,
        "IPv6Gateway": first.ipv6_gateway,
        "MacAddress": first.mac,
        "Networks": {name: endpoint(each) for name, each in view.networks.items()},
    }


def endpoint(view: EndpointView) -> dict[str, Any]:
    """API EndpointSettings."""
    request = view.request
    return {
        "IPAMConfig": _ipam(request),
        "Links": request.links,
        "Aliases": request.aliases,
        "MacAddress": view.mac,
        "DriverOpts": request.driver_opts,
        "GwPriority": request.gw_priority,
        "NetworkID": view.network_id,
        "EndpointID": view.endpoint_id,
        "Gateway": view.gateway,
        "IPAddress": view.address,
        "IPPrefixLen": view.prefix,
        "IPv6Gateway": view.ipv6_gateway,
        "GlobalIPv6Address": view.ipv6,
        "GlobalIPv6PrefixLen": view.ipv6_prefix,
        "DNSNames": view.dns_names,
    }


def _ipam(request: EndpointRequest) -> dict[str, Any] | None:
    if request.ipam_config is None:
        return None
    shown: dict[str, Any] = msgspec.to_builtins(request.ipam_config)
    return {name: value for name, value in shown.items() if value}


def _binding(binding: PortBinding) -> dict[str, str]:
    return {"HostIp": binding.host_ip, "HostPort": binding.host_port}


# ---- A line of ps


def summary(view: ContainerView, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
    """One of `GET /containers/json`. `sizes`: (writable layer, root file system) in bytes, where they were asked for."""
    shown: dict[str, Any] = {
        "Id": view.id,
        "Names": [f"/{view.name}"],
        "Image": view.image_name or view.image_id,
        "ImageID": view.image_id,
        "Command": command(view),
        "Created": int(seconds(view.created)),
        "Ports": ports(view),
        "Labels": view.config.labels or {},
        "State": view.status,
        "Status": status_line(view),
        "HostConfig": {"NetworkMode": view.host_config.network_mode or "default"},
        "NetworkSettings": {"Networks": {name: endpoint(each) for name, each in view.networks.items()}},
        "Mounts": [mount(point) for point in view.mounts],
    }
    if view.host_config.annotations:
        shown["HostConfig"]["Annotations"] = view.host_config.annotations
    if sizes is not None:
        for name, size in zip(("SizeRw", "SizeRootFs"), sizes, strict=True):
            if size:
                shown[name] = size
    return shown


def command(view: ContainerView) -> str:
    return " ".join([view.path, *(f"'{arg}'" if " " in arg else arg for arg in view.args)])


def ports(view: ContainerView) -> list[dict[str, Any]]:
    """Published ports, one per binding, and exposed ones."""
    shown: list[dict[str, Any]] = []
    for name, bindings in view.ports.items():
        number, _, protocol = name.partition("/")
        port = int(number) if number.isdecimal() else 0
        if not bindings:
            shown.append({"PrivatePort": port, "Type": protocol})
        for binding in bindings or ():
            public = int(binding.host_port) if binding.host_port.isdecimal() else 0
            each = {"IP": binding.host_ip, "PrivatePort": port, "PublicPort": public, "Type": protocol}
            shown.append(_without_empty(each, frozenset({"IP", "PublicPort"})))
    return shown


def status_line(view: ContainerView) -> str:
    """The sentence in the column STATUS."""
    match view.status:
        case "created":
            return "Created"
        case "paused":
            return f"Up {since(view.started_at)} (Paused)"
        case "restarting":
            return f"Restarting ({view.exit_code}) {since(view.finished_at)} ago"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
        case "exited":
            return f"Exited ({view.exit_code}) {since(view.finished_at)} ago"
    if view.health is None or view.health.status in ("", "none"):
        return f"Up {since(view.started_at)}"
    health = "health: starting" if view.health.status == "starting" else view.health.status
    return f"Up {since(view.started_at)} ({health})"


def _without_empty(shown: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if value or name not in names}
