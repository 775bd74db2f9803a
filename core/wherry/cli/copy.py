"""`cp`: files between a container and this machine, as archives.

The daemon archives what is at a path, and unpacks an archive in a directory. What is called how, and which directory
that is, is decided here, from what is on both sides (`copy_rules`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated

import typer

from wherry.cli import local_files
from wherry.cli.copy_rules import base, renamed, split, target
from wherry.cli.flags import flag
from wherry.cli.remote_files import Remote
from wherry.cli.session import Session
from wherry.cli.streams import write
from wherry.errors import InvalidRequest
from wherry.quantities import human_size


def cp(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="CONTAINER:PATH|PATH|-")],
    destination: Annotated[str, typer.Argument(metavar="CONTAINER:PATH|PATH|-")],
    archive: Annotated[bool, flag("-a", "--archive", help="Keep owners (of what comes out)")] = False,
    follow_link: Annotated[
        bool, flag("-L", "--follow-link", help="Follow a link that is the source")
    ] = False,
    quiet: Annotated[
        bool, flag("-q", "--quiet", help="No progress; without a terminal there is none")
    ] = False,
) -> int:
    if not source or not destination:
        raise InvalidRequest(f"{'destination' if source else 'source'} can not be empty")
    (from_container, from_path), (to_container, to_path) = split(source), split(destination)
    progress = Progress(shown=not quiet and os.isatty(1) and "-" not in (from_path, to_path))
    if from_container and to_container:
        raise InvalidRequest("copying between containers is not supported")
    if from_container:
        remote = Remote(session.client, from_container)
        size = _out(remote, from_path, to_path, progress, archive=archive, follow=follow_link)
    elif to_container:
        remote = Remote(session.client, to_container)
        size = _in(remote, from_path, to_path, progress, archive=archive, follow=follow_link)
    else:
        raise InvalidRequest("must specify at least one container source")
    progress.end(size, destination)
    return 0


def _out(remote: Remote, source: str, here: str, progress: Progress, *, archive: bool, follow: bool) -> int:
    """Answers the bytes that were copied."""
    if here != "-":
        local_files.check_output(here)
    called = base(source)
    if follow and (link := remote.stat(source)) is not None and link.is_link and link.link_target:
        source = link.link_target
    found, response = remote.get(source)
    if here == "-":
        for chunk in response.chunks():
            write(1, chunk)
        return 0
    where = local_files.target_here(here, from_directory=found.is_directory)
    old, new = base(source), where.name
    if new is None and old != called:
        new = called  # a link that was followed keeps its own name
    rename = None if new is None else partial(renamed, old=old, new=new)
    pieces = progress(response.chunks())
    local_files.unpack_here(pieces, where.directory, rename, keep_owners=archive)
    return progress.passed if found.is_directory else found.size


def _in(remote: Remote, here: str, path: str, progress: Progress, *, archive: bool, follow: bool) -> int:
    """Answers the bytes that were copied."""
    inside, found = path, remote.stat(path)
    if found is not None and found.is_link:
        inside = found.link_target
        found = remote.stat(inside)
    place = f'destination "{remote.name}:{path}"'
    if found is not None and found.oddity:
        raise InvalidRequest(f"{place} must be a directory or a regular file: got {found.oddity}")
    is_directory = found is not None and found.is_directory
    if here == "-":
        if not is_directory:
            raise InvalidRequest(f"{place} must be a directory")
        with os.fdopen(os.dup(0), "rb", 0) as stdin:
            remote.put(inside, iter(lambda: stdin.read(local_files.PIECE), b""), own=archive)
        return 0
    where, name = local_files.source_here(here, follow=follow)
    to = target(
        inside,
        exists=found is not None,
        is_directory=is_directory,
        from_directory=local_files.is_directory_here(where),
    )
    sizes: list[int] = []

    def upload(send: Callable[[bytes], None]) -> None:
        def passing(piece: bytes) -> None:
            progress.add(len(piece))
            send(piece)

        sizes.append(local_files.pack_here(where, name if to.name is None else to.name, passing))

    remote.put(to.directory, upload, own=archive)
    return sum(sizes)


class Progress:
    """How much has passed, on stderr, where somebody looks."""

    def __init__(self, *, shown: bool) -> None:
        self._shown, self._line = shown, shown and os.isatty(2)
        self._next = 0.0
        self.passed = 0

    def __call__(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.add(len(piece))
            yield piece

    def add(self, size: int) -> None:
        """So many bytes more."""
        self.passed += size
        if self._line and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            print(f"\r\x1b[KCopied {human_size(self.passed)}", end="", file=sys.stderr, flush=True)

    def end(self, size: int, place: str) -> None:
        """Say what was copied: its size, and that of the archive where it differs."""
        if not self._shown:
            return
        sizes = human_size(size)
        if size != self.passed:
            sizes += f" (transferred {human_size(self.passed)})"
        clear = "\r\x1b[K" if self._line else ""
        print(f"{clear}Successfully copied {sizes} to {place}", file=sys.stderr)
