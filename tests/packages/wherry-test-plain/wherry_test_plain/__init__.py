"""A log driver as the guide has it: whole lines, appended to a file."""

from dataclasses import dataclass
from typing import BinaryIO

from wherry.spec import hookimpl
from wherry.spec.log import Batch, LogContext, LogSink


class PlainLog:
    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        return PlainSink((context.directory / "plain.log").open("ab"))


@dataclass
class PlainSink:
    file: BinaryIO

    def write(self, batch: Batch) -> None:
        self.file.write(batch.data)

    def close(self) -> None:
        self.file.close()
