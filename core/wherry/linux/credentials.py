"""Whose files a thread makes, and with which capabilities: setfsuid(2), capset(2). Both belong to one thread."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_uint
from typing import Final

from wherry.linux.calls import declare, last_error

_VERSION: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two words for each set."""

_setfsuid = declare("setfsuid", c_uint)
_setfsgid = declare("setfsgid", c_uint)


class _Header(ctypes.Structure):
    _fields_ = [("version", c_uint), ("pid", c_uint)]


class _Sets(ctypes.Structure):
    _fields_ = [("effective", c_uint), ("permitted", c_uint), ("inheritable", c_uint)]


_capget = declare("capget", ctypes.POINTER(_Header), ctypes.POINTER(_Sets))
_capset = declare("capset", ctypes.POINTER(_Header), ctypes.POINTER(_Sets))


@contextmanager
def making_files_as(uid: int, gid: int) -> Iterator[None]:
    """What the calling thread makes belongs to these ids until the end of the `with`; its capabilities stay.

    A mount that shows other ids takes new files only of ids that it maps; so does an overlay of such mounts, also for
    what it makes itself, and it goes on as who mounted it. PermissionError: the ids cannot be taken.
    """
    before = _setfsuid(0xFFFFFFFF), _setfsgid(0xFFFFFFFF)  # an id that is none: only asks
    try:
        _become(uid, gid)
        yield
    finally:
        _become(*before)


def _become(uid: int, gid: int) -> None:
    _setfsgid(gid)
    _setfsuid(uid)
    if (_setfsuid(0xFFFFFFFF), _setfsgid(0xFFFFFFFF)) != (uid, gid):
        raise PermissionError(f"files cannot be made as {uid}:{gid}")
    # The kernel took those that concern files, as from somebody who is no longer root.
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()
    if _capget(ctypes.byref(header), sets) == -1:
        raise last_error()
    for word in sets:
        word.effective = word.permitted
    if _capset(ctypes.byref(header), sets) == -1:
        raise last_error()
