"""Logs that are kept in files of lines: written, rotated, compressed, searched and followed. For log drivers.

A driver that keeps a container's log on disk brings a `Form`, how a record is written as a line, and has the rest:

    FORM = Form(decoder=MyDecoder)

    def open(self, context):  return LineSink(path, MyEncoder(), FORM, limits(options))
    def read(self, context, query):  return LineReader(path, FORM, query)

form      what a line looks like
limits    how large, how many, compressed or not
sink      the file that is written
rotation  the names of the files, and what is done with the full ones
files     the same, as a reader in another process finds them meanwhile
search    where to begin to read
reader    a position in a log, which can be read again when there is more
times     RFC 3339
"""

from wherry.logfiles.form import Form, LineDecoder, LineEncoder
from wherry.logfiles.limits import Limits, limits
from wherry.logfiles.reader import LineReader
from wherry.logfiles.sink import LineSink

__all__ = ["Form", "Limits", "LineDecoder", "LineEncoder", "LineReader", "LineSink", "limits"]
