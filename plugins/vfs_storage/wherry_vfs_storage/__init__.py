"""Storage driver `vfs`: every layer is a whole copy of what it stands on. It works on any file system and is slow.

`driver` keeps the layers, `changes` compares one with its parent, `marks` deletes for whiteouts.
"""

from wherry_vfs_storage.driver import VfsStorage

__all__ = ["VfsStorage"]
