"""The daemon's side: `Keepers` starts the launcher and finds keepers, `Keeper` speaks with one of them.

One thread, the hub, reads what all keepers say: answers go to the threads that wait for them, events to `on_event`.
Whatever asks has a deadline, and a keeper that ends makes everybody who waits for it fail at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeAlias

from wherry.errors import DeadlineExceeded, Unavailable, Unsupported, from_wire
from wherry.keeper.attach import frame, parse_keys
from wherry.keeper.launching import SENDING, Launcher
from wherry.keeper.loop import READ, WRITE, Loop
from wherry.keeper.protocol import (
    MESSAGE_LIMIT,
    PROTOCOL,
    Attached,
    Held,
    NameServer,
    Published,
    Running,
    Setup,
    Target,
    Warm,
    from_json,
    parse,
    rehearse,
    to_json,
)
from wherry.linux import processes
from wherry.linux.sockets import BadMessage, Channel, short_address
from wherry.services import to_logging
from wherry.spec.command import Process
from wherry.spec.frontend import Attachment

OnEvent: TypeAlias = Callable[[str, Mapping[str, Any]], None]


class Keepers:
    """All keepers of one engine. Thread-safe. `on_event` is called in the hub's thread: it must be quick, and must not
    wait for a keeper; once it has returned, the keeper takes the event as seen.

    Events, as `on_event(container_id, event)`; `event["event"]` is one of

        exit        code, signal, time_ns, boot_id, oom_killed, error      until it is seen, also after a restart
        exec-exit   exec_id, code, signal                                  until it is seen, also after a restart
        exec-start  exec_id, pid
        detached    exec_id where it is an exec's client
        logged      written, dropped, bytes, failures; at most 100 a second, and only when followed
        drained     log: all output is in the log, clients are gone (or late)
        log-line    level, message, fields: for the daemon's log
        replaced    another daemon has this keeper now
        gone        exit_seen: the process has ended; the last event
    """

    def __init__(self, exec_root: Path, warm: Warm, on_event: OnEvent) -> None:
        self._directory = exec_root / "keepers"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._warm = dataclasses.replace(warm, version=warm.version or metadata.version("wherry-core"))
        self._on_event = on_event
        self._asking = threading.Lock()
        rehearse()
        self._closed = False
        self._place = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._keepers: dict[str, Keeper] = {}
        self._loop = Loop(self._failed)
        self._hub = threading.Thread(target=self._loop.run, name="wherry-keepers", daemon=True)
        self._hub.start()
        self._launcher = Launcher(self._warm)

    @property
    def launcher_pid(self) -> int:
        return self._launcher.pid

    def spawn(self, container_id: str) -> Keeper:
        """A new keeper for a container. Unavailable: the launcher does not start."""
        ours, theirs = socket.socketpair()
        channel = Channel(ours, MESSAGE_LIMIT)
        try:
            with theirs, self._asking:
                if self._closed:
                    raise Unavailable("the engine is closing")
                broken = self._fork(theirs.fileno())
            for failure in broken:
                message = f"{failure['kind']} driver {failure['name']}: {failure['error'].get('message')}"
                to_logging("error", message, {})
            channel.send(
                to_json({"verb": "be", "id": container_id, "directory": str(self._directory)}),
                timeout=SENDING,
            )
            return self._welcome(container_id, channel)
        except (OSError, EOFError) as error:
            channel.close()
            raise Unavailable(
                f"no keeper could be started for container {container_id[:12]}: {error}"
            ) from error
        except BaseException:
            channel.close()
            raise

    def adopt(self, container_id: str) -> Keeper | None:
        """The keeper that lives on from an earlier daemon; None when there is none, and its socket is removed.

        DeadlineExceeded: it is there and does not answer. Unsupported: it speaks a protocol too old or too new.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(SENDING)
        try:
            connection.connect(short_address(self._place, f"{container_id}.sock"))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{container_id}.sock", dir_fd=self._place)
            return None
        except TimeoutError:
            connection.close()
            raise DeadlineExceeded(f"the keeper of container {container_id[:12]} does not answer") from None
        channel = Channel(connection, MESSAGE_LIMIT)
        try:
            return self._welcome(container_id, channel)
        except TimeoutError:
            channel.close()
            raise DeadlineExceeded(f"the keeper of container {container_id[:12]} does not answer") from None
        except (OSError, EOFError):
            channel.close()  # it was just ending
            return None
        except BaseException:
            channel.close()
            raise

    def close(self) -> None:
        """Leave: containers and their keepers live on, the launcher ends when its last keeper has."""
        with self._asking:
            if self._closed:
                return
            self._closed = True
            self._launcher.close()
        self._loop.post(self._loop.stop)
        if threading.current_thread() is not self._hub:
            self._hub.join(5.0)
        for keeper in list(self._keepers.values()):
            keeper._forget()
        self._loop.close()
        os.close(self._place)

    def _fork(self, descriptor: int) -> list[dict[str, Any]]:
        """Have a keeper forked, by a new launcher if the old one has failed; what failed while that became warm."""
        try:
            broken = self._launcher.failures()
            self._launcher.fork(descriptor)
        except (ConnectionError, EOFError):
            self._launcher.close()
            self._launcher = Launcher(self._warm)
            broken = self._launcher.failures()
            self._launcher.fork(descriptor)
        return broken

    def _welcome(self, container_id: str, channel: Channel) -> Keeper:
        said = from_json(channel.receive(timeout=SENDING).body)
        if "fault" in said:
            raise Unavailable(f"the keeper of container {container_id[:12]} failed: {said['fault']}")
        hello = said["hello"]
        major = int(hello["protocol"][0])
        if not PROTOCOL[0] - 1 <= major <= PROTOCOL[0]:
            raise Unsupported(
                f"the keeper of container {container_id[:12]} speaks protocol {major}, this daemon {PROTOCOL[0]}; "
                "stop the container and start it again"
            )
        if hello["container_id"] != container_id:
            raise Unavailable(f"the keeper at the socket of {container_id[:12]} is another container's")
        keeper = Keeper(self, container_id, channel, hello)
        self._keepers[container_id] = keeper
        self._loop.post(keeper._begin)
        return keeper

    def _tell(self, container_id: str, event: Mapping[str, Any]) -> bool:
        """Whether the engine took the event. One that it could not deal with is told again to the next daemon."""
        try:
            self._on_event(container_id, event)
        except Exception as error:
            to_logging(
                "error",
                f"the event {event['event']} could not be handled: {type(error).__name__}: {error}",
                {"container": container_id},
            )
            return False
        return True

    def _failed(self, error: Exception) -> None:
        to_logging("error", f"a fault while listening to keepers: {type(error).__name__}: {error}", {})


