"""A program that runs one container per line it is told, and answers the seconds: so that starting it is not measured.

python -m bench.worker engine ROOT       the engine, embedded, on an image of this machine's busybox
python -m bench.worker runtimes BUNDLE   a line names the OCI runtime: `crun`, `runc`

bench ── "crun\\n" ──▶ worker ── crun run ──▶ … exits
bench ◀─ "0.0123\\n" ─ worker
"""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from bench.enclosure import CGROUP


def main(kind: str, place: str) -> None:
    """Answer lines on stdin until it ends."""
    if kind == "runtimes":
        _runtimes(place)
    else:
        _engine(Path(place))


def _runtimes(bundle: str) -> None:
    print("ready", flush=True)
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"}
    for number, line in zip(itertools.count(), sys.stdin, strict=False):
        started = time.perf_counter()
        done = subprocess.run(
            [line.strip(), "run", "--bundle", bundle, f"bench-{number}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
        _answer(time.perf_counter() - started, done.returncode, done.stdout.decode(errors="replace"))


def _engine(root: Path) -> None:
    import dataclasses

    from wherry import Engine
    from wherry.config import load
    from wherry.testing.images import busybox_tar

    settings = dataclasses.replace(
        load({}, None),
        data_root=root,
        exec_root=Path("/run/wherry-bench"),
        bridge="none",
        ip_forward=False,
        cgroup_parent=f"/{CGROUP}/engine",
    )
    with Engine(settings=settings) as engine:
        engine.import_image(io.BytesIO(busybox_tar()), "busybox")
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            code = engine.run("busybox", ["true"], network="none")
            _answer(time.perf_counter() - started, code, "")


def _answer(seconds: float, code: int, said: str) -> None:
    print(seconds if code == 0 else f"failed with {code}: {' '.join(said.split())}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
