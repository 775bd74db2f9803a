"""exec: further processes in a running container. Source: API 1.51 ContainerExec, ExecStart."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.container.container import Container
from wherry.container.exec_table import MADE
from wherry.errors import CommandNotFound, Conflict, InvalidRequest, NotFound, WherryError
from wherry.house import House
from wherry.lifecycle import capability_sets, command, links
from wherry.lifecycle.create import check_texts
from wherry.lifecycle.usual import usual_of
from wherry.spec.command import Process
from wherry.spec.frontend import Attachment, ExecRequest, ExecView


def create(house: House, name: str, request: ExecRequest) -> str:
    """Note what is to be run; answers its id. Conflict if the container does not run or is paused."""
    container = house.containers.get(name)
    house.admit("exec.create", container.id, {"request": request})
    _runs(container)
    if not request.cmd or not request.cmd[0]:
        raise InvalidRequest("No exec command specified")
    check_texts(request.env, request.user, request.working_dir, *request.cmd)
    if request.working_dir and not request.working_dir.startswith("/"):
        raise InvalidRequest(f"Cwd must be an absolute path: {request.working_dir}")
    exec_id = secrets.token_hex(32)
    house.execs.add(ExecView(id=exec_id, container_id=container.id, request=request))
    container.exec_ids.append(exec_id)
    if len(container.exec_ids) > MADE:
        container.exec_ids[:] = house.execs.known(container.exec_ids)
    container.publish()
    house.tell(container, f"exec_create: {' '.join(request.cmd)}", execID=exec_id)
    return exec_id


def start(
    house: House, exec_id: str, attachment: Attachment | None, console_size: tuple[int, int] | None = None
) -> None:
    """Run it. Conflict if it ran already; StartFailed and its kin. Takes over the attachment's descriptor."""
    try:
        container = house.containers.get(inspect(house, exec_id).container_id)
        _runs(container)
        keeper = container.keeper
        if keeper is None:
            raise Conflict(f"container {container.id} is not running")
        view = house.execs.begin(exec_id)
        if console_size is not None:
            view = house.execs.resize(exec_id, *console_size)
    except WherryError:
        if attachment is not None:
            os.close(attachment.descriptor)
        raise
    request = view.request
    house.tell(container, f"exec_start: {' '.join(request.cmd)}", execID=exec_id)
    try:
        if attachment is not None:
            attachment = dataclasses.replace(
                attachment,
                stdin=request.attach_stdin,
                stdout=request.attach_stdout,
                stderr=request.attach_stderr,
                multiplexed=not request.tty,
                detach_keys=request.detach_keys or attachment.detach_keys,
            )
        wanted = _process(house, container, request, attachment)
        # What `inspect` shows is left with the keeper for the next daemon; the environment may hold secrets.
        note = msgspec.to_builtins(dataclasses.replace(request, env=()))
        pid = keeper.exec(exec_id, wanted, attachment, stdin=request.attach_stdin, note=note)
    except WherryError as error:
        # Docker has 127 for what is not there, and 126 for all else that keeps it from running.
        _end(house, container, exec_id, 127 if isinstance(error, CommandNotFound) else 126)
        raise
    asked = house.execs.started(exec_id, pid)
    if asked.running and asked.request.console_size != request.console_size:
        resize(house, exec_id, *(asked.request.console_size or (0, 0)))  # while it was being made


def _process(
    house: House, container: Container, request: ExecRequest, attachment: Attachment | None
) -> Process:
    """The process of a request; on an error the attachment's descriptor is closed, as the keeper's client does."""
    try:
        return process(house, container, request)
    except BaseException:  # whatever it is, nobody else would hang the client up
        if attachment is not None:
            os.close(attachment.descriptor)
        raise


def process(house: House, container: Container, request: ExecRequest) -> Process:
    """An exec's process: the container's, with its own words, user, environment and privileges."""
    config, host = container.record.config, container.host_config
    linked = links.environment(house, container, needed=False)
    base = command.process(
        config, host, command.environment(config, linked, tty=request.tty), usual_of(house)
    )
    changed = dataclasses.replace(
        base,
        argv=request.cmd,
        env=command.merge_environment(base.env, request.env),
        cwd=request.working_dir or base.cwd,
        user=request.user or base.user,
        tty=request.tty,
        console_size=request.console_size,
    )
    if request.privileged:
        # As Docker: every capability, and the container's filter all the same.
        filtered = dataclasses.replace(base.seccomp, capabilities=base.capabilities.bounding)
        everything = capability_sets.sets(capability_sets.kept(True, None, None))
        return dataclasses.replace(changed, capabilities=everything, seccomp=filtered)
    return changed


def inspect(house: House, exec_id: str) -> ExecView:
    """An exec by its id."""
    return house.execs.get(exec_id)


def resize(house: House, exec_id: str, rows: int, columns: int) -> None:
    """Tell an exec's terminal its size; before there is one, it is remembered and the terminal begins with it."""
    view = house.execs.resize(exec_id, rows, columns)
    if not view.pid:
        return
    keeper = house.containers.get(view.container_id).keeper
    if keeper is None:
        raise Conflict(f"exec {exec_id} is not running")
    try:
        keeper.exec_resize(exec_id, rows, columns)
    except NotFound:
        raise Conflict(f"exec {exec_id} is not running") from None


def ended(house: House, container: Container, event: Mapping[str, Any]) -> None:
    """A keeper says that an exec has ended; perhaps one of an earlier daemon."""
    exec_id = str(event["exec_id"])
    remember(house, container, exec_id, event)
    _end(house, container, exec_id, int(event["code"]))


def remember(house: House, container: Container, exec_id: str, known: Mapping[str, Any]) -> None:
    """Take up an exec that an earlier daemon started, by what the keeper knows of it."""
    if "note" not in known:
        return
    view = ExecView(
        id=exec_id,
        container_id=container.id,
        request=msgspec.convert(known["note"], ExecRequest),
        running=True,
        pid=int(known.get("pid", 0)),
    )
    if house.execs.add(view) is view:
        container.exec_ids.append(exec_id)
        container.publish()


def restore(house: House, container: Container, known: Mapping[str, Mapping[str, Any]]) -> None:
    """All execs that a keeper knows of: those that run, and the last that ended."""
    for exec_id, what in known.items():
        remember(house, container, exec_id, what)
        if "code" in what:
            _end(house, container, exec_id, int(what["code"]), quietly=True)


def end_all(house: House, container: Container) -> None:
    """The container has ended, and its execs with it."""
    for exec_id in tuple(container.exec_ids):
        _end(house, container, exec_id, 137)
    container.exec_ids.clear()


def _end(house: House, container: Container, exec_id: str, code: int, *, quietly: bool = False) -> None:
    if house.execs.end(exec_id, code) is None:
        return
    if exec_id in container.exec_ids:
        container.exec_ids.remove(exec_id)
        container.publish()
    if not quietly:
        house.tell(container, "exec_die", execID=exec_id, exitCode=str(code))


def _runs(container: Container) -> None:
    """Conflict, in Docker's words, where nothing can be executed."""
    match container.view.status:
        case "paused":
            raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
        case "restarting":
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        case "running":
            return
    raise Conflict(f"container {container.id} is not running")
