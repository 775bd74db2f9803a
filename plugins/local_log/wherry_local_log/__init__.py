"""Log driver `local`: a container's lines as they are, in files that are rotated and compressed.

options     what a user may set
lines       a batch → lines of the file, and the way back

All else, from rotation to following, is `wherry.logfiles`.
"""

from wherry_local_log.driver import LocalLog

__all__ = ["LocalLog"]
