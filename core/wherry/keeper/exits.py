"""How a process ended, as a number and as the exit record on disk."""

from __future__ import annotations

import os
from pathlib import Path

from wherry.keeper.protocol import ExitRecord, from_json, parse, to_json


def exit_code(status: int) -> tuple[int, int | None]:
    """(code, signal) of a status of wait(2); a signal's code is 128 + its number, as a shell and Docker have it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, number
    return os.WEXITSTATUS(status), None


def write_exit(path: Path, record: ExitRecord) -> None:
    """Whole or not at all; not synced: after a crash of the machine, `boot_id` says that all has ended anyway."""
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        file.write(to_json(record))
    os.rename(aside, path)


def read_exit(path: Path) -> ExitRecord | None:
    """The record at `path`; None if there is none, ValueError if it is damaged."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse(from_json(body), ExitRecord)
