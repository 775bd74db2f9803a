"""Many containers at once: clients side by side start them, and remove them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.daemons import Daemon
from bench.figures import Row, quantile

CLIENTS = 8


def crowd(wherry: Daemon, dockerd: Daemon, containers: int) -> list[Row]:
    """`containers` by `docker run -d`, 8 clients; all run at the end; then `docker rm -f` of each, 8 clients."""
    ours, theirs = _one(wherry, containers), _one(dockerd, containers)
    rows = []
    for verb, (my_total, mine), (peers_total, peers) in zip(("run -d", "rm -f"), ours, theirs, strict=True):
        what = f"{containers} × docker {verb}, {CLIENTS} clients"
        rows.append(Row(what=f"{what}: all", unit="s", peer="dockerd", ours=my_total, theirs=peers_total))
        rows.append(
            Row(
                what=f"{what}: each (p50, p99)",
                unit="ms",
                peer="dockerd",
                ours=statistics.median(mine) * 1000,
                theirs=statistics.median(peers) * 1000,
                ours_high=quantile(mine, 0.99) * 1000,
                theirs_high=quantile(peers, 0.99) * 1000,
            )
        )
    return rows


def _one(daemon: Daemon, containers: int) -> list[tuple[float, list[float]]]:
    names = [f"bench-{number}" for number in range(containers)]
    daemon.docker("run", "--rm", "busybox", "true")
    answers = [
        _together(daemon, [("run", "-d", "--name", name, "busybox", "sleep", "86400") for name in names]),
        _together(daemon, [("rm", "-f", name) for name in names]),
    ]
    daemon.clear()
    return answers


def _together(daemon: Daemon, commands: Sequence[tuple[str, ...]]) -> tuple[float, list[float]]:
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        each = list(clients.map(lambda argv: daemon.timed(*argv), commands))
    return time.perf_counter() - started, each
