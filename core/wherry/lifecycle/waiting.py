"""wait: futures that are done when a container stops, next exits, or is gone."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal

from wherry.container.container import Container
from wherry.house import House
from wherry.spec.frontend import ExitStatus

Condition = Literal["not-running", "next-exit", "removed"]


def wait(house: House, name: str, condition: Condition = "not-running") -> Future[ExitStatus]:
    """A future of the exit status. API 1.51 ContainerWait."""
    return waiter(house.containers.get(name), condition)


def waiter(container: Container, condition: Condition) -> Future[ExitStatus]:
    future: Future[ExitStatus] = Future()
    with container.waiters_lock:
        view = container.view
        if condition == "not-running" and view.status not in ("running", "paused", "restarting"):
            future.set_result(ExitStatus(code=view.exit_code, error=view.error))
        else:
            container.waiters.append((condition, future))
    return future


def settle(
    container: Container, code: int, error: str = "", *, removed: bool = False, final: bool = True
) -> None:
    """Answer those who wait: for any exit; if `final`, also for "not running"; when `removed`, everybody."""
    with container.waiters_lock:
        kept: list[tuple[str, Future[ExitStatus]]] = []
        done: list[tuple[str, Future[ExitStatus]]] = []
        for condition, future in container.waiters:
            ready = removed or condition == "next-exit" or (condition == "not-running" and final)
            (done if ready else kept).append((condition, future))
        container.waiters = kept
    for _, future in done:
        if future.set_running_or_notify_cancel():
            future.set_result(ExitStatus(code=code, error=error))
