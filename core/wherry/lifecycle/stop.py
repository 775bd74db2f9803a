"""stop and kill: asking process 1 to end, and insisting.

Neither holds the container's operation while it waits: the end of the process is an exit, and that is handled as any.
"""

from __future__ import annotations

import logging
import os
import signal as signals
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final

from wherry.container.container import Container
from wherry.container.state import Move
from wherry.errors import Conflict, NotModified, Unavailable, WherryError
from wherry.house import House
from wherry.lifecycle.create import signal_number
from wherry.lifecycle.pause import thaw
from wherry.lifecycle.waiting import settle, waiter
from wherry.linux.processes import start_time

log = logging.getLogger(__name__)

INSIST: Final = 10.0
"""Seconds after SIGKILL until the keeper is killed too; and after that until the user is told."""


def kill(house: House, name: str, signal: str = "SIGKILL") -> None:
    """Send a signal to process 1; SIGKILL, to everybody. Conflict if the container does not run. API 1.51 ContainerKill.

    A paused container ends by SIGKILL as it is. It runs on to take any other signal; if the image names a stop signal,
    only to take that one, as with today's docker, and others wait.
    """
    container = house.containers.get(name)
    number = signal_number(signal or "SIGKILL")
    house.admit("container.kill", container.id, {"signal": number})
    if not container.running and container.view.status != "restarting" and not _starts(container):
        raise Conflict(f"cannot kill container: {name}: container {container.id} is not running")
    ends = number in (signals.SIGKILL, stop_signal(container))
    if ends:
        container.stop_requested = True
        if cancel_start(container):
            return
    if number == signals.SIGKILL:
        force(house, container)
    else:
        _send(house, container, number)
        if ends or not container.record.config.stop_signal:
            _run_on(house, container)


def stop(house: House, name: str, timeout: float | None = None, signal: str | None = None) -> None:
    """The image's stop signal, `timeout` seconds (-1: as long as it takes), then SIGKILL. NotModified if it does not run.

    A start that is under way is cancelled. Source: reference Container.Stop; API 1.51 ContainerStop.
    """
    container = house.containers.get(name)
    house.admit("container.stop", container.id)
    if not container.running and container.view.status != "restarting" and not _starts(container):
        raise NotModified(f"container {name} is not running")
    bring_to_end(house, container, timeout, signal)
    container.change(stopped_by_user=True)
    if container.view.status not in ("removing", "dead") and container.directory.exists():
        container.save(synced=True)
    house.tell(container, "stop")


def bring_to_end(house: House, container: Container, timeout: float | None, signal: str | None) -> None:
    """The ladder: signal, wait, SIGKILL, direct kill. Returns when the container does not run any more."""
    number = signal_number(signal) if signal else stop_signal(container)
    container.stop_requested = True
    if cancel_start(container) or _end_backoff(container):
        return
    done = waiter(container, "not-running")
    patience = timeout if timeout is not None else container.record.config.stop_timeout
    patience = 10.0 if patience is None else float(patience)
    _send(house, container, number)
    _run_on(house, container)
    try:
        done.result(None if patience < 0 else patience)
    except FutureTimeout:
        log.info(
            "container %s did not end within %s s of signal %d: using force", container.name, patience, number
        )
        force(house, container)


def force(house: House, container: Container) -> None:
    """SIGKILL to everything in the container, by cgroup, until it is empty; the keeper goes too if it does not answer."""
    if cancel_start(container) or _end_backoff(container):
        return
    done = waiter(container, "not-running")
    run = container.run
    if run is not None:
        _tell(house, container, signals.SIGKILL)
        try:
            house.exec_driver(container).call("kill", state=run.state, signal=signals.SIGKILL, everyone=True)
        except WherryError as error:
            log.warning("killing container %s: %s", container.name, error)
    try:
        done.result(INSIST)
        return
    except FutureTimeout:
        log.warning("container %s did not end %s s after SIGKILL: killing its keeper", container.name, INSIST)
    keeper = container.keeper
    if keeper is not None:
        keeper.abandon()
    if run is not None and run.pid > 1 and _is(run.pid, run.start_time):
        os.kill(run.pid, signals.SIGKILL)
    try:
        done.result(INSIST)
    except FutureTimeout:
        raise Unavailable(
            f"container {container.name} does not end: process {run.pid if run else 0} is probably waiting in the kernel "
            "(a file system that does not answer); it will be recorded as soon as it ends"
        ) from None


def cancel_start(container: Container) -> bool:
    """Cancel a start that is under way, and wait until it has given up. False: there is none, or it was quicker."""
    if not _starts(container):
        return False
    container.operation.cancel()
    with container.operation("stop"):
        return container.view.status not in ("running", "paused", "restarting")


def _starts(container: Container) -> bool:
    return container.operation.verb in ("start", "restart") and not container.running


def _run_on(house: House, container: Container) -> None:
    """A frozen process takes a signal only when it runs on; so it does, as it does for today's docker."""
    try:
        if container.view.status == "paused":
            thaw(house, container)
    except WherryError as error:
        log.info("unpausing %s to let it end: %s", container.name, error)


def stop_signal(container: Container) -> int:
    """What asks this container to end."""
    return signal_number(container.record.config.stop_signal or "SIGTERM")


def _end_backoff(container: Container) -> bool:
    """End the wait of a container that is about to be restarted; False if it is not."""
    if container.view.status != "restarting":
        return False
    with container.operation("stop"):
        status = str(container.view.status)
        if status != "restarting":
            return status == "exited"
        container.move(Move.DIED)
        container.save(synced=False)
        settle(container, container.state.exit_code)
    return True


def _send(house: House, container: Container, number: int) -> None:
    run = container.run
    if run is None:
        return
    _tell(house, container, number)
    try:
        house.exec_driver(container).call("kill", state=run.state, signal=number, everyone=False)
    except WherryError as error:
        log.info("signal %d to %s: %s", number, container.name, error)


def _tell(house: House, container: Container, number: int) -> None:
    """Before it is sent: the end that it brings about comes after it, in the events too."""
    house.tell(container, "kill", signal=str(int(number)))


def _is(pid: int, started: int) -> bool:
    try:
        return start_time(pid) == started
    except OSError:
        return False
