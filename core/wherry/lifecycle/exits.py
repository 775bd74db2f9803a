"""What happens when a container's process 1 has ended: what keepers tell, and what the engine makes of it.

keeper ── exit ──▶ noted            ── drained ──▶ `finish` in a worker: released, recorded, told, restarted or removed
       ── gone ──▶ (with or without an exit before it) `finish` as well: a keeper's death is its container's
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from wherry.clock import now, parse, stamp
from wherry.container.container import Container, Run
from wherry.container.state import Move
from wherry.errors import NotFound, WherryError
from wherry.house import House
from wherry.lifecycle import execs, links, networking, peers, remove
from wherry.lifecycle.memory import ran_out
from wherry.lifecycle.start import attempt
from wherry.lifecycle.waiting import settle

log = logging.getLogger(__name__)

DRAIN: Final = 5.0
"""Seconds after an exit at which the engine goes on although the keeper has not said that all output is logged."""
BACKOFF_FIRST: Final = 0.1
BACKOFF_LAST: Final = 60.0
PEERS_FIRST: Final = 0.1
"""Seconds until it is looked again whether those whose namespaces a container joins are running."""
LONG_ENOUGH: Final = 10.0
"""Seconds of running after which the next restart is quick again."""


def on_event(house: House, container_id: str, event: Mapping[str, Any]) -> None:
    """Take what a keeper tells: called in the hub's thread, so nothing here waits."""
    try:
        container = house.containers.get(container_id)
    except NotFound:
        return
    # Before "gone" lets the next start go on: the event is about this one.
    generation = container.generation
    match event["event"]:
        case "exit":
            container.exit_seen = event
            house.timers.after(DRAIN, lambda: house.workers.submit(finish, house, container, generation))
        case "drained":
            _wake_logs(container)
            house.workers.submit(finish, house, container, generation)
        case "gone":
            container.keeper_gone.set()
            _wake_logs(container)
            if not house.closing:
                house.workers.submit(finish, house, container, generation)
        case "logged":
            _wake_logs(container)
        case "oom":
            ran_out(house, container, event)
        case "exec-exit":
            execs.ended(house, container, event)
        case "detached":
            house.tell(
                container, "detach", **({"execID": str(event["exec_id"])} if event.get("exec_id") else {})
            )
        case "replaced":
            log.error("another engine has taken over the keeper of %s", container.name)
        case "log-line":
            log.log(
                logging.getLevelNamesMapping().get(str(event.get("level", "")).upper(), logging.WARNING),
                "%s: %s",
                container.name,
                event.get("message", ""),
            )


def _wake_logs(container: Container) -> None:
    for stream in tuple(container.log_streams):
        stream.notify()


def finish(house: House, container: Container, generation: int) -> None:
    """Bring a container whose process has ended to rest; nothing if that was done, or it was started again since."""
    try:
        with container.operation("exit", patience=None):
            run = container.run
            if run is None or not container.running or container.generation != generation:
                return
            _finish(house, container, run)
    except Exception:
        log.exception("finishing container %s failed", container.name)


def _finish(house: House, container: Container, run: Run) -> None:
    event = container.exit_seen or {"code": 137, "reason": "its keeper died"}
    code = int(event["code"])
    bring_down(house, container, run)
    oom = bool(event.get("oom_killed"))
    container.run = None
    finished = stamp(event["time_ns"]) if event.get("time_ns") else now()
    again = _restart_in(house, container, code)
    container.move(
        Move.DIED if again is None else Move.BACKED_OFF,
        exit_code=code,
        finished_at=finished,
        oom_killed=oom,
        error=str(event.get("error") or event.get("reason") or ""),
    )
    # Whoever follows the log is told now: once the container is removed, nobody finds it to tell.
    _wake_logs(container)
    container.save(synced=False)
    if oom and not container.oom_told:
        house.tell(container, "oom")
    house.tell(container, "die", exitCode=str(code))
    networking.tell_all(house, "disconnect", run.connection)
    if not house.closing:
        links.tell_parents(house, container)
    keeper, container.keeper = container.keeper, None
    if keeper is not None:
        keeper.finish()
    if again is not None:
        settle(container, code, final=False)
        house.timers.after(again, lambda: house.workers.submit(restart, house, container))
        return
    if container.host_config.auto_remove and not house.closing:
        remove.purge(house, container, volumes=True)
    else:
        settle(container, code)


def bring_down(house: House, container: Container, run: Run) -> None:
    """Release all that a run held: processes, sandbox, ports, cgroup, root."""
    try:
        driver = house.driver("exec", run.exec_driver)
        driver.call("kill", state=run.state, signal=9, everyone=True)
        driver.call("clean", state=run.state)
    except WherryError as error:
        log.warning("cleaning up after %s: %s", container.name, error)
    if run.connection is not None:
        house.networks.release(run.connection)
    house.run_file(container).unlink(missing_ok=True)
    # The keeper still holds the root, and closes it last: that syncs an overlay, which nobody should wait for.
    container.root.end_run()
    execs.end_all(house, container)


def _restart_in(house: House, container: Container, code: int) -> float | None:
    """Seconds until the policy wants the container again; None: not at all. Source: reference containerMonitor."""
    policy = container.host_config.restart_policy
    if house.closing or container.stop_requested or policy.name in ("", "no"):
        return None
    if policy.name == "on-failure":
        if code == 0:
            return None
        if policy.maximum_retry_count and container.record.restart_count >= policy.maximum_retry_count:
            return None
    started = container.state.started_at
    ran = (parse(now()) - parse(started)) / 1e9
    container.backoff = BACKOFF_FIRST if ran >= LONG_ENOUGH else min(container.backoff * 2, BACKOFF_LAST)
    return container.backoff


def restart(house: House, container: Container) -> None:
    """Start a container again because its policy says so."""
    try:
        with container.operation("restart"):
            if container.view.status != "restarting" or house.closing:
                return
            if container.stop_requested:
                container.move(Move.DIED)
                container.save(synced=False)
                settle(container, container.state.exit_code)
                return
            if any(peer.view.status == "restarting" for peer in peers.all_of(house, container.host_config)):
                # Whoever's namespaces it joins goes first.
                house.timers.after(PEERS_FIRST, lambda: house.workers.submit(restart, house, container))
                return
            container.rewrite(restart_count=container.record.restart_count + 1)
            attempt(house, container, container.operation.cancelled.is_set)
    except WherryError as error:
        log.warning("restarting %s failed: %s", container.name, error)
