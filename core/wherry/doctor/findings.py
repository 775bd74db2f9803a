"""What a check answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Standing = Literal["good", "lacking", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`lacking`: containers run, something is not to be had. `missing`: containers do not run. `remedy`: what to do."""

    subject: str
    standing: Standing
    detail: str
    remedy: str = ""


Check: TypeAlias = Callable[[], Finding]


def good(subject: str, detail: str) -> Finding:
    return Finding(subject=subject, standing="good", detail=detail)


def lacking(subject: str, detail: str, remedy: str) -> Finding:
    return Finding(subject=subject, standing="lacking", detail=detail, remedy=remedy)


def missing(subject: str, detail: str, remedy: str) -> Finding:
    return Finding(subject=subject, standing="missing", detail=detail, remedy=remedy)
