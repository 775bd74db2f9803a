"""From flags to the body of `POST /containers/create`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wherry.cli import parse
from wherry.cli.container_flags import ContainerFlags
from wherry.cli.terminal import size
from wherry.errors import InvalidRequest


def attached(flags: ContainerFlags, detach: bool) -> tuple[bool, bool, bool]:
    """(stdin, stdout, stderr): which streams of the container are ours."""
    if detach:
        return False, False, False
    chosen = {name.lower() for name in flags.attach}
    if unknown := chosen - {"stdin", "stdout", "stderr"}:
        raise InvalidRequest(f"valid streams are STDIN, STDOUT and STDERR, not {unknown.pop()}")
    return (
        "stdin" in chosen or (flags.interactive and not chosen),
        "stdout" in chosen or not chosen,
        "stderr" in chosen or not chosen,
    )


def request(flags: ContainerFlags, image: str, command: Sequence[str], *, detach: bool) -> dict[str, Any]:
    """The API's body. `detach`: nobody here watches the container."""
    stdin, stdout, stderr = attached(flags, detach)
    exposed, bindings = parse.ports(flags.publish, flags.expose)
    binds, anonymous = parse.volumes(flags.volume)
    body: dict[str, Any] = {
        "Image": image,
        "Cmd": list(command) or None,
        "Env": parse.environment(flags.env_file, flags.env),
        "Labels": parse.labels(flags.label_file, flags.label),
        "User": flags.user,
        "WorkingDir": flags.workdir,
        "Hostname": flags.hostname,
        "Domainname": flags.domainname,
        "Tty": flags.tty,
        "OpenStdin": flags.interactive,
        "StdinOnce": flags.interactive and not detach,
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
        "ExposedPorts": exposed,
        "Volumes": anonymous,
        "StopSignal": flags.stop_signal or None,
        "StopTimeout": flags.stop_timeout,
        "Healthcheck": _health(flags),
        "HostConfig": _host(flags, bindings, binds),
        "NetworkingConfig": {"EndpointsConfig": _endpoints(flags)},
    }
    if flags.entrypoint is not None:
        # Empty takes the image's away: the API's word for that is [""].
        body["Entrypoint"] = [flags.entrypoint] if flags.entrypoint else [""]
    return body


def _host(flags: ContainerFlags, bindings: dict[str, Any], binds: list[str]) -> dict[str, Any]:
    console = size() if flags.tty else None
    host: dict[str, Any] = {
        "Binds": binds,
        "Mounts": [parse.mount(text) for text in flags.mount],
        "Tmpfs": parse.tmpfs(flags.tmpfs),
        "VolumesFrom": flags.volumes_from,
        "VolumeDriver": flags.volume_driver,
        "StorageOpt": parse.pairs(flags.storage_opt),
        "ReadonlyRootfs": flags.read_only,
        "ShmSize": parse.size(flags.shm_size),
        "NetworkMode": _network(flags.network[0])[0] if flags.network else "default",
        "PortBindings": bindings,
        "PublishAllPorts": flags.publish_all,
        "Links": flags.link,
        "Dns": flags.dns,
        "DnsSearch": flags.dns_search,
        "DnsOptions": flags.dns_option,
        "ExtraHosts": [parse.extra_host(text) for text in flags.add_host],
        "RestartPolicy": parse.restart(flags.restart),
        "AutoRemove": flags.rm,
        "Init": True if flags.init else None,
        "Runtime": flags.exec_driver or None,
        "LogConfig": {"Type": flags.log_driver, "Config": parse.pairs(flags.log_opt)},
        "Annotations": parse.pairs(flags.annotation),
        "ContainerIDFile": flags.cidfile,
        "ConsoleSize": list(console or (0, 0)),
    }
    return host | _limits(flags) | _isolation(flags)


