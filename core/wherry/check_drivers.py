"""`python -m wherry.check_drivers`: import every installed driver, hold it against its contract, print what is wrong.

A program of its own, so that the daemon never imports a driver that it does not use. Prints a JSON list of
[kind, name, reason].
"""

from __future__ import annotations

import contextlib
import json
import sys

from wherry.discovery import Catalogue


def main() -> int:
    # What a driver prints while it is imported must not be taken for the answer.
    with contextlib.redirect_stdout(sys.stderr):
        wrong = Catalogue().check()
    json.dump([[kind, name, reason] for (kind, name), reason in wrong.items()], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
