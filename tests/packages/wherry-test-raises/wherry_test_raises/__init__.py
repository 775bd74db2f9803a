"""A driver whose module cannot be imported."""

raise RuntimeError("this module is broken on purpose")
