"""Storage driver `overlay2`: layers as directories, joined by the kernel's overlay file system.

`driver` keeps the layers, `marks` has overlay's words for what is deleted, `changes` compares a layer with those below.
"""

from wherry_overlay_storage.driver import OverlayStorage

__all__ = ["OverlayStorage"]
