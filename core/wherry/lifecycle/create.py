"""create: from a request to a record on disk with a layer of its own."""

from __future__ import annotations

import platform
import posixpath
import re
import secrets
import shutil
import signal
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import msgspec

from wherry.cgroups.path import cgroup_path
from wherry.clock import now
from wherry.container import record as records
from wherry.container.container import Container
from wherry.container.record import Record
from wherry.errors import InvalidRequest, NotFound
from wherry.house import House
from wherry.lifecycle import (
    capability_sets,
    command,
    defaults,
    device_nodes,
    links,
    namespaces,
    naming,
    networking,
    peers,
    reach,
    security,
    sysctls,
    ulimits,
)
from wherry.lifecycle.copy_up import copy_up
from wherry.lifecycle.limits import honoured
from wherry.lifecycle.rootfs import storage_data
from wherry.lifecycle.usual import usual_of
from wherry.logs.options import check as check_log_options
from wherry.logs.options import merge_options
from wherry.spec.container import (
    Config,
    Created,
    CreateRequest,
    HealthConfig,
    HostConfig,
    LogConfig,
)
from wherry.spec.frontend import ImageView
from wherry.state import atomic
from wherry.undo import Undo
from wherry.volumes.plan import Place, plan
from wherry.volumes.requests import warnings as file_warnings

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ENVIRONMENT_NAME: Final = re.compile(r"[^=\0]+")


