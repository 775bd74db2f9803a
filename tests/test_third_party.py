"""Drivers of other people: installed by pip, found, used, and, where they are broken, named without hurting the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.testing.daemon import Daemon, eventually

PACKAGES = Path(__file__).parent / "packages"
NAMES = ("wherry-test-plain", "wherry-test-raises", "wherry-test-lacking")


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed() -> Iterator[None]:
    """The three packages, in this environment as a user would install them; gone afterwards."""
    pip(
        "install", "--no-index", "--no-build-isolation", "--no-deps",
        *(str(PACKAGES / name) for name in NAMES),
    )  # fmt: skip
    yield
    pip("uninstall", "-y", *NAMES)


@pytest.fixture
def daemon(installed: None, make_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    """A daemon whose configuration file chooses the third party's driver."""
    config = tmp_path / "wherry.toml"
    config.write_text('[drivers]\nlog = "plain"\n')
    daemon = make_daemon("--config-file", str(config)).start()
    daemon.image()
    return daemon


def test_a_log_driver_chosen_by_the_configuration_gets_the_lines(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "echo one; echo two; echo three >&2")
    daemon.ok("wait", name)
    lines = (daemon.root / "data" / "containers" / name / "plain.log").read_text().splitlines()
    assert sorted(lines) == ["one", "three", "two"]
    assert daemon.ok("info", "--format", "{{.LoggingDriver}}") == "plain"
    assert daemon.inspect(name, "{{.HostConfig.LogConfig.Type}}") == "plain"


def test_a_container_may_choose_another(daemon: Daemon) -> None:
    assert daemon.ok("run", "--name", "other", "--log-driver", "json-file", "busybox", "echo", "hi") == "hi"
    assert daemon.ok("logs", "other") == "hi"


def test_broken_drivers_are_named_and_hurt_nobody(daemon: Daemon) -> None:
    """The daemon's log and `wherry drivers` name distribution, entry point and what is wrong; all else works."""
    eventually(
        lambda: "wherry-test-raises" in daemon.log and "wherry-test-lacking" in daemon.log, "the log's lines"
    )
    for words in (
        "wherry-test-raises 1.2.3",
        "raises = wherry_test_raises:RaisesLog",
        "this module is broken on purpose",
    ):
        assert words in daemon.log
    for words in ("wherry-test-lacking 1.2.3", "lacking = wherry_test_lacking:LackingLog", "open"):
        assert words in daemon.log
    listing = daemon.wherry("drivers").stdout
    states = {line.split()[1]: line for line in listing.splitlines() if len(line.split()) > 3}
    assert "broken" in states["raises"]
    assert "broken" in states["lacking"]
    assert "in use" in states["plain"]
    assert "1.2.3" in states["plain"]
    assert "in use" in states["native"]
    assert daemon.ok("run", "--rm", "busybox", "echo", "fine") == "fine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "this module is broken on purpose"),
        ("lacking", "open"),
        ("jsonfile", 'Did you mean "json-file"'),
    ],
)
def test_choosing_a_driver_that_does_not_work_is_refused_with_the_reason(
    daemon: Daemon, name: str, words: str
) -> None:
    answer = daemon.docker("run", "--rm", "--log-driver", name, "busybox", "true")
    assert answer.returncode == 125
    assert words.lower().replace("did you mean ", "") in answer.stderr.lower()
    assert daemon.ok("ps", "-aq") == ""


def test_a_configuration_with_an_unknown_driver_starts_no_daemon(
    installed: None, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """One clear line, exit code 2, nothing half-started."""
    daemon = make_daemon()
    config = tmp_path / "wherry.toml"
    config.write_text('[drivers]\nlog = "plian"\n')
    answer = daemon.net.run(
        str(daemon.program), "daemon", "-H", daemon.host, "--data-root", str(daemon.root / "data"),
        "--exec-root", str(daemon.root / "exec"), "--config-file", str(config),
    )  # fmt: skip
    assert answer.returncode == 2
    assert "plian" in answer.stderr
    assert "plain" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert str(daemon.root) not in Path("/proc/self/mountinfo").read_text()
