"""The engine alone, embedded, against the OCI runtimes: create, start, wait and remove one container, no network."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import bundle
from bench.enclosure import Enclosure
from bench.figures import Row, compared

REPOSITORY: Final = Path(__file__).resolve().parent.parent
WARM: Final = 3

WITH: Final = " run"
WITHOUT: Final = " run, no seccomp"

# crun 1.8 refuses a host with both hierarchies of cgroups: in its own mount namespace the newer one is not there.
ONE_HIERARCHY: Final = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi"


class Worker:
    """`bench.worker`, running in an enclosure."""

    def __init__(self, enclosure: Enclosure) -> None:
        self._process = enclosure.process
        self._line()

    def run(self, what: str) -> float:
        """Seconds that one container took; RuntimeError with the words of what failed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        answer = self._line()
        try:
            return float(answer)
        except ValueError:
            raise RuntimeError(f"{what} {answer}") from None

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError("the worker ended; its words are above")
        return line


@contextmanager
def _worker(kind: str, place: Path, extra: str = "") -> Iterator[Worker]:
    enclosure = Enclosure.start(
        [sys.executable, "-m", "bench.worker", kind, str(place)],
        extra=extra,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    try:
        yield Worker(enclosure)
    finally:
        enclosure.close()


def runtimes(directory: Path, rounds: int) -> list[Row]:
    """Rows for each runtime that is installed."""
    path = "/usr/bin:/usr/sbin:/usr/local/bin"
    found = [name for name in ("crun", "runc") if shutil.which(name, path=path)]
    samples: dict[str, list[float]] = {
        name: [] for name in ["wherry", *(name + kind for name in found for kind in (WITH, WITHOUT))]
    }
    whole, plain = bundle.make(directory / "bundle"), bundle.make(directory / "plain", with_seccomp=False)
    with (
        _worker("engine", directory / "engine") as engine,
        _worker("runtimes", whole, ONE_HIERARCHY) as equal,
        _worker("runtimes", plain, ONE_HIERARCHY) as without,
    ):
        for number in range(-WARM, rounds):
            turn = [("wherry", engine, "run")]
            for name in found:
                turn += [(name + WITH, equal, name), (name + WITHOUT, without, name)]
            for who, worker, what in turn if number % 2 else reversed(turn):
                seconds = worker.run(what)
                if number >= 0:
                    samples[who].append(seconds)
    ours = samples.pop("wherry")
    return [
        compared("engine: create, start, wait, remove; none", name, ours, theirs)
        for name, theirs in samples.items()
        if statistics.median(theirs)
    ]
