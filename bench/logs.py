"""How fast output becomes a log: a container prints a file as fast as it can, until all of it is in the log file."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bench.daemons import Daemon
from bench.figures import Row

LINE = b'127.0.0.1 - - [24/Nov/2026:13:59:01 +0000] "GET /item/%07d HTTP/1.1" 200 512 "-" "curl/8"\n'
PATIENCE = 300.0


def throughput(wherry: Daemon, dockerd: Daemon, lines: int, rounds: int) -> list[Row]:
    """Lines per second through json-file, from `docker start` to the last line in the file."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(lines / _one(wherry, lines))
        theirs.append(lines / _one(dockerd, lines))
    return [
        Row(
            what=f"log of {lines / 1e6:g} M lines, json-file (best of {rounds})",
            unit="lines/s",
            peer="dockerd",
            ours=max(ours),
            theirs=max(theirs),
            better="more",
        )
    ]


def _one(daemon: Daemon, lines: int) -> float:
    source = daemon.root / "lines"
    if not source.exists():
        source.write_bytes(b"".join(LINE % number for number in range(lines)))
    daemon.docker(
        "create", "--name", "bench-log", "--network", "none", "-v", f"{source}:/lines:ro",
        "--log-driver", "json-file", "--log-opt", "max-size=4g", "busybox", "cat", "/lines",
    )  # fmt: skip
    log = Path(daemon.docker("inspect", "--format", "{{.LogPath}}", "bench-log") or "/nonexistent")
    started = time.perf_counter()
    daemon.docker("start", "bench-log")
    if not log.name.endswith(".log"):
        log = Path(daemon.docker("inspect", "--format", "{{.LogPath}}", "bench-log"))
    size = _settled(log, lines, started + PATIENCE)
    elapsed = time.perf_counter() - started
    daemon.clear()
    if size < lines:
        raise RuntimeError(f"{daemon.name} logged {size} of {lines} lines in {PATIENCE} s")
    return elapsed


def _settled(log: Path, lines: int, deadline: float) -> int:
    """Wait until the file has all lines; answers how many. The last line's number says it, so a look is cheap."""
    last = b"item/%07d" % (lines - 1)
    while time.perf_counter() < deadline:
        if log.exists():
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - 4096))
                if last in file.read():
                    counted = subprocess.run(["wc", "-l", log], capture_output=True, check=True).stdout
                    return int(counted.split()[0])
        time.sleep(0.002)
    return 0