def create(house: House, request: CreateRequest, *, promised: Future[None] | None = None) -> Created:
    """Make a container that can be started. Durable when it returns.

    With `promised` the syncing is done beside the caller, who must have that future's result before he reports success.
    Raises InvalidRequest, NotFound (image), NameInUse. Source: reference Daemon.Create; API 1.51 ContainerCreate.
    """
    house.admit("container.create", request.name, {"request": request})
    image = house.images.get(request.config.image) if request.config.image else None
    _fits(request.platform, image)
    container_id = secrets.token_hex(32)
    config = merged(request.config, image.config if image else None)
    host, warnings = with_defaults(house, peers.by_id(house, request.host_config))
    config = _named(config, host, container_id)
    warnings += check(house, config, host)
    networks = networking.named(house, host, request.networks)
    linked = links.planned(house, host)
    with Undo() as undo:
        name = house.containers.reserve(request.name, container_id)
        undo.add(house.containers.release, name, container_id)
        points = plan(config, host, _place(house, request), undo)
        warnings += file_warnings(points)
        layer_parent = house.images.top_layer(image.id) if image else None
        undo.add(house.storage.call, "remove", layer=container_id)
        house.storage.call("create", layer=container_id, parent=layer_parent)
        whole = command.argv(config)
        record = Record(
            id=container_id,
            name=name,
            created=now(),
            path=whole[0],
            args=list(whole[1:]),
            config=config,
            image=image.id if image else "",
            image_name=request.config.image,
            driver=house.storage.name,
            exec_driver=host.runtime or house.settings.exec_driver,
            log_driver=host.log_config.type,
            networks=networks,
            links=linked,
            mounts=points,
        )
        directory = house.data_root / "containers" / container_id
        undo.add(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir(mode=0o710)
        copy_up(house, container_id, points)
        container = Container(directory, record, host, storage_data(house, container_id))
        if promised is None:
            _promise(directory, record, host)
        else:
            records.save(directory, record, host, synced=False)
            house.background.submit(_promise_later, directory, promised)
        undo.add(house.networks.promises.drop, container_id)
        house.networks.promises.keep(container_id, networks)
        house.containers.add(container)
        house.tell(container, "create")
        undo.keep()
    return Created(id=container_id, warnings=warnings)


def _promise(directory: Path, record: Record, host: HostConfig) -> None:
    records.save(directory, record, host, synced=True)
    atomic.sync_directory(directory.parent)


def _promise_later(directory: Path, promised: Future[None]) -> None:
    try:
        atomic.sync_file(directory / records.HOST_CONFIG)
        atomic.sync_file(directory / records.CONFIG)
        atomic.sync_directory(directory)
        atomic.sync_directory(directory.parent)
    except FileNotFoundError:
        promised.set_result(None)  # removed meanwhile: nothing left to promise
    except OSError as error:
        promised.set_exception(error)
    else:
        promised.set_result(None)


def _fits(wanted: str, image: ImageView | None) -> None:
    if not wanted or image is None:
        return
    machine = ARCHITECTURES.get(platform.machine(), platform.machine())
    system, _, architecture = wanted.partition("/")
    architecture = architecture.partition("/")[0]
    if system not in ("linux", machine) or (architecture and architecture != (image.architecture or machine)):
        raise NotFound(
            "image",
            wanted,
            f"image with reference {image.id} was found but does not provide the specified platform ({wanted})",
        )


def merged(config: Config, image: Config | None) -> Config:
    """The request over the image: Docker's rules, field by field. Source: reference `runconfig.Merge`."""
    if image is None:
        return config
    changes: dict[str, object] = {}
    if not config.entrypoint and not config.cmd:
        changes["cmd"] = image.cmd
    if config.entrypoint is None:
        changes["entrypoint"] = image.entrypoint
    names = {entry.partition("=")[0] for entry in config.env or ()}
    inherited = [entry for entry in image.env or () if entry.partition("=")[0] not in names]
    changes["env"] = [*inherited, *(config.env or ())] if inherited or config.env is not None else None
    changes["exposed_ports"] = {**(image.exposed_ports or {}), **(config.exposed_ports or {})} or None
    changes["volumes"] = {**(image.volumes or {}), **(config.volumes or {})} or None
    changes["labels"] = {**(image.labels or {}), **(config.labels or {})}
    for field in ("user", "working_dir", "stop_signal", "shell", "on_build"):
        if not getattr(config, field):
            changes[field] = getattr(image, field)
    changes["healthcheck"] = _health(config.healthcheck, image.healthcheck)
    return msgspec.structs.replace(config, **changes)


def _health(own: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    if own is None or image is None:
        return own or image
    return msgspec.structs.replace(
        own,
        test=own.test or image.test,
        **{
            field: getattr(own, field) or getattr(image, field)
            for field in ("interval", "timeout", "retries", "start_period", "start_interval")
        },
    )


def with_defaults(house: House, host: HostConfig) -> tuple[HostConfig, list[str]]:
    """The host configuration as `inspect` shows it: Docker's defaults filled in; and the warnings for the user."""
    settings = house.settings
    log_type = host.log_config.type or settings.log_driver
    log_options = merge_options(settings.log_options(log_type), host.log_config.config or {})
    if host.memory and not host.memory_swap:
        host = msgspec.structs.replace(host, memory_swap=host.memory * 2)
    host, warnings = honoured(host, house.support)
    oom_kill_disable = host.oom_kill_disable
    if oom_kill_disable is None and house.support.oom_kill_disable:
        oom_kill_disable = False
    return (
        msgspec.structs.replace(
            host,
            network_mode="bridge" if host.network_mode in ("", "default") else host.network_mode,
            ipc_mode=host.ipc_mode or settings.default_ipc_mode,
            cgroupns_mode=host.cgroupns_mode
            or ("host" if host.privileged else settings.default_cgroupns_mode),
            shm_size=host.shm_size or settings.default_shm_size,
            oom_kill_disable=oom_kill_disable,
            log_config=LogConfig(type=log_type, config=log_options),
            runtime=host.runtime or settings.exec_driver,
            restart_policy=msgspec.structs.replace(
                host.restart_policy, name=host.restart_policy.name or "no"
            ),
            init=settings.init if host.init is None and settings.init else host.init,
            masked_paths=_paths(host.masked_paths, defaults.MASKED_PATHS, host),
            readonly_paths=_paths(host.readonly_paths, defaults.READONLY_PATHS, host),
            console_size=host.console_size or [0, 0],
        ),
        warnings,
    )


def _paths(own: list[str] | None, usual: tuple[str, ...], host: HostConfig) -> list[str] | None:
    if host.privileged:
        return None
    if own is not None:
        return own
    return list(usual) if security.of(host).system_paths else []


def _named(config: Config, host: HostConfig, container_id: str) -> Config:
    if host.network_mode == "host" or host.uts_mode == "host":
        if config.hostname and host.uts_mode == "host":
            raise InvalidRequest("conflicting options: hostname and the UTS mode")
        hostname = config.hostname or platform.node()
    elif host.network_mode.startswith("container:"):
        if config.hostname:
            raise InvalidRequest("conflicting options: hostname and the network mode")
        return config
    else:
        hostname = config.hostname or container_id[:12]
    working = posixpath.normpath(config.working_dir) if config.working_dir else ""
    return msgspec.structs.replace(config, hostname=hostname, working_dir=working)


def check(house: House, config: Config, host: HostConfig) -> list[str]:
    """Everything about a configuration that can be refused before anything is made. Answers warnings for the user."""
    command.argv(config)
    warnings = _check_process(house, config, host)
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidRequest(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if not re.fullmatch(r"[a-zA-Z0-9_.-]{0,64}", config.hostname):
        raise InvalidRequest(f"invalid hostname: {config.hostname}")
    naming.check(config, host)
    command.resources(host)
    cgroup_path(host.cgroup_parent, "", usual=house.cgroup_parent, root=house.cgroup_root)
    policy = host.restart_policy
    if policy.name not in ("no", "always", "unless-stopped", "on-failure"):
        raise InvalidRequest(f"invalid restart policy: unknown policy '{policy.name}'")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidRequest("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidRequest("invalid restart policy: maximum retry count cannot be negative")
    if host.auto_remove and policy.name != "no":
        raise InvalidRequest("can't create 'AutoRemove' container with restart policy")
    if config.stop_signal:
        signal_number(config.stop_signal)
    namespaces.check(house, host)
    house.driver("exec", host.runtime or house.settings.exec_driver)
    check_log_options(house.driver("log", host.log_config.type), host.log_config.config or {})
    return warnings


def _check_process(house: House, config: Config, host: HostConfig) -> list[str]:
    """What process 1 will be, and may do."""
    names = capability_sets.kept(host.privileged, host.cap_add, host.cap_drop)
    guards = security.parse(host.security_opt, privileged=host.privileged, usual=usual_of(house).security)
    security.check(guards, names)
    device_nodes.check(host)
    sysctls.check_container(house, host)
    check_texts(
        config.env or (), config.user, config.working_dir, *command.argv(config), *(host.group_add or ())
    )
    if len(host.console_size or ()) not in (0, 2) or not all(
        0 <= n <= 0xFFFF for n in host.console_size or ()
    ):
        raise InvalidRequest("invalid ConsoleSize: expected a height and a width")
    if host.oom_score_adj < -1000 or host.oom_score_adj > 1000:
        raise InvalidRequest(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    warnings = ulimits.check(host.ulimits)
    if host.oom_score_adj < reach.oom_score_adj():
        warnings.append(
            f"oom_score_adj {host.oom_score_adj} is lower than this engine can give; "
            f"the container has {reach.oom_score_adj()}"
        )
    return warnings


def check_texts(env: Iterable[str], *texts: str) -> None:
    """InvalidRequest: a variable without a name, or a NUL, which ends a string for the kernel."""
    for entry in env:
        if not _ENVIRONMENT_NAME.match(entry) or "\0" in entry:
            raise InvalidRequest(f"invalid environment variable: {entry!r}")
    for text in texts:
        if "\0" in text:
            raise InvalidRequest(f"{text!r} holds a NUL, which no argument, name or path may")


def signal_number(text: str) -> int:
    """The number of a signal given as `9`, `KILL` or `SIGKILL`; InvalidRequest."""
    if text.isdigit():
        if 0 < int(text) < signal.NSIG:
            return int(text)
    else:
        name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
        match = re.fullmatch(r"SIGRT(MIN|MAX)([+-]\d+)?", name)
        if match:
            base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
            number = base + int(match[2] or 0)
            if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
                return number
        elif name in signal.Signals.__members__:
            return int(signal.Signals[name])
    raise InvalidRequest(f"invalid signal: {text}")


def _place(house: House, request: CreateRequest) -> Place:
    return Place(
        volumes=house.volumes,
        container=lambda name: house.containers.get(name).view,
        roots=(house.data_root, house.exec_root),
        read_only_recursive=request.read_only_recursive,
    )
