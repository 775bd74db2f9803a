"""Exec driver `native`: containers by the kernel's own calls, with no runtime program."""
