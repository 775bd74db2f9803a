"""What every verb is given besides its own flags: the daemon that was named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from wherry.cli.connection import Client

USAGE: Final = 125
"""The exit code where the command line itself is wrong, as docker's."""


@dataclass(slots=True)
class Session:
    """`hosts` is all that -H said, which only `wherry daemon` may repeat."""

    hosts: list[str] = field(default_factory=list)
    debug: bool = False

    @property
    def client(self) -> Client:
        return Client(self.hosts[-1] if self.hosts else "")


class UsageError(Exception):
    """The command line is wrong; the message is docker's where docker has one."""
