"""`python -m bench`: measure what was asked for, show the table, leave nothing behind."""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

from bench.crowd import crowd
from bench.daemons import CLIENT, Daemon, Dockerd, PeerMissing, Wherry
from bench.enclosure import remove_cgroups
from bench.figures import Row, table
from bench.latency import execs, runs
from bench.logs import throughput
from bench.memory import memory
from bench.runtime import runtimes

Beside = Callable[[Daemon, Daemon, bool], list[Row]]

BESIDE_DOCKERD: Final[dict[str, tuple[str, Beside]]] = {
    "run": ("docker run, one at a time", lambda w, d, quick: runs(w, d, 5 if quick else 25)),
    "exec": ("docker exec", lambda w, d, quick: execs(w, d, 10 if quick else 50)),
    "memory": ("memory", lambda w, d, quick: memory(w, d, 5 if quick else 20)),
    "logs": (
        "log throughput",
        lambda w, d, quick: throughput(w, d, 200_000 if quick else 1_000_000, 1 if quick else 3),
    ),
    "crowd": ("many containers at once", lambda w, d, quick: crowd(w, d, 12 if quick else 50)),
}
ALONE: Final = "engine"


@dataclass(frozen=True, slots=True)
class Options:
    quick: bool
    only: tuple[str, ...]
    directory: Path


def main() -> int:
    options = _options()
    if os.geteuid() != 0:
        print(
            "bench needs root: it starts daemons in namespaces of their own (sudo make bench)",
            file=sys.stderr,
        )
        return 1
    signal.signal(signal.SIGTERM, _leave)
    rows: list[Row] = []
    failures: list[str] = []
    started = time.monotonic()
    load = os.getloadavg()[0]
    try:
        with _directory(options.directory) as directory:
            _measure(options, directory, rows, failures)
    except KeyboardInterrupt:
        failures.append("interrupted: what follows is what was measured until then")
    if rows:
        print(
            f"\n{_machine()}; load {load:.1f} at the start; {time.monotonic() - started:.0f} s\n\n{table(rows)}\n"
        )
        print("wherry, peer: the median, or the figure itself. high: the 95th percentile, or as said.")
        print("×: how many times better wherry is; below 1 the peer wins.")
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _options() -> Options:
    names = (ALONE, *BESIDE_DOCKERD)
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure wherry beside dockerd, crun and runc."
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", default="", metavar="NAME,…", help=f"only these: {', '.join(names)}")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/var/lib/wherry-bench"),
        help="where roots are made and removed [%(default)s]",
    )
    said = parser.parse_args()
    only = tuple(filter(None, said.only.split(",")))
    if unknown := set(only) - set(names):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return Options(quick=said.quick, only=only or names, directory=said.directory)


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _directory(directory: Path) -> Iterator[Path]:
    """A directory of ours alone; it and our cgroups are gone at the end, also those of a run that was killed."""
    lock = os.open(f"{tempfile.gettempdir()}/wherry-bench.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("bench: another benchmark is running; figures of two would mean nothing") from None
    _clear(directory)
    directory.mkdir(parents=True, mode=0o711)
    try:
        yield directory
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _clear(directory)
        Path(f"{tempfile.gettempdir()}/wherry-bench.lock").unlink(missing_ok=True)
        os.close(lock)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _clear(directory: Path) -> None:
    remove_cgroups()
    shutil.rmtree(directory, ignore_errors=True)


def _measure(options: Options, directory: Path, rows: list[Row], failures: list[str]) -> None:
    if ALONE in options.only:
        _step("the engine alone, against crun and runc")
        _guarded(lambda: runtimes(directory, 10 if options.quick else 50), rows, failures)
    beside = [name for name in options.only if name != ALONE]
    if not beside:
        return
    wherry, dockerd = (
        Wherry(name="wherry", root=directory / "w"),
        Dockerd(name="dockerd", root=directory / "d"),
    )
    try:
        _step("starting both daemons")
        ours, theirs = wherry.begin(), dockerd.begin()
        rows.append(
            Row(
                what="daemon start until it answers",
                unit="ms",
                peer="dockerd",
                ours=ours * 1000,
                theirs=theirs * 1000,
            )
        )
        for name in beside:
            title, measure = BESIDE_DOCKERD[name]
            _step(title)
            _guarded(partial(measure, wherry, dockerd, options.quick), rows, failures)
    except (PeerMissing, RuntimeError) as error:
        failures.append(str(error))
    finally:
        wherry.close()
        dockerd.close()


def _guarded(measure: Callable[[], list[Row]], rows: list[Row], failures: list[str]) -> None:
    """A measurement that fails is named, and the others go on."""
    try:
        rows += measure()
    except (OSError, RuntimeError) as error:
        failures.append(str(error))


def _step(title: str) -> None:
    print(f"… {title}", file=sys.stderr, flush=True)


def _machine() -> str:
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, client {CLIENT}"


if __name__ == "__main__":
    sys.exit(main())
