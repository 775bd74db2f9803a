"""A bounded local copy of what a driver sends away, so that `docker logs` works with every driver.

    keeper:  every batch goes to the copy, in the loop, and then to the driver's sink, which may be slow
    daemon:  reader = open_reader(driver, local, context, query)

`local` is a driver that keeps logs on disk and reads them back: `json-file`, found like any other. The copy lives in
`<container>/log-cache/`, and goes with the container.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from wherry.errors import Unsupported
from wherry.logs.options import cache_options, driver_options
from wherry.plugins import Driver
from wherry.spec.log import LogContext, LogReader, Query

LOCAL: Final = "json-file"
"""The log driver that keeps the copy, if it is installed."""

UNREADABLE: Final = "configured logging driver does not support reading"


def driver_context(context: LogContext) -> LogContext:
    """What the container's own driver is told. `context.options` are the container's, ours included."""
    return replace(context, options=driver_options(context.options))


def copy_context(driver: Driver, context: LogContext) -> LogContext | None:
    """What `local` is told of the copy; None where there is none: the driver reads back, or `cache-disabled`."""
    options = None if driver.has("read") else cache_options(context.options)
    return (
        None
        if options is None
        else replace(context, directory=context.directory / "log-cache", options=options)
    )


def open_reader(driver: Driver, local: Driver | None, context: LogContext, query: Query) -> LogReader:
    """What `docker logs` reads from: the driver if it reads back, else the copy. Unsupported if there is neither."""
    reader: LogReader
    if driver.has("read"):
        reader = driver.call("read", context=driver_context(context), query=query)
        return reader
    kept = copy_context(driver, context)
    if local is None or kept is None or not local.has("read"):
        raise Unsupported(UNREADABLE)
    reader = local.call("read", context=kept, query=query)
    return reader
