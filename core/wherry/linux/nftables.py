"""libnftables by ctypes: one call, one transaction: libnftables(3).

The library is Debian's libnftables1. A handle speaks to the network namespace it was made in and keeps a cache that it
renews by itself when somebody else changed the ruleset; adding an element to a map costs 0.04 ms.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any, Final

LIBRARY: Final = "libnftables.so.1"


class NftError(Exception):
    """A transaction that the library or the kernel refused; nothing of it happened. `str` is what nft says."""


class Nft:
    """A handle of libnftables. OSError if the library is not there. Safe to share: calls wait for each other."""

    def __init__(self) -> None:
        self._library = _library()
        self._lock = threading.Lock()
        self._context: int | None = self._library.nft_ctx_new(0)
        if not self._context:
            raise OSError(f"{LIBRARY} could not be set up")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> str:
        """Do all commands, in the language of nft(8), or none; answers what they print."""
        with self._lock:
            if self._context is None:
                raise NftError("the handle is closed")
            failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            printed = self._library.nft_ctx_get_output_buffer(self._context).decode(errors="replace")
            said = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        if failed:
            raise NftError(" ".join(said.split()) or f"failed with {failed}")
        return str(printed)

    def close(self) -> None:
        with self._lock:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None


@cache
def _library() -> Any:
    library = ctypes.CDLL(LIBRARY)
    for name, result, *arguments in (
        ("nft_ctx_new", ctypes.c_void_p, ctypes.c_uint32),
        ("nft_ctx_free", None, ctypes.c_void_p),
        ("nft_ctx_buffer_output", ctypes.c_int, ctypes.c_void_p),
        ("nft_ctx_buffer_error", ctypes.c_int, ctypes.c_void_p),
        ("nft_ctx_get_output_buffer", ctypes.c_char_p, ctypes.c_void_p),
        ("nft_ctx_get_error_buffer", ctypes.c_char_p, ctypes.c_void_p),
        ("nft_run_cmd_from_buffer", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p),
    ):
        function = getattr(library, str(name))
        function.restype, function.argtypes = result, arguments
    return library
