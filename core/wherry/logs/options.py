"""`--log-opt`: which options are wherry's own, for every driver, and which are the driver's.

    mode                blocking: a container whose log lags waits; non-blocking: what does not fit is dropped
    max-buffer-size     how much may wait for the driver's sink, with mode=non-blocking
    cache-disabled, cache-max-size, cache-max-file, cache-compress
                        the cache that makes `docker logs` work where the driver cannot read back

Names and meaning are Docker's; so are the units: this buffer counts in powers of 1024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wherry.errors import InvalidRequest
from wherry.plugins import Driver
from wherry.quantities import parse_size

OURS: Final = frozenset(
    {"mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
)
_CACHE_DEFAULTS: Final = {"max-size": "20m", "max-file": "5"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How batches get from the container to the driver's sink. `max_buffer_size` in bytes."""

    mode: Literal["blocking", "non-blocking"] = "blocking"
    max_buffer_size: int = 1 << 20


def merge_options(daemon: Mapping[str, str], container: Mapping[str, str]) -> dict[str, str]:
    """A container's options over the daemon's. (Those of the daemon are for its default driver only.)"""
    return {**daemon, **container}


def driver_options(options: Mapping[str, str]) -> dict[str, str]:
    """Those that the driver gets to see."""
    return {name: value for name, value in options.items() if name not in OURS}


def check(driver: Driver, options: Mapping[str, str]) -> None:
    """Refuse options that make no sense, ours and the driver's: InvalidRequest."""
    delivery(options)
    cache_options(options)
    if driver.has("check"):
        driver.call("check", options=driver_options(options))


def delivery(options: Mapping[str, str]) -> Delivery:
    """What `mode` and `max-buffer-size` say."""
    mode = options.get("mode") or "blocking"
    if mode not in ("blocking", "non-blocking"):
        raise InvalidRequest(f"logger: logging mode not supported: {mode}; there is blocking, non-blocking")
    if "max-buffer-size" not in options:
        return Delivery(mode="non-blocking" if mode == "non-blocking" else "blocking")
    if mode == "blocking":
        raise InvalidRequest("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    size = parse_size(options["max-buffer-size"])
    if size <= 0:
        raise InvalidRequest("logger: max-buffer-size must be a positive number")
    return Delivery(mode="non-blocking", max_buffer_size=size)


def cache_options(options: Mapping[str, str]) -> dict[str, str] | None:
    """The options of the driver that keeps the cache; None: there is to be none."""
    disabled = options.get("cache-disabled", "false")
    if disabled.lower() in ("1", "t", "true"):
        return None
    if disabled.lower() not in ("0", "f", "false"):
        raise InvalidRequest(f'log option cache-disabled: "{disabled}" is neither true nor false')
    prefix = "cache-"
    given = {
        name.removeprefix(prefix): value
        for name, value in options.items()
        if name in OURS and name.startswith(prefix) and name != "cache-disabled"
    }
    return _CACHE_DEFAULTS | given
