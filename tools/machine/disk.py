"""The machine's disk: what it writes, and beforehand copies of the files it reads most.

Every file of this host is there by 9p, but each opening of one is a message that takes a millisecond in an emulated machine,
and an interpreter's start opens hundreds. Copies laid where the overlay keeps what was changed hide the originals.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from .trouble import Trouble

LEFT_OUT: Final = shutil.ignore_patterns(
    ".git", "build", "dist", ".*_cache", ".hypothesis", "site-packages", "test", "config-3*"
)
"""What the tests never read, or too seldom to be copied; by 9p it is there all the same."""


def make(disk: Path, *, size_gib: int, checkout: Path) -> None:
    """A sparse ext4 image whose `upper` holds the checkout and its interpreter."""
    staged = disk.with_name("staged")
    upper = staged / "upper"
    for source in (checkout, *_interpreter(checkout)):
        target = upper / source.relative_to("/")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=LEFT_OUT, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    with disk.open("wb") as image:
        image.truncate(size_gib << 30)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", staged, disk], check=True)
    shutil.rmtree(staged)


def _interpreter(checkout: Path) -> list[Path]:
    """The library of the Python that `.venv` is made of, wherever that is, and what else an interpreter's start reads."""
    script = "import sys, sysconfig; print(sysconfig.get_path('stdlib')); print(sys._base_executable)"
    python = checkout / ".venv/bin/python"
    try:
        answer = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Trouble(f"{python} does not run ({error}): make setup") from error
    return [Path(line) for line in answer.splitlines()]
