"""Byte streams from outside: told apart by their first bytes, decompressed, measured while they pass.

What a decompressor complains about is the sender's fault: InvalidRequest.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from wherry.errors import InvalidRequest, Unsupported

CHUNK: Final = 1024 * 1024
_HEAD: Final = 6
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Metered(io.RawIOBase):
    """A stream that tells every chunk it hands on to `see`; of `source` only `read` is used."""

    def __init__(
        self, source: BinaryIO, see: Callable[[bytes], object] | None = None, head: bytes = b""
    ) -> None:
        super().__init__()
        self._source, self._see, self._head = source, see, head

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._head:
            cut = len(self._head) if size < 0 else size
            data, self._head = self._head[:cut], self._head[cut:]
        else:
            data = self._source.read(CHUNK if size < 0 else size)
        if self._see is not None and data:
            self._see(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK), b""))


class Section(io.RawIOBase):
    """`size` bytes of an open file from `offset`, read without moving the file's position."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        super().__init__()
        self._descriptor, self._offset, self._left = descriptor, offset, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:

        wanted = self._left if size < 0 else min(size, self._left)
        data = os.pread(self._descriptor, min(wanted, CHUNK) if size >= 0 else wanted, self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Strict(io.RawIOBase):
    """What a decompressor gives, its complaints turned into the sender's fault."""

    def __init__(self, inner: Any, kind: str) -> None:
        super().__init__()
        self._inner, self._kind = inner, kind

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._inner.read(size)
            return data
        except Exception as error:
            if _is_complaint(error):
                raise InvalidRequest(f"the {self._kind} stream is damaged: {error}") from error
            raise

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _is_complaint(error: Exception) -> bool:
    if isinstance(error, EOFError | zlib.error):
        return True
    name = type(error).__name__
    return name in ("BadGzipFile", "IsalError", "LZMAError", "ZstdError", "error") or (
        type(error) is OSError and error.errno is None
    )


def opened(stream: BinaryIO, see: Callable[[bytes], object] | None = None) -> tuple[BinaryIO, str]:
    """(the stream decompressed, how it was compressed or ""). `see` is told the bytes as they came."""
    head = b""
    while len(head) < _HEAD and (more := stream.read(_HEAD - len(head))):
        head += more
    source: Any = Metered(stream, see, head)
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")
    if not kind:
        return source, ""
    buffered = io.BufferedReader(source, CHUNK)
    if kind == "gzip":
        from isal import igzip

        inner: Any = igzip.IGzipFile(fileobj=buffered, mode="rb")  # type: ignore[no-untyped-call]
    elif kind == "bzip2":
        import bz2

        inner = bz2.BZ2File(buffered)
    elif kind == "xz":
        import lzma

        inner = lzma.LZMAFile(buffered)  # noqa: SIM115 (closed with the stream below it)
    else:
        inner = _zstd(buffered)
    strict: Any = _Strict(inner, kind)
    return strict, kind


def _zstd(stream: Any) -> Any:
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ImportError as error:
        raise Unsupported(
            "the archive is compressed with zstd: install the Python package zstandard"
        ) from error
    return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)


class Measure:
    """The digest and length of what it is told."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def __call__(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
