"""Which `--log-opt` are wherry's own, and what they mean."""

from __future__ import annotations

import pytest

from wherry.errors import InvalidRequest
from wherry.logs.options import Delivery, cache_options, check, delivery, driver_options, merge_options
from wherry.plugins import Driver, Resolved, load


@pytest.fixture
def json_file() -> Driver:
    return load(
        Resolved(kind="log", name="json-file", module="wherry_jsonfile_log", attribute="JsonFileLog"), None
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Delivery(mode="blocking", max_buffer_size=1 << 20)),
        ({"mode": ""}, Delivery()),
        ({"mode": "non-blocking"}, Delivery(mode="non-blocking", max_buffer_size=1 << 20)),
        ({"mode": "non-blocking", "max-buffer-size": "4m"}, Delivery(mode="non-blocking", max_buffer_size=4 << 20)),
    ],
)  # fmt: skip
def test_delivery(options: dict[str, str], expected: Delivery) -> None:
    """Blocking is the default; the buffer counts in powers of 1024."""
    assert delivery(options) == expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mode": "sometimes"}, "logging mode not supported: sometimes"),
        ({"max-buffer-size": "1m"}, "only supported with 'mode=non-blocking'"),
        ({"mode": "non-blocking", "max-buffer-size": "0"}, "must be a positive number"),
        ({"mode": "non-blocking", "max-buffer-size": "much"}, "much"),
        ({"cache-disabled": "perhaps"}, "cache-disabled"),
        ({"max-sise": "1m"}, "unknown log opt 'max-sise'"),
    ],
)
def test_nonsense_is_refused(json_file: Driver, options: dict[str, str], complaint: str) -> None:
    """Ours and the driver's, each by name, in Docker's words where it has some."""
    with pytest.raises(InvalidRequest, match=complaint):
        check(json_file, options)


def test_the_driver_sees_only_its_own(json_file: Driver) -> None:
    """`mode` and its like are no business of a driver's, which refuses what it does not know."""
    options = {"mode": "non-blocking", "max-buffer-size": "1m", "cache-disabled": "true", "max-size": "1m"}
    assert driver_options(options) == {"max-size": "1m"}
    check(json_file, options)


def test_the_container_s_options_beat_the_daemon_s() -> None:
    """One by one, not all or nothing."""
    merged = merge_options({"max-size": "1m", "max-file": "2"}, {"max-size": "3m"})
    assert merged == {"max-size": "3m", "max-file": "2"}


def test_the_cache_is_bounded() -> None:
    """20 MB × 5 unless the options say otherwise, and none if they say so."""
    assert cache_options({}) == {"max-size": "20m", "max-file": "5"}
    assert cache_options({"cache-max-size": "1m", "mode": "blocking"}) == {"max-size": "1m", "max-file": "5"}
    assert cache_options({"cache-disabled": "true"}) is None
