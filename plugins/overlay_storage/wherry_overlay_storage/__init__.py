"""Storage driver `overlay2`: layers as directories, joined by the kernel's overlay file system."""
