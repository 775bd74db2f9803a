"""Finding drivers among what is installed: by name, lazily, and with whom to blame."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.discovery import Catalogue
from wherry.errors import ConfigurationError
from wherry.plugins import load

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution with one module and one entry point, as pip would leave it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(distribution: str, point: str, source: str, group: str = "wherry.log") -> Path:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{point} = {module}:Mine\n")
        return info

    return make


GOOD = """
from wherry.spec import hookimpl
class Mine:
    @hookimpl
    def open(self, context): return "opened"
"""


def test_an_installed_driver_is_found_and_not_imported(install: Install) -> None:
    install("some-lazy-log", "lazy", GOOD)
    catalogue = Catalogue()
    resolved = catalogue.find("log", "lazy")
    catalogue.listing()
    assert "some_lazy_log" not in sys.modules
    assert (resolved.distribution, resolved.version) == ("some-lazy-log", "1.0")
    assert load(resolved, None).call("open", context=None) == "opened"


def test_nothing_is_written_below_the_home_directory(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    Catalogue().listing()
    assert list(home.iterdir()) == []


def test_a_misspelt_driver_is_told_its_nearest(install: Install) -> None:
    install("some-log", "remarkable", GOOD)
    with pytest.raises(
        ConfigurationError, match='no log driver "remarkible" is installed; did you mean "remarkable"'
    ):
        Catalogue().find("log", "remarkible")


def test_a_name_that_two_distributions_claim_is_an_error_naming_both(install: Install) -> None:
    install("first-log", "twice", GOOD)
    install("second-log", "twice", GOOD)
    catalogue = Catalogue()
    with pytest.raises(ConfigurationError, match=r"claimed by first-log 1\.0 and second-log 1\.0"):
        catalogue.find("log", "twice")
    states = [line["state"] for line in catalogue.listing() if line["name"] == "twice"]
    assert states == ["broken", "broken"]


def test_checking_names_the_broken_and_hurts_nothing_else(install: Install) -> None:
    install("good-log", "good", GOOD)
    install("raising-log", "raising", "raise RuntimeError('not today')")
    install("forgetful-log", "forgetful", "class Mine: ...")
    lines = {line["name"]: line for line in Catalogue().listing(in_use={("log", "good")}, check=True)}
    assert lines["good"]["state"] == "in use"
    assert lines["raising"]["state"] == lines["forgetful"]["state"] == "broken"
    assert "distribution raising-log 1.0" in lines["raising"]["reason"]
    assert "RuntimeError: not today" in lines["raising"]["reason"]
    assert "method open): the method is missing" in lines["forgetful"]["reason"]


def test_an_unchecked_listing_says_what_is_known(install: Install) -> None:
    install("raising-log", "raising", "raise RuntimeError('not today')")
    catalogue = Catalogue()
    assert {line["name"]: line["state"] for line in catalogue.listing()}["raising"] == "available"
    catalogue.broken("log", "raising", "it failed at noon")
    line = next(line for line in catalogue.listing() if line["name"] == "raising")
    assert (line["state"], line["reason"]) == ("broken", "it failed at noon")


def test_entry_points_of_other_groups_are_not_ours(install: Install) -> None:
    install("stranger", "x", GOOD, group="wherry.logs")
    assert "stranger" not in {resolved.distribution for resolved in Catalogue().entries()}


def test_an_entry_point_with_an_extra_is_understood(install: Install) -> None:
    info = install("extra-log", "extra", GOOD)
    (info / "entry_points.txt").write_text("[wherry.log]\nextra = extra_log:Mine [colour]\n")
    assert Catalogue().find("log", "extra").attribute == "Mine"