class Keeper:
    """One container's keeper. Thread-safe. `status_at_hello` is what it knew when it was found."""

    def __init__(
        self, keepers: Keepers, container_id: str, channel: Channel, hello: Mapping[str, Any]
    ) -> None:
        self.container_id: Final = container_id
        self.pid: Final = int(hello["pid"])
        self.start_time: Final = int(hello["start_time"])
        self.status_at_hello: Final[Mapping[str, Any]] = hello["status"]
        self._keepers = keepers
        self._loop = keepers._loop
        self._channel = channel
        self._process = processes.pidfd_open(self.pid)
        self._sending = threading.Lock()
        self._number = 0
        self._waiting: dict[int, Future[tuple[Any, tuple[int, ...]]]] = {}
        self._exit_seen = False
        self._ended = False

    # ---- what the engine asks --------------------------------------------------------------------------------------
    def start(self, setup: Setup, descriptors: Sequence[int], deadline: float = 60.0) -> Running:
        """Make process 1, waiting at its barrier. The descriptors stay the caller's. Raises what the driver raised."""
        value, _ = self._ask("start", descriptors, deadline, setup=setup)
        return parse(value, Running)

    def release(self, deadline: float = 10.0) -> None:
        """Open the barrier; returns when the program runs. CommandNotFound, CommandNotExecutable, StartFailed."""
        self._ask("release", (), deadline)

    def attach(self, attachment: Attachment) -> None:
        """Hand a client over; its descriptor is closed here, also on an error. Conflict: the container has ended."""
        try:
            parse_keys(attachment.detach_keys)
            self._ask("attach", [attachment.descriptor], 10.0, attachment=attached(attachment, 0))
        finally:
            os.close(attachment.descriptor)

    def attach_held(self, attachment: Attachment) -> Held:
        """Hand a client over that gets its output only after `go`. The descriptor stays the caller's, who may write
        to it until then what the client has missed. Conflict: the container has ended."""
        parse_keys(attachment.detach_keys)
        wanted = dataclasses.replace(attached(attachment, 0), hold=True)
        value, _ = self._ask("attach", [attachment.descriptor], 10.0, attachment=wanted)
        return parse(value, Held)

    def go(self, held: Held) -> None:
        """Let a held client have its output."""
        self._ask("attach-go", [], 10.0, client=held.client)

    def exec(
        self,
        exec_id: str,
        process: Process,
        attachment: Attachment | None,
        stdin: bool,
        note: Any = None,
        deadline: float = 10.0,
    ) -> int:
        """Run another process in the container; its pid. Raises like `start`; then the client was told why as well.

        `note` is said back by `status` and with the exit, also to a daemon that comes later.
        The attachment's descriptor is closed here, also on an error.
        """
        descriptors = [] if attachment is None else [attachment.descriptor]
        try:
            if attachment is not None:
                parse_keys(attachment.detach_keys)
            wanted = None if attachment is None else attached(attachment, 0)
            value, _ = self._ask(
                "exec",
                descriptors,
                deadline,
                exec_id=exec_id,
                process=process,
                stdin=stdin,
                attachment=wanted,
                note=note,
            )
        except DeadlineExceeded as error:
            if attachment is not None:
                end = partial(_hang_up, os.dup(attachment.descriptor), attachment.multiplexed, str(error))
                # A moment later, so that the engine knows the exec's end when the client sees it.
                self._loop.post(partial(self._after_a_moment, end))
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return int(value["pid"])

    def _after_a_moment(self, act: Callable[[], None]) -> None:
        self._loop.after(0.1, act)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a size; before `start` it is remembered. InvalidRequest: there is no terminal."""
        self._ask("resize", (), 10.0, rows=rows, columns=columns)

    def exec_resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Give an exec's terminal a size. NotFound: no such exec runs."""
        self._ask("exec-resize", (), 10.0, exec_id=exec_id, rows=rows, columns=columns)

    def status(self, deadline: float = 5.0) -> Mapping[str, Any]:
        """phase (waiting, made, running, draining, failed), pid, start_time, state, exit (or None), log (written,
        dropped, bytes, failures) and execs: id → {"pid"} or {"code"}."""
        value, _ = self._ask("status", (), deadline)
        assert isinstance(value, dict)
        return value

    def held(self, deadline: float = 5.0) -> tuple[int, ...]:
        """Copies of the descriptors that `Setup.held` named, in that order, the caller's to close."""
        return self._ask("held", (), deadline)[1]

    def publish(
        self,
        published: Sequence[Published],
        descriptors: Sequence[int],
        targets: Mapping[str, Target] | None = None,
        deadline: float = 10.0,
    ) -> None:
        """Have it hold more ports until the end, as `Setup.published` does, and serve those that `targets` names.

        The descriptors stay the caller's. Conflict: the container has ended.
        """
        self._ask("publish", descriptors, deadline, published=tuple(published), targets=targets)

    def resolve(
        self, name_server: NameServer, descriptors: Sequence[int] = (), deadline: float = 10.0
    ) -> None:
        """Have it answer for these names from now on. The descriptors stay the caller's. Conflict: it has ended."""
        self._ask("resolve", descriptors, deadline, name_server=name_server)

    def follow_log(self, on: bool) -> None:
        """Ask for `logged` events, or for no more of them. Does not wait."""
        self._tell("follow-log", on=on)

    def finish(self) -> None:
        """The daemon has recorded the exit (or given the start up): the keeper may go. Does not wait."""
        self._tell("finish")

    def abandon(self) -> None:
        """Kill the keeper, and forget it: no more events. What it started dies with it by PDEATHSIG."""
        with self._sending:
            process = None if self._ended else os.dup(self._process)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                processes.pidfd_send_signal(process, signal.SIGKILL)
            if threading.current_thread() is not self._keepers._hub:
                _wait(process, 5.0)
            os.close(process)
        # Its socket would be found by the next daemon only to be removed.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.container_id}.sock", dir_fd=self._keepers._place)
        self._loop.post(self._forget)

    # ---- messages --------------------------------------------------------------------------------------------------
    def _ask(
        self, verb: str, descriptors: Sequence[int], deadline: float, **fields: Any
    ) -> tuple[Any, tuple[int, ...]]:
        if threading.current_thread() is self._keepers._hub:
            raise RuntimeError(f"{verb} waits for an answer, which the thread that brings answers cannot")
        answer: Future[tuple[Any, tuple[int, ...]]] = Future()
        with self._sending:
            if self._ended:
                raise self._gone()
            self._number += 1
            number = self._number
            # Before it is sent: the hub may have the answer before this thread is here again.
            self._waiting[number] = answer
            try:
                self._send({"verb": verb, "call": number, **fields}, descriptors)
            except BaseException:
                self._waiting.pop(number, None)
                raise
        try:
            return answer.result(deadline)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the keeper of container {self.container_id[:12]} did not answer {verb} within {deadline:g} s"
            ) from None
        finally:
            self._waiting.pop(number, None)

    def _tell(self, verb: str, **fields: Any) -> None:
        with self._sending:
            if not self._ended:
                with contextlib.suppress(Unavailable):  # it is gone, or as good as: its end is told elsewhere
                    self._send({"verb": verb, **fields}, ())

    def _send(self, message: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """With the lock held. What the keeper does not take now, the hub sends on."""
        try:
            self._channel.outbox.put(to_json(message), descriptors)
            if not self._channel.outbox.flush():
                self._loop.post(self._listen)
        except BlockingIOError as error:
            raise DeadlineExceeded(
                f"the keeper of container {self.container_id[:12]} is stuck: {error}"
            ) from None
        except OSError:
            raise self._gone() from None

    def _gone(self) -> Unavailable:
        return Unavailable(f"the keeper of container {self.container_id[:12]} is gone")

    # ---- in the hub's thread ---------------------------------------------------------------------------------------
    def _begin(self) -> None:
        self._listen()
        self._ready(0)  # what came along with the hello

    def _listen(self) -> None:
        with self._sending:
            if self._ended:
                return
            try:
                events = READ if self._channel.outbox.flush() else READ | WRITE
            except OSError:
                events = READ  # its end is told by the pidfd
            self._loop.watch(self._channel.connection.fileno(), events, self._ready)
            self._loop.watch(self._process, READ, self._process_ended)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._listen()
        while not self._ended:
            try:
                message = self._channel.inbox.receive()
            except (EOFError, BadMessage, OSError):
                # The socket is closed before the process has ended: the pidfd tells that.
                self._loop.forget(self._channel.connection.fileno())
                return
            if message is None:
                return
            self._heard(from_json(message.body), message.descriptors)

    def _heard(self, message: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        if "answer" in message:
            answer = self._waiting.pop(message["answer"], None)
            if answer is None:
                for descriptor in descriptors:
                    os.close(descriptor)  # whoever asked has given up
            elif "error" in message:
                answer.set_exception(from_wire(message["error"]))
            else:
                answer.set_result((message["value"], descriptors))
            return
        if message.get("event") == "exit":
            self._exit_seen = True
        number = message.pop("seen", None)
        if self._keepers._tell(self.container_id, message) and number is not None:
            self._tell("seen", number=number)
        if message.get("event") == "replaced":
            self._forget()

    def _process_ended(self, events: int) -> None:
        self._ready(0)  # its last words
        if not self._ended:
            self._forget()
            self._keepers._tell(self.container_id, {"event": "gone", "exit_seen": self._exit_seen})

    def _forget(self) -> None:
        with self._sending:
            if self._ended:
                return
            self._ended = True
            self._loop.forget(self._channel.connection.fileno())
            self._loop.forget(self._process)
            self._channel.close()
            os.close(self._process)
            if self._keepers._keepers.get(self.container_id) is self:
                del self._keepers._keepers[self.container_id]
            waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.set_exception(self._gone())


def _hang_up(descriptor: int, multiplexed: bool, why: str) -> None:
    """Tell a client why, and end its connection, of which a keeper that does not answer may have a descriptor, too."""
    words = f"{why}\r\n".encode()
    with socket.socket(fileno=descriptor) as connection:
        with contextlib.suppress(OSError):
            connection.send(
                frame(1, len(words)) + words if multiplexed else words,
                socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
            )
            connection.shutdown(socket.SHUT_RDWR)


def _wait(process: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.poll(seconds * 1000)


def attached(attachment: Attachment, position: int) -> Attached:
    """An attachment as it travels, its descriptor at `position` of the message."""
    return Attached(
        descriptor=position,
        early=attachment.early,
        stdin=attachment.stdin,
        stdout=attachment.stdout,
        stderr=attachment.stderr,
        detach_keys=attachment.detach_keys,
        multiplexed=attachment.multiplexed,
    )
