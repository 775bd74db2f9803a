"""wherry: a container engine whose every moving part is a driver.

`from wherry import Engine` runs containers in any Python program; it is imported only when it is asked for, because
drivers and the command line import this package too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wherry.engine import Engine

__all__ = ["Engine"]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from wherry.engine import Engine

        return Engine
    raise AttributeError(f"module 'wherry' has no attribute {name!r}")
