"""The form of a line: time, stream, whether it is whole, and the text as the container wrote it, byte by byte.

    2026-01-01T00:00:00.000000001Z stdout F hello
    2026-01-01T00:00:00.000000002Z stderr P the beginning of a line that goes on

`P` is for a piece of a line, and for a last line that has no newline. It is the format of the Kubernetes container
runtime interface, which collectors of logs read. No Python code runs per line when it is written.
Source: Kubernetes "CRI logging", kubelet `pkg/kubelet/kuberuntime/logs`.
"""

from __future__ import annotations

from typing import Final

from wherry.logfiles.times import Stamps, Times
from wherry.spec.log import Batch, Record, Stream

_STREAMS: Final[dict[bytes, Stream]] = {b"stdout": "stdout", b"stderr": "stderr"}
_LAST: Final = [b"%03dZ " % i for i in range(1000)]


class Encoder:
    """Makes lines of batches."""

    __slots__ = ("_stamps",)

    def __init__(self) -> None:
        self._stamps: Final = Stamps()

    def encode(self, batch: Batch) -> bytes:
        """The records of a batch, each on a line of its own."""
        lines = batch.data.split(b"\n")
        rest = lines.pop()
        count = len(lines)
        stream = batch.stream.encode()
        whole, piece = stream + b" F ", stream + b" P "
        pieces: list[bytes] = [b""] * (4 * count)
        now, done = batch.time_ns, 0
        while done < count:
            micros, first = divmod(now, 1000)
            some = min(count - done, 1000 - first)
            pieces[4 * done : 4 * (done + some) : 4] = [self._stamps.micros(micros)] * some
            pieces[4 * done + 1 : 4 * (done + some) : 4] = _LAST[first : first + some]
            done += some
            now += some
        pieces[2::4] = [whole] * count
        pieces[3::4] = [line + b"\n" for line in lines]
        if rest:
            micros, first = divmod(now, 1000)
            pieces += [self._stamps.micros(micros), _LAST[first], piece, rest, b"\n"]
        return b"".join(pieces)


class Decoder:
    """Makes records of lines; what is no record is counted in `bad` and passed over."""

    __slots__ = ("_times", "bad")

    def __init__(self) -> None:
        self.bad = 0
        self._times: Final = Times()

    def decode(self, chunk: bytes) -> list[Record]:
        """The records in `chunk`, which ends in a newline."""
        found = [self.line(line) for line in chunk.split(b"\n")[:-1]]
        good = [record for record in found if record is not None]
        self.bad += len(found) - len(good)
        return good

    def line(self, line: bytes) -> Record | None:
        """The record on one line, with or without its newline, or None; counts nothing."""
        # NULs in front are what a file that was truncated under its writer begins with.
        words = line.lstrip(b"\0").removesuffix(b"\n").split(b" ", 3)
        try:
            when, stream, tag, text = words
            partial = {b"F": False, b"P": True}[tag]
            return Record(
                time_ns=self._times.read(when.decode("ascii")),
                stream=_STREAMS[stream],
                data=text if partial else text + b"\n",
                partial=partial,
            )
        except (ValueError, KeyError):
            return None
