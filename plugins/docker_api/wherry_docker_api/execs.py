"""Another process in a running container. Source: API 1.51 /exec; moby `router/container/exec.go`."""

from __future__ import annotations

from typing import Any, Final

from wherry.errors import Conflict, DriverError, InvalidRequest, StartFailed, WherryError
from wherry.spec.container import Value
from wherry.spec.frontend import Attachment, ExecRequest, ExecView
from wherry_docker_api.answer import OK, Answer, json
from wherry_docker_api.attaching import hijack_head
from wherry_docker_api.call import Call, Route
from wherry_docker_api.containers import size
from wherry_docker_api.frames import stdout_frame

_NOT_RUNNING: Final = {
    "paused": "Container {} is paused, unpause the container before exec",
    "restarting": "Container {} is restarting, wait until the container is running",
}


class ExecBody(Value, frozen=True):
    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | str | None = None


class StartBody(Value, frozen=True):
    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


async def create(call: Call) -> Answer:
    body = await call.json(ExecBody)
    cmd = [body.cmd] if isinstance(body.cmd, str) else body.cmd
    if not cmd:
        raise InvalidRequest("No exec command specified")
    request = ExecRequest(
        cmd=tuple(cmd),
        env=tuple(body.env or ()),
        user=body.user,
        working_dir=body.working_dir,
        tty=body.tty,
        privileged=body.privileged,
        attach_stdin=body.attach_stdin,
        attach_stdout=body.attach_stdout,
        attach_stderr=body.attach_stderr,
        detach_keys=body.detach_keys,
        console_size=_console(body.console_size, call),
    )
    return json({"Id": await call.door.work(call.engine.exec_create, call.name, request)}, 201)


async def start(call: Call) -> Answer | None:
    body = await call.json(StartBody, optional=True)
    view = call.engine.exec_inspect(call.name)
    if view.exit_code is not None:
        raise Conflict(f"Error: Exec command {view.id} has already run")
    if view.running:
        raise Conflict(f"Error: Exec command {view.id} is already running")
    container = call.engine.inspect(view.container_id)
    if container.status != "running":
        raise Conflict(_NOT_RUNNING.get(container.status, "container {} is not running").format(container.id))
    console = _console(body.console_size, call)
    if body.detach:
        await call.door.work(call.engine.exec_start, view.id, None, console)
        return OK
    await _attached(call, view, multiplexed=not body.tty, console=console)
    return None


async def _attached(
    call: Call, view: ExecView, *, multiplexed: bool, console: tuple[int, int] | None
) -> None:
    request = view.request
    descriptor, early = await call.exchange.hand_over(hijack_head(call, multiplexed))
    attachment = Attachment(
        descriptor=descriptor,
        early=early,
        stdin=request.attach_stdin,
        stdout=request.attach_stdout,
        stderr=request.attach_stderr,
        detach_keys=request.detach_keys,
        multiplexed=multiplexed,
    )
    try:
        await call.door.work(call.engine.exec_start, view.id, attachment, console)
    except (StartFailed, DriverError):
        pass  # who held the streams by then has told it there; the exit code says the rest
    except WherryError as error:
        # The only way left to tell: on the stream, as dockerd does.
        text = f"{error}\r\n".encode("utf-8", "replace")
        await call.exchange.connection.send(stdout_frame(text) if multiplexed else text)


def _console(console_size: list[int] | None, call: Call) -> tuple[int, int] | None:
    if not console_size or call.version < (1, 42):
        return None
    if len(console_size) != 2 or not all(0 <= each <= 0xFFFF for each in console_size):
        raise InvalidRequest("invalid JSON: ConsoleSize: expected a height and a width")
    rows, columns = console_size
    return (rows, columns) if rows and columns else None


async def inspect(call: Call) -> Answer:
    return json(_render(call.engine.exec_inspect(call.name)))


def _render(view: ExecView) -> dict[str, Any]:
    request = view.request
    process: dict[str, Any] = {
        "tty": request.tty,
        "entrypoint": request.cmd[0] if request.cmd else "",
        "arguments": list(request.cmd[1:]),
        "privileged": request.privileged,
    }
    if request.user:
        process["user"] = request.user
    return {
        "ID": view.id,
        "Running": view.running,
        "ExitCode": view.exit_code,
        "ProcessConfig": process,
        "OpenStdin": request.attach_stdin,
        "OpenStderr": request.attach_stderr,
        "OpenStdout": request.attach_stdout,
        "CanRemove": view.can_remove,
        "ContainerID": view.container_id,
        "DetachKeys": request.detach_keys,
        "Pid": view.pid,
    }


async def resize(call: Call) -> Answer:
    rows, columns = size(call)
    await call.door.work(call.engine.exec_resize, call.name, rows, columns)
    return OK


ROUTES: Final[tuple[Route, ...]] = (
    ("POST", "/containers/{name}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("POST", "/exec/{id}/resize", resize),
    ("GET", "/exec/{id}/json", inspect),
)
