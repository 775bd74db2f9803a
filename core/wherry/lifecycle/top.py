"""top: the processes of a container as the host's ps(1) shows them. Source: API 1.51 ContainerTop; moby `daemon/top_unix.go`."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Collection, Sequence
from typing import Final

from wherry.errors import Conflict, InvalidRequest, Unavailable
from wherry.house import House

PATIENCE: Final = 10.0
"""Seconds for ps: it reads from processes, and one that waits for memory or a disk may make it wait as well."""


def top(house: House, name: str, arguments: str = "-ef") -> tuple[list[str], list[list[str]]]:
    """(titles, rows) of the container's processes. Conflict if it does not run; InvalidRequest: ps does not take that."""
    container = house.containers.get(name)
    house.admit("container.top", container.id)
    run = container.run
    if container.view.status == "restarting":
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    if run is None or not container.running:
        raise Conflict(f"container {container.id} is not running")
    words = arguments.split() or ["-ef"]
    if any("\0" in word for word in words):
        raise InvalidRequest("invalid ps arguments: a NUL is in them")
    pids = {str(pid) for pid in house.exec_driver(container).call("pids", state=run.state)}
    # Those processes alone, so that nobody else's can hold it up; with some options ps does not take that.
    code, shown, complaint = _ps([*words, f"-q{','.join(pids)}"]) if pids else (1, "", "")
    if code != 0:
        code, shown, complaint = _ps(words)
    if code != 0:
        raise InvalidRequest(f"error running ps: {complaint or f'exit code {code}'}")
    answer = _table(shown, pids)
    house.tell(container, "top")
    return answer


def _ps(words: Sequence[str]) -> tuple[int, str, str]:
    """(exit code, what it wrote, the first line of its complaints)."""
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")}
    process = subprocess.Popen(
        ["ps", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        written, complaints = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        # Somebody has to reap it when it can end; nobody should have to wait for that.
        threading.Thread(target=process.wait, name="ps", daemon=True).start()
        raise Unavailable(f"ps did not answer within {PATIENCE:g} s; try again") from None
    lines = complaints.decode(errors="replace").splitlines()
    return process.returncode, written.decode(errors="replace"), lines[0].strip() if lines else ""


def _table(shown: str, pids: Collection[str]) -> tuple[list[str], list[list[str]]]:
    lines = shown.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidRequest("Couldn't find PID field in ps output")
    place = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return titles, [row for row in rows if len(row) > place and row[place] in pids]
