"""Containers: their life, by the verbs of the API. Source: API 1.51 /containers; moby `router/container`."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

import msgspec

from wherry.errors import InvalidRequest, Unsupported
from wherry.spec.container import Config, CreateRequest, EndpointRequest, HostConfig, MountRequest, Value
from wherry_docker_api.answer import NO_CONTENT, OK, Answer, encode, json
from wherry_docker_api.call import Call, Route
from wherry_docker_api.decode import into, normal
from wherry_docker_api.flow import download, first_done
from wherry_docker_api.query import check_numbers, check_words, settle_until
from wherry_docker_api.render import container as render

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_FILTERS: Final = frozenset(
    "ancestor before expose exited health id isolation is-task label name network publish since status volume".split()
)
_PRUNE_FILTERS: Final = frozenset({"label", "label!", "until"})
_STATUSES: Final = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH: Final = ("starting", "healthy", "unhealthy", "none")
_CONDITIONS: Final = ("not-running", "next-exit", "removed")
_UPDATABLE: Final = frozenset(
    "BlkioWeight BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps "
    "CpuShares CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems NanoCpus Memory "
    "MemoryReservation MemorySwap MemorySwappiness KernelMemory OomKillDisable PidsLimit RestartPolicy Devices "
    "DeviceCgroupRules Ulimits".split()
)


class NetworkingConfig(Value, frozen=True):
    endpoints_config: dict[str, EndpointRequest] | None = None


class CreateBody(Config, frozen=True):
    """A configuration with the other two at its side: that is how the API nests them."""

    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()


async def list_(call: Call) -> Answer:
    query = call.query
    filters = query.filters(_FILTERS)
    check_words(filters, "status", _STATUSES)
    check_words(filters, "health", _HEALTH)
    check_numbers(filters, "exited")
    for old in ("before", "since"):  # parameters of their own, before they became filters
        if value := query.text(old):
            filters.setdefault(old, []).append(value)
    limit = query.number("limit") or 0
    views = await call.door.read(call.engine.containers, query.flag("all"), filters, max(limit, 0))
    if not query.flag("size"):
        return json([render.summary(view) for view in views])
    sizes = [await call.door.read(call.engine.sizes, view.id) for view in views]
    return json([render.summary(view, size) for view, size in zip(views, sizes, strict=True)])


async def create(call: Call) -> Answer:
    body = await call.json(CreateBody)
    config = Config(**{name: getattr(body, name) for name in Config.__struct_fields__})
    config = msgspec.structs.replace(config, cmd=_words(config.cmd), entrypoint=_words(config.entrypoint))
    request = CreateRequest(
        name=_name(call.query.text("name")),
        platform=call.query.text("platform") if call.version >= (1, 41) else "",
        config=config,
        host_config=_of_version(body.host_config, call),
        networks=body.networking_config.endpoints_config or {},
        read_only_recursive=call.version >= (1, 44),
    )
    created = await call.door.work(call.engine.create, request)
    return json({"Id": created.id, "Warnings": created.warnings}, 201)


def _of_version(host_config: HostConfig, call: Call) -> HostConfig:
    """What older versions of the API meant by saying nothing, or did not know. Source: moby `postContainersCreate`."""
    changes: dict[str, Any] = {}
    if call.version < (1, 25):
        changes["auto_remove"] = False  # removing was the client's task
    if call.version < (1, 40) and not host_config.ipc_mode:
        changes["ipc_mode"] = "shareable"
    if call.version < (1, 42):
        changes["console_size"] = None
    else:
        changes["kernel_memory"] = 0  # obsolete, and since then not even read
    if call.version < (1, 43):
        changes["annotations"] = None
    if call.version < (1, 46) and host_config.mounts:
        changes["mounts"] = [_mount_of_version(each, call) for each in host_config.mounts]
    if host_config.pids_limit is not None and host_config.pids_limit <= 0:
        changes["pids_limit"] = None
    if host_config.console_size is not None and len(host_config.console_size) != 2:
        raise InvalidRequest("invalid JSON: HostConfig.ConsoleSize: expected a height and a width")
    return msgspec.structs.replace(host_config, **changes) if changes else host_config


def _mount_of_version(mount: MountRequest, call: Call) -> MountRequest:
    """Without the options that came later."""
    bind, volume, tmpfs = mount.bind_options, mount.volume_options, mount.tmpfs_options
    if bind is not None:
        if call.version < (1, 40):
            bind = msgspec.structs.replace(bind, non_recursive=False)
        if call.version < (1, 42):
            bind = msgspec.structs.replace(bind, create_mountpoint=False)
        if call.version < (1, 44):
            bind = msgspec.structs.replace(
                bind, read_only_non_recursive=False, read_only_force_recursive=False
            )
    if volume is not None and call.version < (1, 45):
        volume = msgspec.structs.replace(volume, subpath="")
    if tmpfs is not None:
        tmpfs = msgspec.structs.replace(tmpfs, options=None)
    return msgspec.structs.replace(mount, bind_options=bind, volume_options=volume, tmpfs_options=tmpfs)


def _words(value: list[str] | str | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value


def _name(text: str) -> str:
    name = text.removeprefix("/")
    if text and not _NAME.fullmatch(name):
        raise InvalidRequest(f"Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name


async def inspect(call: Call) -> Answer:
    # A snapshot: it never blocks, so it needs no thread.
    shown = render.inspect(call.engine.inspect(call.name))
    if call.query.flag("size"):
        shown["SizeRw"], shown["SizeRootFs"] = await call.door.read(call.engine.sizes, call.name)
    return json(shown)


async def start(call: Call) -> Answer:
    body = await call.exchange.whole_body()
    if len(body.strip()) > 7:
        raise InvalidRequest(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    if call.query.text("checkpoint"):
        raise Unsupported("checkpoints are not supported: start the container without --checkpoint")
    await call.door.work(call.engine.start, call.name)
    return NO_CONTENT


async def stop(call: Call) -> Answer:
    seconds, signal = _patience(call)
    await call.door.end(call.engine.stop, call.name, seconds, signal)
    return NO_CONTENT


async def restart(call: Call) -> Answer:
    seconds, signal = _patience(call)
    await call.door.work(call.engine.restart, call.name, seconds, signal)
    return NO_CONTENT


def _patience(call: Call) -> tuple[float | None, str | None]:
    seconds = call.query.number("t")
    signal = call.query.text("signal") if call.version >= (1, 42) else ""
    return None if seconds is None else float(max(seconds, -1)), signal or None


async def kill(call: Call) -> Answer:
    await call.door.end(call.engine.kill, call.name, call.query.text("signal", "SIGKILL"))
    return NO_CONTENT


async def pause(call: Call) -> Answer:
    await call.door.work(call.engine.pause, call.name)
    return NO_CONTENT


async def unpause(call: Call) -> Answer:
    await call.door.end(call.engine.unpause, call.name)
    return NO_CONTENT


async def rename(call: Call) -> Answer:
    name = _name(call.query.text("name"))
    if not name:
        raise InvalidRequest("Neither old nor new names may be empty")
    await call.door.work(call.engine.rename, call.name, name)
    return NO_CONTENT


async def remove(call: Call) -> Answer:
    query = call.query
    await call.door.end(
        call.engine.remove, call.name, query.flag("force"), query.flag("v"), query.flag("link")
    )
    return NO_CONTENT


async def wait(call: Call) -> Answer | None:
    condition: Any = "not-running"
    if call.version >= (1, 30):
        condition = call.query.text("condition", "not-running")
        if condition not in _CONDITIONS:
            raise InvalidRequest(f'invalid condition: "{condition}"')
    await call.exchange.whole_body()
    future = await call.door.read(call.engine.wait, call.name, condition)
    # `docker run` starts the container as soon as it has this head.
    await call.exchange.begin(b"application/json")
    status = await first_done(call, future)
    shown: dict[str, Any] = {"StatusCode": status.code}
    if status.error:
        shown["Error"] = {"Message": status.error}
    await call.exchange.write(encode(shown) + b"\n")
    await call.exchange.finish()
    return None


async def resize(call: Call) -> Answer:
    rows, columns = size(call)
    await call.door.work(call.engine.resize, call.name, rows, columns)
    return OK


def size(call: Call) -> tuple[int, int]:
    """(rows, columns) of a terminal. Raises InvalidRequest."""
    found = call.query.needed("h"), call.query.needed("w")
    if not all(0 <= each <= 0xFFFF for each in found):
        raise InvalidRequest(f"a terminal of {found[0]} rows and {found[1]} columns cannot be")
    return found


async def top(call: Call) -> Answer:
    titles, processes = await call.door.work(call.engine.top, call.name, call.query.text("ps_args", "-ef"))
    return json({"Titles": titles, "Processes": processes})


_KINDS: Final = {"modified": 0, "added": 1, "deleted": 2}


async def changes(call: Call) -> Answer:
    found = await call.door.work(call.engine.changes, call.name)
    return json([{"Path": each.path, "Kind": _KINDS[each.kind]} for each in found] or None)


async def update(call: Call) -> Answer:
    given = normal(HostConfig, await call.document())
    into(HostConfig, given)
    obsolete = {"KernelMemory"} if call.version >= (1, 42) else set()
    wanted = {name: value for name, value in given.items() if name in _UPDATABLE - obsolete}
    warnings = await call.door.work(call.engine.update, call.name, wanted)
    return json({"Warnings": warnings or None})


async def prune(call: Call) -> Answer:
    filters = settle_until(call.query.filters(_PRUNE_FILTERS))
    removed, freed = await call.door.work(call.engine.prune_containers, filters)
    return json({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})


async def export(call: Call) -> None:
    await download(call, partial(call.engine.export, call.name), b"application/octet-stream")


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/containers/json", list_),
    ("GET", "/containers/ps", list_),
    ("POST", "/containers/create", create),
    ("POST", "/containers/prune", prune),
    ("GET", "/containers/{name}/json", inspect),
    ("POST", "/containers/{name}/start", start),
    ("POST", "/containers/{name}/stop", stop),
    ("POST", "/containers/{name}/restart", restart),
    ("POST", "/containers/{name}/kill", kill),
    ("POST", "/containers/{name}/wait", wait),
    ("POST", "/containers/{name}/pause", pause),
    ("POST", "/containers/{name}/unpause", unpause),
    ("POST", "/containers/{name}/rename", rename),
    ("POST", "/containers/{name}/resize", resize),
    ("POST", "/containers/{name}/update", update),
    ("GET", "/containers/{name}/top", top),
    ("GET", "/containers/{name}/changes", changes),
    ("GET", "/containers/{name}/export", export),
    ("DELETE", "/containers/{name}", remove),
)