def _limits(flags: ContainerFlags) -> dict[str, Any]:
    return {
        "Memory": parse.size(flags.memory),
        "MemorySwap": parse.size(flags.memory_swap),
        "MemoryReservation": parse.size(flags.memory_reservation),
        "MemorySwappiness": flags.memory_swappiness,
        "KernelMemory": parse.size(flags.kernel_memory),
        "OomKillDisable": flags.oom_kill_disable,
        "OomScoreAdj": flags.oom_score_adj,
        "NanoCpus": parse.cpus(flags.cpus),
        "CpuShares": flags.cpu_shares,
        "CpuPeriod": flags.cpu_period,
        "CpuQuota": flags.cpu_quota,
        "CpuRealtimePeriod": flags.cpu_rt_period,
        "CpuRealtimeRuntime": flags.cpu_rt_runtime,
        "CpusetCpus": flags.cpuset_cpus,
        "CpusetMems": flags.cpuset_mems,
        "PidsLimit": flags.pids_limit,
        "Ulimits": [parse.ulimit(text) for text in flags.ulimit],
        "BlkioWeight": flags.blkio_weight,
        "BlkioWeightDevice": [parse.throttle(text, "Weight") for text in flags.blkio_weight_device],
        "BlkioDeviceReadBps": [parse.throttle(text) for text in flags.device_read_bps],
        "BlkioDeviceWriteBps": [parse.throttle(text) for text in flags.device_write_bps],
        "BlkioDeviceReadIOps": [parse.throttle(text) for text in flags.device_read_iops],
        "BlkioDeviceWriteIOps": [parse.throttle(text) for text in flags.device_write_iops],
        "CgroupParent": flags.cgroup_parent,
    }


def _isolation(flags: ContainerFlags) -> dict[str, Any]:
    return {
        "Privileged": flags.privileged,
        "CapAdd": flags.cap_add,
        "CapDrop": flags.cap_drop,
        "SecurityOpt": [parse.security(text) for text in flags.security_opt],
        "GroupAdd": flags.group_add,
        "Devices": [parse.device(text) for text in flags.device],
        "DeviceCgroupRules": flags.device_cgroup_rule,
        "Sysctls": parse.pairs(flags.sysctl),
        "PidMode": flags.pid,
        "IpcMode": flags.ipc,
        "UTSMode": flags.uts,
        "UsernsMode": flags.userns,
        "CgroupnsMode": flags.cgroupns,
    }


def _network(text: str) -> tuple[str, dict[str, str]]:
    """`name=x,alias=y,ip=z`, or only a name: the name, and what was said about the endpoint."""
    if "=" not in text:
        return text, {}
    said = parse.pairs(text.split(","))
    if "name" not in said:
        raise InvalidRequest(f'invalid argument "{text}" for --network: a name is required')
    return said.pop("name"), said


def _endpoints(flags: ContainerFlags) -> dict[str, Any]:
    endpoints: dict[str, Any] = {}
    for position, text in enumerate(flags.network or ["default"]):
        name, said = _network(text)
        first = position == 0
        aliases = [*(flags.network_alias if first else []), *([said["alias"]] if "alias" in said else [])]
        ipam = {
            "IPv4Address": said.get("ip") or (flags.ip if first else ""),
            "IPv6Address": said.get("ip6") or (flags.ip6 if first else ""),
            "LinkLocalIPs": flags.link_local_ip if first else [],
        }
        chosen = {key: value for key, value in ipam.items() if value}
        mac = said.get("mac-address") or (flags.mac_address if first else "")
        endpoint = {
            key: value
            for key, value in (("Aliases", aliases), ("IPAMConfig", chosen), ("MacAddress", mac))
            if value
        }
        if endpoint or not first:
            endpoints[name] = endpoint
    return endpoints


def _health(flags: ContainerFlags) -> dict[str, Any] | None:
    if flags.no_healthcheck:
        if flags.health_cmd:
            raise InvalidRequest("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    said = {
        "Test": ["CMD-SHELL", flags.health_cmd] if flags.health_cmd else None,
        "Interval": parse.duration(flags.health_interval),
        "Timeout": parse.duration(flags.health_timeout),
        "StartPeriod": parse.duration(flags.health_start_period),
        "StartInterval": parse.duration(flags.health_start_interval),
        "Retries": flags.health_retries,
    }
    given = {key: value for key, value in said.items() if value}
    return given or None
