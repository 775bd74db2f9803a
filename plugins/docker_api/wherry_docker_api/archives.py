"""Files of a container as archives: `docker cp`. Source: API 1.51 /containers/{id}/archive; moby `router/container/copy.go`."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime
from typing import BinaryIO, Final

from wherry.spec.frontend import PathStat
from wherry_docker_api.answer import OK, Answer, encode
from wherry_docker_api.call import Call, Route
from wherry_docker_api.flow import download, upload

_STAT: Final = b"X-Docker-Container-Path-Stat"
_TAR: Final = b"application/x-tar"

# Go's os.FileMode, where it differs from stat(2).
_KINDS: Final = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24,
}  # fmt: skip
_BITS: Final = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


async def info(call: Call) -> Answer:
    found = await call.door.work(call.engine.stat_path, call.name, call.query.text("path"))
    return Answer(200, headers=_header(found))


async def get(call: Call) -> None:
    headers: list[tuple[bytes, bytes]] = []

    def archive(body: BinaryIO) -> None:
        call.engine.archive_path(
            call.name, call.query.text("path"), body, lambda found: headers.extend(_header(found))
        )

    await download(call, archive, _TAR, headers)


async def put(call: Call) -> Answer:
    query = call.query

    def extract(archive: BinaryIO) -> None:
        call.engine.extract(
            call.name,
            query.text("path"),
            archive,
            keep_kinds=query.flag("noOverwriteDirNonDir"),
            own=query.flag("copyUIDGID"),
        )

    await upload(call, extract)
    return OK


def _header(found: PathStat) -> tuple[tuple[bytes, bytes], ...]:
    shown = {
        "name": found.name.encode("utf-8", "replace").decode(),
        "size": found.size,
        "mode": file_mode(found.mode),
        "mtime": _time(found.mtime_ns),
        "linkTarget": found.link_target.encode("utf-8", "replace").decode(),
    }
    return ((_STAT, base64.b64encode(encode(shown))),)


def file_mode(mode: int) -> int:
    """A mode of stat(2) as Go's `os.FileMode`."""
    bits = sum(go for unix, go in _BITS.items() if mode & unix)
    return mode & 0o777 | _KINDS.get(stat.S_IFMT(mode), 0) | bits


def _time(time_ns: int) -> str:
    """RFC 3339 in UTC, with the nanoseconds that there are. Years that it cannot write are cut to those that it can."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    seconds = max(_EARLIEST, min(_LATEST, seconds))
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{text}{fraction}Z"


_EARLIEST: Final = -62135596800  # the year 1
_LATEST: Final = 253402300799  # the end of 9999

ROUTES: Final[tuple[Route, ...]] = (
    ("HEAD", "/containers/{name}/archive", info),
    ("GET", "/containers/{name}/archive", get),
    ("PUT", "/containers/{name}/archive", put),
)
