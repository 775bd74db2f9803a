"""Exec driver `native`: containers by the kernel's own calls, with no runtime program."""

from wherry_native_exec.driver import NativeExec

__all__ = ["NativeExec"]
