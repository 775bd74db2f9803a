"""The command `wherry`: a client of the daemon's API, with docker's verbs and flags where docker has them.

Only the module of the verb that was asked for is imported, and typer reads only that verb's flags: `wherry ps` is
back in the time that an interpreter and typer need.

    main(argv) ── verbs.VERBS ──▶ module.function(session, flags…) ──▶ exit code
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; answers the exit code. Errors are one line on stderr, never a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-v"]):
        from wherry.cli.version import short

        print(short())
        return 0
    from wherry.cli.dispatch import dispatch

    try:
        return dispatch(arguments)
    except KeyboardInterrupt:
        return 130
