"""What a driver is: one module per kind, with its hook specifications and value types.

A driver's author imports from here, from `wherry.errors` and from `wherry.linux`, and from nothing else of wherry.
"""

from wherry.spec.markers import hookimpl, hookspec

__all__ = ["hookimpl", "hookspec"]
