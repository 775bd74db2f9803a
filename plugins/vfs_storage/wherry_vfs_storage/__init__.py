"""Storage driver `vfs`: every layer a full copy, on any file system."""
