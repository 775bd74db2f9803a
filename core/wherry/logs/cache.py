"""A bounded local copy of what a driver sends away, so that `docker logs` works with every driver.

    keeper:  sink = cached(context, sink, local)          every batch goes to the copy, then to the driver
    daemon:  reader = open_reader(driver, local, context, query)

`local` is a driver that keeps logs on disk and reads them back: `json-file`, found like any other. The copy lives in
`<container>/log-cache/`, and goes with the container.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wherry.errors import Unsupported, WherryError
from wherry.logs.options import cache_options, driver_options
from wherry.plugins import Driver
from wherry.spec.log import Batch, LogContext, LogReader, LogSink, Query

UNREADABLE = "configured logging driver does not support reading"


@dataclass(slots=True)
class TeeSink:
    """Gives every batch to `copy`, then to `sink`. Trouble with the copy does not keep a batch from the driver."""

    copy: LogSink
    sink: LogSink

    @property
    def local(self) -> bool:
        return bool(getattr(self.copy, "local", False) and getattr(self.sink, "local", False))

    def write(self, batch: Batch) -> None:
        try:
            self.copy.write(batch)
        finally:
            self.sink.write(batch)

    def close(self) -> None:
        try:
            self.copy.close()
        finally:
            self.sink.close()


def cached(context: LogContext, sink: LogSink, local: Driver) -> LogSink:
    """`sink` with a copy of all that it gets, or `sink` itself if the container's options say `cache-disabled`.

    Owns `sink` from here on, also when it raises. `context.options` are the container's, ours included.
    """
    try:
        kept = _kept(context)
        if kept is None:
            return sink
        kept.directory.mkdir(mode=0o700, exist_ok=True)
        return TeeSink(local.call("open", context=kept), sink)
    except (OSError, WherryError):
        sink.close()
        raise


def open_sink(driver: Driver, local: Driver | None, context: LogContext) -> LogSink:
    """What a keeper writes to: the driver's sink, with a cache where the driver cannot read back."""
    sink: LogSink = driver.call("open", context=_for_driver(context))
    return sink if local is None or driver.has("read") else cached(context, sink, local)


def open_reader(driver: Driver, local: Driver | None, context: LogContext, query: Query) -> LogReader:
    """What `docker logs` reads from: the driver if it reads back, else the cache. Unsupported if there is neither."""
    reader: LogReader
    if driver.has("read"):
        reader = driver.call("read", context=_for_driver(context), query=query)
        return reader
    kept = _kept(context)
    if local is None or kept is None or not local.has("read"):
        raise Unsupported(UNREADABLE)
    reader = local.call("read", context=kept, query=query)
    return reader


def _for_driver(context: LogContext) -> LogContext:
    return replace(context, options=driver_options(context.options))


def _kept(context: LogContext) -> LogContext | None:
    options = cache_options(context.options)
    if options is None:
        return None
    return replace(context, directory=context.directory / "log-cache", options=options)
