"""A root file system for tests, made of this machine's static busybox: no registry, no network.

    docker import - busybox < busybox_tar()

The bytes are the same on every call on one machine: one layer, however often it is imported.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wherry.spec.frontend import Engine

_PLACES: Final = (Path("/bin/busybox"), Path("/usr/bin/busybox"), Path("/bin/busybox-static"))

_DIRECTORIES: Final = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "lib": 0o755, "mnt": 0o755, "proc": 0o555, "root": 0o700,
    "run": 0o755, "sbin": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755,
    "usr/local": 0o755, "var": 0o755, "var/empty": 0o755, "var/log": 0o755, "var/spool": 0o755, "var/tmp": 0o1777,
    "var/www": 0o755,
}  # fmt: skip

_FILES: Final = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "bin:x:2:2:bin:/bin:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\n"
        "operator:x:37:37:Operator:/var:/bin/false\n"
        "user:x:1000:1000:A user:/home/user:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/group": (
        "root:x:0:\n"
        "daemon:x:1:\n"
        "bin:x:2:\n"
        "tty:x:5:\n"
        "audio:x:29:user\n"
        "www-data:x:33:\n"
        "staff:x:50:\n"
        "users:x:100:user\n"
        "user:x:1000:\n"
        "nogroup:x:65534:\n"
    ),
    "etc/shadow": "root:*::0:::::\nuser:*::0:::::\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": 'ID=busybox\nNAME=BusyBox\nPRETTY_NAME="BusyBox for the tests of wherry"\n',
}

_MTIME: Final = 1_700_000_000


def find_busybox() -> Path:
    """The static busybox of this machine. FileNotFoundError says what to install."""
    for place in _PLACES:
        if place.is_file():
            return place.resolve()
    raise FileNotFoundError(
        f"no static busybox in {', '.join(map(str, _PLACES))}: apt-get install busybox-static"
    )


@cache
def busybox_tar() -> bytes:
    """An uncompressed tar of a small, whole root file system: busybox with a link per applet, accounts, /tmp, /root."""
    busybox = find_busybox()
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, mode in sorted(_DIRECTORIES.items()):
            archive.addfile(_member(path, mode, tarfile.DIRTYPE))
        home = _member("home/user", 0o755, tarfile.DIRTYPE)
        home.uid = home.gid = 1000
        archive.addfile(home)
        _file(archive, "bin/busybox", busybox.read_bytes(), 0o755)
        for applet in sorted(set(applets) - {"busybox"}):
            link = _member(f"bin/{applet}", 0o777, tarfile.SYMTYPE)
            link.linkname = "/bin/busybox"
            archive.addfile(link)
        # Programs that scripts name by these paths.
        for path in ("usr/bin/env", "sbin/init"):
            link = _member(path, 0o777, tarfile.SYMTYPE)
            link.linkname = "/bin/busybox"
            archive.addfile(link)
        for path, text in sorted(_FILES.items()):
            _file(archive, path, text.encode(), 0o600 if path.endswith("shadow") else 0o644)
    return buffer.getvalue()


def busybox_tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """`busybox_tar()` and more; a member replaces what has its name, as in any tar that was appended to."""
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(path: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    """An entry for `busybox_tar_with`, owned by root."""
    made = _member(path, mode, kind)
    made.linkname = link
    return made


def tar_of(files: dict[str, bytes | str]) -> bytes:
    """A tar of regular files, mode 0644, owned by root: for a layer of a few files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            _file(archive, path, content.encode() if isinstance(content, str) else content, 0o644)
    return buffer.getvalue()


def _file(archive: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    member = _member(path, mode, tarfile.REGTYPE)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _member(path: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = kind, mode, _MTIME
    member.uname = member.gname = ""
    return member


def busybox_image(engine: Engine, reference: str = "busybox") -> str:
    """Import `busybox_tar()` into an engine; answers the image's id."""
    return engine.import_image(io.BytesIO(busybox_tar()), reference, changes=('CMD ["sh"]',))
