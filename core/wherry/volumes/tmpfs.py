"""Options of a tmpfs in words, as `--tmpfs /run:size=1m,exec` and `TmpfsOptions` have them: what they mean together.

Source: API 1.51 HostConfig.Tmpfs, Mount.TmpfsOptions; tmpfs(5); moby `MergeTmpfsOptions` for the rule that the last wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wherry.errors import InvalidRequest
from wherry.spec.container import TmpfsOptions
from wherry.volumes.text import PROPAGATIONS

_USUAL: Final = ("noexec", "nosuid", "nodev")
_SAME: Final = {
    "ro": "rw", "rw": "rw", "exec": "exec", "noexec": "exec", "suid": "suid", "nosuid": "suid", "dev": "dev", "nodev": "dev",
    "atime": "atime", "noatime": "atime", "relatime": "atime", "strictatime": "atime", "norelatime": "atime",
    "nostrictatime": "atime", "diratime": "diratime", "nodiratime": "diratime",
    "sync": "sync", "async": "sync", "dirsync": "dirsync", "mand": "mand", "nomand": "mand",
    **dict.fromkeys(PROPAGATIONS, "propagation"),
}  # fmt: skip
"""Words about the same thing: the last one counts."""
_KEYS: Final = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_NOTHING: Final = frozenset(
    {"rw", "exec", "suid", "dev", "atime", "norelatime", "nostrictatime", "async", "nomand", "mand"}
)
"""What a new tmpfs is anyway, and mandatory locks, which Linux has no more."""
_ALLOWED: Final = frozenset({"exec", "noexec"})
_SUFFIXES: Final = ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """A tmpfs as the kernel is asked for it."""

    flags: tuple[str, ...]
    """Attributes of the mount, in the words of mount(8)."""
    data: str
    """Options of the file system, comma separated."""
    read_only: bool = False
    propagation: str = ""


def parse(words: str) -> Tmpfs:
    """What `words` (comma separated) say over Docker's defaults: noexec, nosuid, nodev. InvalidRequest names the word."""
    chosen: dict[str, str] = {}
    for word in (*_USUAL, *filter(None, words.split(","))):
        if word == "defaults":
            continue
        key, equals, value = word.partition("=")
        if word not in _SAME and not (equals and key in _KEYS):
            shown = f'"{key}" "{value}"' if equals else f'"{key}"'
            raise InvalidRequest(f"invalid tmpfs option [{shown}]")
        about = _SAME.get(word, key)
        chosen.pop(about, None)
        chosen[about] = word
    propagation = chosen.pop("propagation", "")
    read_only = chosen.pop("rw", "rw") == "ro"
    data = [word for about, word in chosen.items() if about in _KEYS or word in ("sync", "dirsync")]
    flags = [word for word in chosen.values() if word not in data and word not in _NOTHING]
    return Tmpfs(flags=tuple(flags), data=",".join(data), read_only=read_only, propagation=propagation)


def words_of(options: TmpfsOptions | None, *, read_only: bool) -> str:
    """The words that `--mount type=tmpfs` stands for. InvalidRequest."""
    words = ["ro"] if read_only else []
    if options is None:
        return ",".join(words)
    if options.mode:
        words.append(f"mode={options.mode:o}")
    if options.size_bytes:
        words.append(f"size={_size(options.size_bytes)}")
    for option in options.options or ():
        if len(option) not in (1, 2):
            raise InvalidRequest("invalid option array length")
        if option[0] not in _ALLOWED or len(option) == 2:
            raise InvalidRequest(f"invalid option: {'='.join(option)}")
        words.append(option[0])
    return ",".join(words)


def _size(size_bytes: int) -> str:
    for unit, suffix in _SUFFIXES:
        if size_bytes % unit == 0:
            return f"{size_bytes // unit}{suffix}"
    return str(size_bytes)
