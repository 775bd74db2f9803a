"""`docker run` and `docker exec`, one at a time: what a person at a terminal waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.daemons import Daemon
from bench.figures import Row, compared

WARM: int = 2


def alternate(
    rounds: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Times of both, taken in turns: A B, B A, A B, …, after a few of each that do not count."""
    mine: list[float] = []
    peers: list[float] = []
    for number in range(-WARM, rounds):
        pair = [(ours, mine), (theirs, peers)]
        for measure, samples in pair if number % 2 else reversed(pair):
            seconds = measure()
            if number >= 0:
                samples.append(seconds)
    return mine, peers


def runs(wherry: Daemon, dockerd: Daemon, rounds: int) -> list[Row]:
    """`docker run --rm busybox true`, with the default bridge and without a network."""
    rows = []
    for network in ("bridge", "none"):
        argv = ("run", "--rm", "--network", network, "busybox", "true")
        ours, theirs = alternate(rounds, partial(wherry.timed, *argv), partial(dockerd.timed, *argv))
        rows.append(compared(f"docker run --rm busybox true, {network}", "dockerd", ours, theirs))
    # What every figure above contains: the program itself, asking for next to nothing.
    ours, theirs = alternate(rounds, lambda: wherry.timed("ps", "-q"), lambda: dockerd.timed("ps", "-q"))
    rows.append(compared("docker ps: mostly the client itself", "dockerd", ours, theirs))
    return rows


def execs(wherry: Daemon, dockerd: Daemon, rounds: int) -> list[Row]:
    """`docker exec c true` in a container that idles."""
    for daemon in (wherry, dockerd):
        daemon.docker("run", "-d", "--name", "bench-exec", "--network", "none", "busybox", "sleep", "86400")
    argv = ("exec", "bench-exec", "true")
    ours, theirs = alternate(rounds, lambda: wherry.timed(*argv), lambda: dockerd.timed(*argv))
    for daemon in (wherry, dockerd):
        daemon.clear()
    return [compared("docker exec c true", "dockerd", ours, theirs)]
