"""What was measured, and how it is shown: samples, rows, the table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(samples: Sequence[float], part: float) -> float:
    """The smallest sample that at least `part` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * int(part * 1000) // 1000) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: one quantity, ours and a peer's. `better` says which way is good."""

    what: str
    unit: str
    peer: str
    ours: float | None
    theirs: float | None
    ours_high: float | None = None
    """The 95th (or, where `what` says so, another) percentile."""
    theirs_high: float | None = None
    better: str = "less"

    @property
    def ratio(self) -> float | None:
        """How many times better ours is: above 1 we win."""
        if not self.ours or not self.theirs:
            return None
        return self.theirs / self.ours if self.better == "less" else self.ours / self.theirs


def compared(
    what: str, peer: str, ours: Sequence[float], theirs: Sequence[float], *, high: float = 0.95
) -> Row:
    """A row of times: seconds measured, milliseconds shown, the median and a high percentile."""
    return Row(
        what=what,
        unit="ms",
        peer=peer,
        ours=_ms(statistics.median(ours)) if ours else None,
        theirs=_ms(statistics.median(theirs)) if theirs else None,
        ours_high=_ms(quantile(ours, high)) if ours else None,
        theirs_high=_ms(quantile(theirs, high)) if theirs else None,
    )


def _ms(seconds: float) -> float:
    return seconds * 1000


def table(rows: Sequence[Row]) -> str:
    """The rows as text. `×` is how many times better wherry is: above 1 it wins."""
    cells = [("", "unit", "wherry", "high", "peer", "", "high", "×")]
    for row in rows:
        cells.append(
            (
                row.what,
                row.unit,
                _number(row.ours),
                _number(row.ours_high),
                row.peer,
                _number(row.theirs),
                _number(row.theirs_high),
                "–" if row.ratio is None else f"{row.ratio:.2f}",
            )
        )
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    left = {0, 1, 4}
    lines = [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
