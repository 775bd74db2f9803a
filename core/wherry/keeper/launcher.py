"""The launcher: a warm, single-threaded process that forks keepers.

    python -P -m wherry.keeper.launcher <descriptor of the daemon's socket>

Everything that a keeper may need is imported and made here once, and then frozen, so that keepers share it. A request
is one descriptor, the keeper's end of its daemon's socket; the answer is its pid. One keeper is always forked ahead,
so that a start waits for a message instead of a fork. When the daemon is gone, the launcher stays only to reap.
"""

from __future__ import annotations

import codecs
import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from wherry.errors import to_wire
from wherry.keeper.birth import prepare
from wherry.keeper.keeper import Voice, make_ready
from wherry.keeper.loop import READ, Loop
from wherry.keeper.protocol import MESSAGE_LIMIT, Warm, from_json, parse, rehearse, to_json
from wherry.linux import keyrings, processes
from wherry.linux.sockets import Channel
from wherry.plugins import Driver, Resolved, load
from wherry.services import EngineServices, Level


class Stage:
    """The drivers that were made before the fork, and what they say: to the daemon through whoever listens now."""

    def __init__(self) -> None:
        self.version = ""
        self._voice: Voice | None = None
        self._early: list[tuple[str, str, Mapping[str, Any]]] = []
        self._services: EngineServices | None = None
        self._extensions: list[Driver] = []
        self._drivers: list[Driver] = []

    def prepare(self, warm: Warm) -> list[dict[str, Any]]:
        """Make the drivers; those that fail are answered as (driver, error), and the others serve."""
        self._services = EngineServices(
            engine_id=warm.engine_id, cgroup_parent=warm.cgroup_parent, sink=self._hear
        )
        self.version = warm.version
        failed = []
        for resolved in (*warm.extensions, *warm.exec_drivers, *warm.log_drivers):
            try:
                self._make(resolved)
            except Exception as error:
                failed.append({"kind": resolved.kind, "name": resolved.name, "error": to_wire(error)})
        return failed

    def driver(self, resolved: Resolved) -> Driver:
        """The driver that was made ahead, or one made now."""
        for driver in self._drivers:
            if driver.resolved == resolved:
                return driver
        return self._make(resolved)

    def hear(self, voice: Voice) -> None:
        self._voice = voice
        for line in self._early:
            voice(*line)
        self._early.clear()

    def _make(self, resolved: Resolved) -> Driver:
        assert self._services is not None
        if resolved.kind == "extension":
            driver = load(resolved, self._services)
            self._extensions.append(driver)
            return driver
        driver = load(resolved, self._services, tuple(self._extensions))
        if resolved.kind == "exec":
            driver.call("warm")
        self._drivers.append(driver)
        return driver

    def _hear(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        if self._voice is None:
            self._early.append((level, message, fields))
        else:
            self._voice(level, message, fields)


class Launcher:
    def __init__(self, channel: Channel, stage: Stage) -> None:
        self._channel = channel
        self._stage = stage
        self._loop = Loop(self._failed)
        self._spare: tuple[int, Channel] | None = None
        self._keepers: set[int] = set()

    def serve(self) -> None:
        """Until the daemon is gone, and then until the last keeper is."""
        self._loop.watch_children(self._reap)
        self._loop.watch(self._channel.connection.fileno(), READ, self._asked)
        self._fork_ahead()
        self._loop.run()
        if self._spare is not None:
            self._spare[1].close()  # it sees that, and ends
        self._channel.close()
        while self._keepers:
            # Others than keepers are orphans of one that was killed; init will have them.
            self._keepers.discard(os.waitpid(-1, 0)[0])

    def _asked(self, events: int) -> None:
        try:
            message = self._channel.inbox.receive()
        except (EOFError, OSError):
            self._loop.stop()
            return
        if message is None:
            return
        try:
            pid = self._hand_over(message.descriptors[0])
        finally:
            for descriptor in message.descriptors:
                os.close(descriptor)
        self._channel.send(to_json({"pid": pid}), timeout=5.0)
        self._fork_ahead()

    def _hand_over(self, descriptor: int) -> int:
        for _ in range(2):
            if self._spare is None:
                self._fork_ahead()
            assert self._spare is not None
            pid, channel = self._spare
            self._spare = None
            try:
                channel.send(b"", [descriptor], timeout=5.0)
            except OSError:
                continue  # somebody killed it while it waited
            finally:
                channel.close()
            return pid
        raise OSError("keepers end as soon as they are forked")

    def _fork_ahead(self) -> None:
        """Have a keeper waiting for its descriptor."""
        if self._spare is not None:
            return
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                self._channel.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._loop.close()
                _wait_and_keep(Channel(theirs, MESSAGE_LIMIT), self._stage)
                status = 0
            except EOFError:
                status = 0  # the launcher ended, or the daemon, before there was a container
            finally:
                os._exit(status)
        theirs.close()
        self._keepers.add(pid)
        self._spare = pid, Channel(ours, MESSAGE_LIMIT)

    def _reap(self) -> None:
        while self._keepers:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._keepers.discard(pid)

    def _failed(self, error: Exception) -> None:
        # The daemon sees its socket close, and starts another launcher for the next container.
        self._loop.stop()


def _wait_and_keep(channel: Channel, stage: Stage) -> None:
    """The life of a fork."""
    prepare()
    keep = make_ready(stage.driver, stage.hear, stage.version)
    message = channel.receive()
    channel.close()
    connection = Channel(socket.socket(fileno=message.descriptors[0]), MESSAGE_LIMIT)
    try:
        keep(connection)
    except Exception:
        confess(connection)
        raise


def confess(channel: Channel) -> None:
    """Say to the daemon what went wrong: nobody reads our stderr. Inside of an `except`."""
    try:
        channel.send(to_json({"fault": traceback.format_exc()}), timeout=1.0)
    except OSError:
        pass  # nobody is there who could hear it


def main() -> None:
    descriptor = int(sys.argv[1])
    channel = Channel(socket.socket(fileno=descriptor), MESSAGE_LIMIT)
    os.set_inheritable(descriptor, False)
    try:
        stage = _warm(channel)
    except Exception:
        confess(channel)
        raise
    Launcher(channel, stage).serve()


def _warm(channel: Channel) -> Stage:
    os.chdir("/")
    os.umask(0o022)
    processes.set_subreaper()
    processes.set_name("wherry-launcher")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's, meant for the daemon
    try:
        # A container that gets no session keyring of its own is left with this one, and not with the daemon's.
        keyrings.new_session()
    except OSError:
        pass
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-999")
    except PermissionError:
        pass  # without CAP_SYS_RESOURCE; it is only worth trying
    warm = parse(from_json(channel.receive(timeout=60.0).body), Warm)
    started = time.monotonic()
    stage = Stage()
    failed = stage.prepare(warm)
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        raise SystemExit(
            f"a driver started threads while it was prepared, so keepers cannot be forked: {names}"
        )
    seconds = time.monotonic() - started
    channel.send(to_json({"ready": os.getpid(), "failed": failed, "seconds": seconds}), timeout=5.0)
    # What a keeper needs only now and then, and could not import any more once it is sealed.
    processes.boot_id()
    rehearse()
    for encoding in ("ascii", "latin-1", "idna"):
        codecs.lookup(encoding)
    gc.collect()
    gc.freeze()
    return stage


if __name__ == "__main__":
    main()
