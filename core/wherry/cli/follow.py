"""Being with a container, or an exec: its streams, its terminal's size, our signals, and how it ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from wherry.cli import streams, terminal
from wherry.cli.connection import Client, DaemonError, Response, part

_NOT_PASSED = {signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGKILL, signal.SIGSTOP}
_NOT_PASSED |= {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT}
_NOT_PASSED |= {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT}


def follow(stream: Response, *, tty: bool, stdin: bool, detach_keys: str) -> bool:
    """Pump a hijacked connection with our streams. True if it ended, False if the user detached."""
    keys = None
    if tty and stdin:
        keys = terminal.DetachKeys(terminal.parse_keys(detach_keys or terminal.DEFAULT_DETACH_KEYS))
    connection, early = stream.hijack()
    with connection, terminal.raw(tty and stdin):
        return streams.pump(connection, early, framed=not tty, stdin=stdin, keys=keys)


@contextmanager
def signals_passed(client: Client, name: str, wanted: bool) -> Iterator[None]:
    """What is sent to us goes to the container, for the time of the block."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        _aside(client, "POST", f"/containers/{part(name)}/kill", {"signal": signal.Signals(number).name})

    passed = sorted(set(map(int, signal.valid_signals())) - set(map(int, _NOT_PASSED)))
    before: dict[int, Any] = {}
    for number in (each for each in passed if wanted and each < signal.SIGRTMIN):
        before[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def size_followed(client: Client, path: str, tty: bool) -> Iterator[None]:
    """The container's terminal is as large as ours, now and whenever ours changes, for the time of the block."""

    def resize(number: int = 0, frame: FrameType | None = None) -> None:
        if found := terminal.size():
            _aside(client, "POST", f"{path}/resize", {"h": found[0], "w": found[1]})

    if not tty:
        yield
        return
    before = signal.signal(signal.SIGWINCH, resize)
    resize()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _aside(client: Client, method: str, path: str, query: dict[str, Any]) -> None:
    """A request that must not hold up what we are doing, nor end it: the container may be gone already."""

    def ask() -> None:
        try:
            client.call(method, path, query)
        except DaemonError:
            pass  # the streams tell how it ends

    threading.Thread(target=ask, daemon=True).start()


def exit_code(waiting: Response) -> int:
    """The answer of `/wait`."""
    import json

    answer = json.loads(waiting.body() or b"{}")
    problem = (answer.get("Error") or {}).get("Message")
    if problem:
        raise DaemonError(f"Error response from daemon: {problem}")
    return int(answer["StatusCode"])


def start_failure(error: DaemonError) -> int:
    """docker's exit code for a start that failed: the shell's 127 and 126, and 125 for what is no program's fault."""
    text = str(error)
    if any(words in text for words in ("executable file not found", "no such file or directory")):
        return 127
    if any(words in text for words in ("permission denied", "is a directory", "exec format error")):
        return 126
    return 125
