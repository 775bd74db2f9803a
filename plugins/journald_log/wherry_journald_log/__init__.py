"""Log driver journald: lines go to systemd's journal."""

from wherry_journald_log.driver import JournaldLog

__all__ = ["JournaldLog"]
