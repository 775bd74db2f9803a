"""Log driver `json-file`: Docker's own on-disk format, with rotation.

options     what a user may set
encode      a batch → lines of the file; decode: the way back
sink        the file that is written; rotation: its names, and what is done to files once they are full
files       the same files, found by another process while they are being rotated
search      where in a file the first wanted record is
reader      all of that as a position in a container's log
"""

from wherry_jsonfile_log.driver import JsonFileLog

__all__ = ["JsonFileLog"]
