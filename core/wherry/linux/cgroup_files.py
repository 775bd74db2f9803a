"""What both versions of cgroups share: the values they are asked for and answer with, and files in their directories."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

POLL: Final = 0.001
"""Seconds between two looks at what only polling tells."""
POLL_MOST: Final = 0.02


Before: TypeAlias = Callable[[str], str]
"""Of what a file reads, what has to be written to have it so again."""


class Throttle(Protocol):
    """A rate (or weight) of one device."""

    @property
    def major(self) -> int: ...
    @property
    def minor(self) -> int: ...
    @property
    def rate(self) -> int: ...


class Rule(Protocol):
    """A rule about devices: kind a, b or c; a number of None is any; access of r, w, m."""

    @property
    def allow(self) -> bool: ...
    @property
    def kind(self) -> str: ...
    @property
    def major(self) -> int | None: ...
    @property
    def minor(self) -> int | None: ...
    @property
    def access(self) -> str: ...


class Limits(Protocol):
    """Limits of a cgroup; None and "" leave a thing as it is, -1 is unlimited. Bytes, and microseconds."""

    @property
    def memory(self) -> int | None: ...
    @property
    def memory_swap(self) -> int | None: ...
    @property
    def memory_reservation(self) -> int | None: ...
    @property
    def swappiness(self) -> int | None: ...
    @property
    def oom_kill_disable(self) -> bool: ...
    @property
    def cpu_shares(self) -> int | None: ...
    @property
    def cpu_quota(self) -> int | None: ...
    @property
    def cpu_period(self) -> int | None: ...
    @property
    def cpu_realtime_runtime(self) -> int | None: ...
    @property
    def cpu_realtime_period(self) -> int | None: ...
    @property
    def cpuset_cpus(self) -> str: ...
    @property
    def cpuset_mems(self) -> str: ...
    @property
    def pids(self) -> int | None: ...
    @property
    def blkio_weight(self) -> int | None: ...
    @property
    def blkio_weight_device(self) -> Sequence[Throttle]: ...
    @property
    def blkio_read_bps(self) -> Sequence[Throttle]: ...
    @property
    def blkio_write_bps(self) -> Sequence[Throttle]: ...
    @property
    def blkio_read_iops(self) -> Sequence[Throttle]: ...
    @property
    def blkio_write_iops(self) -> Sequence[Throttle]: ...
    @property
    def unified(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """How a process of one thread comes in cheaply; all descriptors are close-on-exec and the caller's to close.

    Version 1: it writes "0" to each of `tasks` itself. (To `cgroup.procs`, or for another process, the kernel first
    waits until no process anywhere forks: 10 ms on a quiet machine.) Version 2: it clones itself into the directory
    `into` by clone3(2), for the same reason.
    """

    tasks: tuple[int, ...] = ()
    into: int | None = None

    def close(self) -> None:
        for fd in self.tasks:
            os.close(fd)
        if self.into is not None:
            os.close(self.into)


def checked(path: str) -> str:
    """A cgroup's path, which must be below a hierarchy's root and stay there."""
    words = path.strip("/").split("/")
    if not all(words) or not all(word not in (".", "..") and "\0" not in word for word in words):
        raise ValueError(f'"{path}" is not the path of a cgroup below the root')
    return "/" + "/".join(words)


# ---- files ---------------------------------------------------------------------------------------------------------
def write(path: str, text: str) -> None:
    """One write(2) to a control file; the error names file and value. FileNotFoundError: the cgroup is gone."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        # ENODEV: the cgroup was removed between open and write; of a file about block devices also that there is none
        # with these numbers.
        gone = error.errno == errno.ENODEV and not os.path.exists(path)
        number = errno.ENOENT if gone else error.errno
        raise OSError(number, f"{os.strerror(error.errno or 0)} (writing {text!r})", path) from None
    finally:
        os.close(fd)


class Writes:
    """Limits being written to one cgroup's files: with `restore`, what was written can be undone as far as the kernel lets."""

    def __init__(self, *, restore: bool) -> None:
        self._restore = restore
        self._before: list[tuple[str, str]] = []

    def __enter__(self) -> Writes:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for path, text in reversed(self._before):
                try:
                    write(path, text)
                except OSError:
                    pass  # the error that led here is the one to tell

    def put(self, path: str, text: str, before: Before = str.strip) -> None:
        """Write `text`.

        OSError EOPNOTSUPP: this host has no such file. FileNotFoundError: the cgroup is gone.
        """
        try:
            if self._restore:
                self._before.append((path, before(read(path))))
            write(path, text)
        except FileNotFoundError:
            directory, file = os.path.split(path)
            if directory and not os.path.isdir(directory):
                raise
            raise OSError(errno.EOPNOTSUPP, f"this host has no {file}", path) from None


def of_device(device: str, unset: str) -> Before:
    """For `Writes.put`: the line of a `device` (`8:0`) in a file that has one for each; `unset` where it has none."""

    def line(content: str) -> str:
        found = [each for each in content.splitlines() if each.startswith(f"{device} ")]
        return found[0] if found else f"{device} {unset}"

    return line


def read(path: str) -> str:
    """The whole of a control file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
    finally:
        os.close(fd)


def read_or(path: str, default: str = "") -> str:
    """As `read`; `default` where the file is not there (another kernel) or the cgroup is gone."""
    try:
        return read(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return default
        raise


def number(path: str, default: int = 0) -> int:
    """A file of one number; "max" is the largest of 64 bits, as the engine's API has it."""
    text = read_or(path).strip()
    if text == "max":
        return (1 << 64) - 1
    return int(text) if text.lstrip("-").isdigit() else default


def table(path: str) -> dict[str, int]:
    """A file of lines `word number`."""
    found = {}
    for line in read_or(path).splitlines():
        word, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[word] = int(value)
    return found


# ---- directories ---------------------------------------------------------------------------------------------------
def below(directory: str) -> Iterator[str]:
    """The cgroup directories below one, innermost first; nothing where it is gone.

    Whoever may make cgroups nests them deeper than functions can call each other.
    """
    pending: list[tuple[str, Iterator[str]]] = [(directory, iter(_names(directory)))]
    while pending:
        here, names = pending[-1]
        name = next(names, None)
        if name is not None:
            pending.append((f"{here}/{name}", iter(_names(f"{here}/{name}"))))
            continue
        pending.pop()
        if pending:
            yield here


def _names(directory: str) -> list[str]:
    try:
        # A cgroup's directory counts one link for each below it: most have none, and are not listed.
        if os.stat(directory).st_nlink <= 2:
            return []
        return [entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def processes(directory: str) -> list[int]:
    """Process numbers in a cgroup and all below it; empty where it is gone."""
    found: list[int] = []
    for each in (directory, *below(directory)):
        try:
            found += map(int, read(f"{each}/cgroup.procs").split())
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    return found


def remove(directory: str, timeout: float) -> None:
    """Remove a cgroup and all below it. Gone already is success. EBUSY: something lives in it after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = POLL
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            last = error
        for each in below(directory):
            try:
                os.rmdir(each)
            except OSError:
                pass  # the next round tells
        if time.monotonic() > deadline:
            raise last
        time.sleep(pause)
        pause = min(pause * 2, POLL_MOST)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Poll a callable until it is true. Answers whether it became so within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = POLL
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, POLL_MOST)
    return True
