"""exec: further processes in a running container. Source: API 1.51 ContainerExec, ExecStart."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Mapping
from typing import Any, Final

from wherry.container.container import Container
from wherry.errors import Conflict, InvalidRequest, NotFound, WherryError
from wherry.house import House
from wherry.lifecycle import capability_sets, command
from wherry.lifecycle.usual import usual_of
from wherry.spec.command import Process
from wherry.spec.frontend import Attachment, ExecRequest, ExecView

KEPT: Final = 512
"""Ended execs that can still be inspected, per engine."""


def create(house: House, name: str, request: ExecRequest) -> str:
    """Note what is to be run; answers its id. Conflict if the container does not run or is paused."""
    container = house.containers.get(name)
    house.admit("exec.create", container.id, {"request": request})
    _runs(container)
    if not request.cmd or not request.cmd[0]:
        raise InvalidRequest("No exec command specified")
    exec_id = secrets.token_hex(32)
    house.execs[exec_id] = ExecView(id=exec_id, container_id=container.id, request=request)
    container.exec_ids.append(exec_id)
    container.publish()
    house.tell(container, f"exec_create: {' '.join(request.cmd)}", execID=exec_id)
    _forget_old(house)
    return exec_id


def start(
    house: House, exec_id: str, attachment: Attachment | None, console_size: tuple[int, int] | None = None
) -> None:
    """Run it. Conflict if it ran already; StartFailed and its kin. Takes over the attachment's descriptor."""
    try:
        view = inspect(house, exec_id)
        if view.running or view.exit_code is not None:
            raise Conflict(f"Error: Exec command {exec_id} has already run")
        container = house.containers.get(view.container_id)
        _runs(container)
        keeper = container.keeper
        if keeper is None:
            raise Conflict(f"container {container.id} is not running")
        wanted = process(house, container, view.request, console_size)
    except WherryError:
        if attachment is not None:
            os.close(attachment.descriptor)
        raise
    request = view.request
    house.execs[exec_id] = dataclasses.replace(view, running=True)
    if attachment is not None:
        attachment = dataclasses.replace(
            attachment,
            stdin=request.attach_stdin,
            stdout=request.attach_stdout,
            stderr=request.attach_stderr,
            multiplexed=not request.tty,
            detach_keys=request.detach_keys or attachment.detach_keys,
        )
    try:
        pid = keeper.exec(exec_id, wanted, attachment, stdin=request.attach_stdin)
    except WherryError as error:
        code = getattr(error, "exit_code", 126)
        house.execs[exec_id] = dataclasses.replace(house.execs[exec_id], running=False, exit_code=code)
        _leave(container, exec_id)
        house.tell(container, "exec_die", execID=exec_id, exitCode=str(code))
        raise
    known = house.execs[exec_id]
    if known.running:
        house.execs[exec_id] = dataclasses.replace(known, pid=pid)
    house.tell(container, f"exec_start: {' '.join(request.cmd)}", execID=exec_id)


def process(
    house: House, container: Container, request: ExecRequest, console_size: tuple[int, int] | None
) -> Process:
    """An exec's process: the container's, with its own words, user, environment and privileges."""
    config, host = container.record.config, container.host_config
    base = command.process(config, host, command.environment(config), usual_of(house))
    variables = command.merge_environment(
        [e for e in base.env if not (e.startswith("TERM=") and not request.tty)]
        + (["TERM=xterm"] if request.tty else []),
        request.env,
    )
    changed = dataclasses.replace(
        base,
        argv=request.cmd,
        env=variables,
        cwd=request.working_dir or base.cwd,
        user=request.user or base.user,
        tty=request.tty,
        console_size=console_size or request.console_size,
    )
    if request.privileged:
        # As Docker: every capability, and the container's filter all the same.
        filtered = dataclasses.replace(base.seccomp, capabilities=base.capabilities.bounding)
        everything = capability_sets.sets(capability_sets.kept(True, None, None))
        return dataclasses.replace(changed, capabilities=everything, seccomp=filtered)
    return changed


def inspect(house: House, exec_id: str) -> ExecView:
    """An exec by its id."""
    try:
        return house.execs[exec_id]
    except KeyError:
        raise NotFound("exec instance", exec_id) from None


def resize(house: House, exec_id: str, rows: int, columns: int) -> None:
    """Tell an exec's terminal its size."""
    view = inspect(house, exec_id)
    container = house.containers.get(view.container_id)
    if container.keeper is None or not view.running:
        raise Conflict(f"exec {exec_id} is not running")
    container.keeper.exec_resize(exec_id, rows, columns)


def ended(house: House, container: Container, event: Mapping[str, Any], quietly: bool = False) -> None:
    """An exec has ended, or its container has."""
    view = house.execs.get(str(event["exec_id"]))
    if view is None or (view.exit_code is not None and not view.running) or (quietly and not view.running):
        return
    house.execs[view.id] = dataclasses.replace(view, running=False, exit_code=int(event["code"]), pid=0)
    if not quietly:
        _leave(container, view.id)
    house.tell(container, "exec_die", execID=view.id, exitCode=str(event["code"]))


def _leave(container: Container, exec_id: str) -> None:
    if exec_id in container.exec_ids:
        container.exec_ids.remove(exec_id)
        container.publish()


def _runs(container: Container) -> None:
    if container.view.status == "paused":
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    if not container.running:
        raise Conflict(f"container {container.id} is not running")


def _forget_old(house: House) -> None:
    ended_ones = [key for key, view in house.execs.copy().items() if view.exit_code is not None]
    for key in ended_ones[: max(0, len(ended_ones) - KEPT)]:
        house.execs.pop(key, None)
