"""What an extension is: it sees, and may veto or amend, what is asked of the engine and of any driver.

`admit` comes before every engine operation, `amend` and then `check` at start and exec on the final command. In the
daemon only. Besides these an extension may implement any hook of any kind as a pluggy wrapper
(`@hookimpl(wrapper=True)`); wrappers of `start`, `exec` and `open` run in keepers and should only observe there.

An extension whose class says `REQUIRED = True` fails closed: while it is broken, what it guards is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wherry.spec.command import Command
from wherry.spec.markers import hookspec

SPEC = (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: uid and pid of a local client (SO_PEERCRED), or the name in a TLS certificate."""

    uid: int | None = None
    pid: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked: an operation's name (`container.create`, `container.kill`, …), on what, and its parsed fields."""

    operation: str
    subject: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


class ExtensionSpec:
    """The hooks of an extension. All are optional."""

    @hookspec
    def admit(self, request: Request, caller: Caller) -> None:
        """Refuse by raising Forbidden, with the reason. Since 1.0."""

    @hookspec
    def amend(self, command: Command) -> Command | None:
        """Answer another command to run, or None to leave it. Since 1.0."""

    @hookspec
    def check(self, command: Command) -> None:
        """Refuse the final command by raising Forbidden. Since 1.0."""

    @hookspec
    def observe(self, event: Mapping[str, Any]) -> None:
        """Every event of the engine, in order, after the fact. What it raises is logged. Since 1.0."""
