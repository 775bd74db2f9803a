"""A log driver without the one method that it must have."""

from collections.abc import Mapping

from wherry.spec import hookimpl


class LackingLog:
    @hookimpl
    def check(self, options: Mapping[str, str]) -> None:
        pass
