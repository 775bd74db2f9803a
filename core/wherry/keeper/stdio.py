"""Making a process's streams: its own ends for the exec driver, the other ends for the keeper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from wherry.spec.exec import Stdio


@dataclass(slots=True)
class Ends:
    """The keeper's ends; None where there is none."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None

    def close(self) -> None:
        for descriptor in (self.stdin, self.stdout, self.stderr):
            if descriptor is not None:
                os.close(descriptor)
        self.stdin = self.stdout = self.stderr = None


@contextmanager
def streams_for(*, tty: bool, stdin: bool, output: bool = True) -> Iterator[tuple[Stdio, Ends]]:
    """Both ends of pipes; the process's are closed at the end of the `with`, the keeper's only if it fails.

    With a terminal there is nothing to make: the driver opens it. Without `stdin`, or `output`, /dev/null is there.
    Pipes, not sockets: programs open /dev/stdout again, which a socket refuses.
    """
    ours, theirs = Ends(), Ends()
    try:
        if not tty:
            if stdin:
                theirs.stdin, ours.stdin = os.pipe2(os.O_CLOEXEC)
            else:
                theirs.stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            if output:
                ours.stdout, theirs.stdout = os.pipe2(os.O_CLOEXEC)
                ours.stderr, theirs.stderr = os.pipe2(os.O_CLOEXEC)
            else:
                theirs.stdout = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
                theirs.stderr = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        yield Stdio(stdin=theirs.stdin, stdout=theirs.stdout, stderr=theirs.stderr), ours
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
