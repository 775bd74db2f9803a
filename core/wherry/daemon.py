"""The daemon: an engine with its frontends, until a signal ends it. Containers do not end with it.

SIGHUP puts back what others took from the kernel.
SIGTERM and SIGINT leave: frontends stop, containers go on (`live-restore`) or are stopped within the shutdown timeout.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from wherry import daemon_log
from wherry.config import Settings
from wherry.engine import Engine
from wherry.errors import Conflict, NotModified, WherryError
from wherry.linux import processes
from wherry.plugins import Driver
from wherry.state import atomic

log = logging.getLogger(__name__)


def main(settings: Settings) -> int:
    """Run the daemon until it is told to leave; answers the program's exit code."""
    daemon_log.begin(logging.DEBUG if settings.debug else settings.log_level.upper())
    processes.set_name("wherryd")
    for warning in settings.warnings:
        log.warning("%s", warning)
    leave = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        log.info("%s: leaving", signal.Signals(number).name)
        leave.set()

    # The command line lets SIGPIPE end it; here a client that hangs up is none of our end.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    with _pidfile(settings.pidfile), Engine(settings=settings) as engine:
        signal.signal(signal.SIGHUP, lambda number, frame: _mend(engine))
        return _serve(engine, settings, leave)


def _mend(engine: Engine) -> None:
    """SIGHUP: what others took from the kernel is put back. The configuration is read at the next start."""

    def mend() -> None:
        log.info("SIGHUP: mended %s", ", ".join(engine.mend()) or "nothing, all is there")

    threading.Thread(target=mend, name="mend").start()


def _serve(engine: Engine, settings: Settings, leave: threading.Event) -> int:
    fronts = [engine.frontend(name) for name in settings.frontends]
    failures: list[BaseException] = []
    threads = [
        threading.Thread(
            target=_front, args=(front, engine, settings, leave, failures), name=f"front {front.name}"
        )
        for front in fronts
    ]
    for thread in threads:
        thread.start()
    leave.wait()
    for front in fronts:
        front.call("stop")
    for thread in threads:
        thread.join(5)
    if not settings.live_restore:
        _stop_all(engine, settings.shutdown_timeout)
    for failure in failures:
        print(f"wherry: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _front(
    front: Driver, engine: Engine, settings: Settings, leave: threading.Event, failures: list[BaseException]
) -> None:
    def ready() -> None:
        log.info("%s front listens on %s", front.name, ", ".join(settings.hosts))

    try:
        front.call("serve", engine=engine, addresses=settings.hosts, ready=ready)
    except Exception as error:
        failures.append(error)
    finally:
        leave.set()


def _stop_all(engine: Engine, timeout: int) -> None:
    def stop(name: str) -> None:
        with contextlib.suppress(NotModified):
            engine.stop(name, timeout=timeout)

    running = engine.containers()
    with ThreadPoolExecutor(16) as pool:
        for container, done in [(c, pool.submit(stop, c.id)) for c in running]:
            try:
                done.result(timeout + 30)
            except WherryError as error:
                log.warning("stopping %s: %s", container.name, error)


@contextlib.contextmanager
def _pidfile(path: Path) -> Iterator[None]:
    """Our number in a file while we run. A number of a process that is not a wherryd is stale."""
    if path == Path():
        yield
        return
    with contextlib.suppress(FileNotFoundError, ValueError):
        number = int(path.read_text())
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{number}/comm").read_text().strip()
            if number != os.getpid() and name == "wherryd":
                raise Conflict(
                    f"a daemon runs already with pid {number} ({path}); stop it, or choose another --pidfile"
                )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(path, f"{os.getpid()}\n".encode(), 0o644)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
