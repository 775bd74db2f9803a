"""Configuration: what wins over what, and what someone who misspelt is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.config import Settings, load
from wherry.errors import ConfigurationError, InvalidRequest
from wherry.quantities import human_size, parse_duration, parse_size, parse_ulimit
from wherry.spec.command import Rlimit

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, name: str = "wherry.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_an_empty_file_is_the_defaults(write: Write) -> None:
    settings = load({}, write(""))
    assert settings == Settings(pidfile=Path("/run/wherry.pid"))


def test_flags_win_over_the_file_and_the_file_over_defaults(write: Write) -> None:
    file = write('exec-root = "/a"\nmtu = 1400\nlog-driver = "syslog"\n')
    settings = load({"mtu": 1300}, file)
    assert (settings.mtu, settings.log_driver, settings.exec_root) == (1300, "syslog", Path("/a"))
    assert settings.pidfile == Path("/a.pid")
    assert settings.sources["mtu"] == "--mtu"
    assert settings.sources["log-driver"] == f"{file}:3"


def test_drivers_are_selected_and_configured_by_tables(write: Write) -> None:
    settings = load(
        {"log-opt": ["tag=x"]},
        write(
            """
            [drivers]
            log = "json-file"
            frontend = ["docker", "other"]
            [log.json-file]
            max-size = "10m"
            compress = true
            [storage.overlay2]
            "mount-program" = "/x"
            """
        ),
    )
    assert (settings.log_driver, settings.frontends) == ("json-file", ("docker", "other"))
    assert settings.log_options("json-file") == {"max-size": "10m", "compress": "true", "tag": "x"}
    assert settings.log_options("syslog") == {}
    assert settings.driver_options("storage", "overlay2") == {"mount-program": "/x"}
    assert settings.driver_sources("storage", "overlay2")["mount-program"].endswith("wherry.toml:9")


def test_a_daemon_json_is_accepted(write: Write) -> None:
    document = {
        "hosts": ["unix:///x.sock"],
        "data-root": "/data",
        "log-opts": {"max-size": "10m", "max-file": 3},
        "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 1000}},
        "default-runtime": "native",
        "storage-opts": ["overlay2.size=10G"],
        "tlsverify": False,
    }
    settings = load({}, write(json.dumps(document, indent=1), "daemon.json"))
    assert settings.hosts == ("unix:///x.sock",)
    assert settings.log_opts == {"max-size": "10m", "max-file": "3"}
    assert settings.default_ulimits == (Rlimit(name="nofile", soft=1000, hard=64000),)
    assert [warning for warning in settings.warnings if "storage-opts" in warning]


def test_json_is_known_by_its_first_letter(write: Write) -> None:
    assert load({}, write('\n {"debug": true}', "configuration")).debug


WRONG = {
    "unknown key": ("a = 1\n", 'wherry.toml:1: there is no setting "a"'),
    "nearly known key": (
        "\ndebugg = true",
        'wherry.toml:2: there is no setting "debugg"; did you mean "debug"?',
    ),
    "number as text": ('mtu = "x"', 'wherry.toml:1: "mtu": Expected a whole number, got text'),
    "out of range": ("mtu = 5", "5 is not between 68 and 65535"),
    "no TOML": ("debug = true\nmtu = = 1", "wherry.toml:2: "),
    "kind of driver": (
        '[drivers]\nlogs = "x"',
        'wherry.toml:2: no such kind of driver "logs"; did you mean "log"?',
    ),
    "no table": ('[log]\nx = "y"', "wherry.toml:2: a table is expected here"),
    "a word of many": ('firewall = "ipfw"', "not one of iptables, nftables"),
    "no address": ('hosts = ["/run/x"]', "is no address; write unix:///path"),
    "no prefix": ('bip = "10.0.0.1"', "lacks its prefix length"),
    "limit": ('default-ulimits = ["nofiles=3"]', 'did you mean "nofile"?'),
    "soft over hard": ('default-ulimits = ["nofile=3:2"]', "less than or equal to hard"),
    "protection that there is not": ("selinux-enabled = true", "protect less than you asked for"),
    "an ipc mode": ('default-ipc-mode = "host"', "not one of private, shareable"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_place(write: Write, case: str) -> None:
    text, words = WRONG[case]
    with pytest.raises(ConfigurationError) as caught:
        load({}, write(text))
    assert words in str(caught.value)


def test_a_line_of_json_is_told_too(write: Write) -> None:
    with pytest.raises(
        ConfigurationError, match=r'daemon\.json:3: there is no setting "log-drivr"; did you mean'
    ):
        load({}, write('{\n"debug": true,\n"log-drivr": "x"\n}', "daemon.json"))


@pytest.mark.parametrize("text", ["", "[", '{"a": }', "[1]", "\udcff"], ids=repr)
def test_a_file_that_is_no_json_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    if not text:
        assert not load({}, path).debug
        return
    with pytest.raises(ConfigurationError, match=r"daemon\.json") as caught:
        load({}, path)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read"):
        load({}, tmp_path / "nowhere.toml")


def test_a_wrong_flag_is_named_as_a_flag(write: Write) -> None:
    with pytest.raises(ConfigurationError, match=r'^--bip: "1\.2\.3" lacks'):
        load({"bip": "1.2.3"}, write(""))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("64k", 65536),
        ("1.5g", 3 << 29),
        ("10MB", 10 << 20),
        ("1 GiB", 1 << 30),
        ("2T", 2 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "k", "1x", "1..2m", "0x10", "1e3", "ten", "\n1\n2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("90s", 90 * 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("10ms", 10**7)],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1 s", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_duration(text)


@given(st.integers(-1, 2**40), st.integers(-1, 2**40))
def test_a_limit_is_taken_or_refused_by_its_order(soft: int, hard: int) -> None:
    def number(value: int) -> float:
        return float("inf") if value == -1 else value

    if number(soft) <= number(hard):
        assert parse_ulimit(f"nofile={soft}:{hard}") == ("nofile", soft, hard)
    else:
        with pytest.raises(InvalidRequest):
            parse_ulimit(f"nofile={soft}:{hard}")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (1981632, "1.982MB"), (10**10, "10GB")]
)
def test_sizes_are_shown_as_docker_shows_them(size: int, text: str) -> None:
    assert human_size(size) == text


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4),
    )
)
def test_no_document_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("any") / "daemon.json"
    path.write_text(json.dumps(document))
    try:
        load({}, path)
    except ConfigurationError as error:
        assert str(path) in str(error)
