"""Prints the pinned versions of the named dependency groups of pyproject.toml, one requirement a line.

pip reads such groups itself since 25.1; a fresh Debian's is older. `make setup` pipes this into `pip install -r`.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    for group in sys.argv[1:]:
        print(*groups[group], sep="\n")
