"""The guide for authors of drivers tells the truth: its files are written as they stand there, installed and run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from wherry.discovery import Catalogue
from wherry.errors import ConfigurationError, Forbidden, InvalidRequest
from wherry.plugins import REQUIRED, Kind, Resolved, contract_of, load
from wherry.services import EngineServices
from wherry.spec.extension import Caller, Request
from wherry.spec.log import Batch, LogContext
from wherry.testing.daemon import Daemon

GUIDE = (Path(__file__).parent.parent / "docs" / "writing-a-driver.md").read_text()
FILES = dict(re.findall(r"^```\w+\n# file: (\S+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with all files of the guide, importable."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [
        module for module in sys.modules if module.partition(".")[0] in {n.partition("/")[0] for n in FILES}
    ]:
        sys.modules.pop(name)


def found(kind: Kind, name: str, where: str, **more: Any) -> Resolved:
    module, _, attribute = where.partition(":")
    return Resolved(kind=kind, name=name, module=module, attribute=attribute, **more)


def context(directory: Path, **options: str) -> LogContext:
    return LogContext(container_id="0" * 64, container_name="web", directory=directory, options=options)


def lines(*texts: str) -> Batch:
    return Batch(data="".join(f"{text}\n" for text in texts).encode(), stream="stdout", time_ns=1)


def test_every_block_of_python_is_a_file_that_is_run_here() -> None:
    assert GUIDE.count("```python\n") == GUIDE.count("```python\n# file: ")
    assert set(FILES) == {
        "wherry_plain_log/__init__.py",
        "pyproject.toml",
        "wherry_upper_log/__init__.py",
        "wherry_example_storage/options.py",
        "wherry_quiet_net/__init__.py",
        "tests/test_quiet_network.py",
        "wherry_counting/__init__.py",
    }


def test_the_smallest_driver_is_ten_lines_and_then_its_sink() -> None:
    code = [line for line in FILES["wherry_plain_log/__init__.py"].splitlines() if line.strip()]
    assert len(code) <= 12


def test_the_smallest_driver_takes_lines(project: Path, tmp_path: Path) -> None:
    sink = load(found("log", "plain", "wherry_plain_log:PlainLog"), None).call(
        "open", context=context(tmp_path)
    )
    sink.write(lines("one", "two"))
    sink.close()
    assert (tmp_path / "plain.log").read_text() == "one\ntwo\n"


def test_the_driver_with_options_takes_and_refuses_them(project: Path, tmp_path: Path) -> None:
    driver = load(found("log", "upper", "wherry_upper_log:UpperLog"), None)
    sink = driver.call("open", context=context(tmp_path, prefix="p"))
    sink.write(lines("one"))
    sink.close()
    assert (tmp_path / "upper.log").read_text() == "p: ONE\n"
    with pytest.raises(InvalidRequest, match="there is prefix"):
        driver.call("check", options={"prefx": "p"})


def test_a_class_is_given_what_it_names(project: Path, tmp_path: Path) -> None:
    """(A storage driver of three lines has no hooks; an extension needs none.)"""
    said: list[str] = []
    services = EngineServices(
        engine_id="0", cgroup_parent="/", sink=lambda level, text, fields: said.append(text)
    )
    where = "wherry_example_storage.options:ExampleStorage"
    resolved = found("extension", "example", where, root=str(tmp_path), options={"compress": True})
    driver = load(resolved, services)
    assert driver.instance.root == tmp_path
    assert driver.instance.options.compress is True
    assert said == ["example storage is ready"]
    with pytest.raises(ConfigurationError, match="compress"):
        load(Resolved(**{**asdict(resolved), "options": {"compres": True}}), services)


def test_the_extension_counts_and_forbids(project: Path, tmp_path: Path) -> None:
    extension = load(found("extension", "counting", "wherry_counting:Counting"), None)
    driver = load(found("log", "plain", "wherry_plain_log:PlainLog"), None, [extension])
    driver.call("open", context=context(tmp_path)).close()
    assert extension.instance.opened == 1
    request = Request(operation="container.create", fields={"Privileged": True})
    with pytest.raises(Forbidden):
        extension.call("admit", request=request, caller=Caller())


def test_the_suite_of_the_guide_passes(project: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=project, env={"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-3000:]


@pytest.mark.parametrize("kind", REQUIRED)
def test_the_table_of_methods_is_the_contract(kind: Kind) -> None:
    row = next(line for line in GUIDE.splitlines() if line.startswith(f"| `wherry.{kind}` |"))
    required, optional = [
        set(re.findall(r"[a-z_]+", cell)) for cell in re.sub(r", and any.*", "|", row).split("|")[2:4]
    ]
    assert required == REQUIRED[kind]
    assert required | optional == set(contract_of(kind))


def test_the_guides_package_installs_and_is_chosen(project: Path, make_daemon: Callable[..., Daemon]) -> None:
    """As the guide says: pip install, restart, `--log-driver plain`."""
    pip = [sys.executable, "-m", "pip", "-q"]
    install = [*pip, "install", "--no-index", "--no-build-isolation", "--no-deps", str(project)]
    subprocess.run(install, check=True, capture_output=True)
    try:
        daemon = make_daemon().start()
        daemon.image()
        listed = daemon.wherry("drivers", "--check")
        line = next(line for line in listed.stdout.splitlines() if " plain " in line)
        assert "wherry-plain-log" in line
        assert "available" in line
        ran = daemon.wherry("run", "--log-driver", "plain", "--name", "plainly", "busybox", "echo", "hello")
        assert (ran.returncode, ran.stdout) == (0, "hello\n"), ran.stderr
        name = daemon.wherry("inspect", "-f", "{{.Id}}", "plainly").stdout.strip()
        assert (daemon.root / "data" / "containers" / name / "plain.log").read_text() == "hello\n"
    finally:
        subprocess.run([*pip, "uninstall", "-y", "wherry-plain-log"], check=True, capture_output=True)
    assert "plain" not in Catalogue().names("log")
