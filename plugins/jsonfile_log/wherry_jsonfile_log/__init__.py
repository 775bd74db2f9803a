"""Log driver `json-file`: Docker's own on-disk format, with rotation.

options     what a user may set
encode      a batch → lines of the file; decode: the way back

All else, from rotation to following, is `wherry.logfiles`.
"""

from wherry_jsonfile_log.driver import JsonFileLog

__all__ = ["JsonFileLog"]
