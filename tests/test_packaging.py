"""What is shipped: each folder a complete distribution, as a third party would publish it, and one table of versions."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
PLUGINS: Final = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
FOLDERS: Final = [ROOT, ROOT / "core", *PLUGINS]
GROUPS: Final = {"exec", "log", "network", "storage", "volume", "frontend", "extension"}
# Where a distribution imports as something else than its own name.
IMPORTED_AS: Final = {"iptc": "python-iptables"}


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def dependencies(folder: Path) -> dict[str, Requirement]:
    found = map(Requirement, project(folder)["project"].get("dependencies", []))
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pins() -> dict[str, Requirement]:
    groups = project(ROOT)["dependency-groups"].values()
    return {canonicalize_name(pin.name): pin for group in groups for pin in map(Requirement, group)}


def package_in(folder: Path) -> Path:
    return folder / "wherry" if folder.name == "core" else folder / f"wherry_{folder.name}"


def name_of(folder: Path) -> str:
    return "wherry" if folder == ROOT else folder.name


each_distribution = pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
each_package = pytest.mark.parametrize("folder", FOLDERS[1:], ids=name_of)
each_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=name_of)


# ---- In the tree


@each_distribution
def test_a_distribution_has_its_versions_and_terms(folder: Path) -> None:
    """All distributions have one version, one licence, and the same Python."""
    ours, root = project(folder)["project"], project(ROOT)["project"]
    for field in ("version", "license", "requires-python"):
        assert ours[field] == root[field]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@each_package
def test_a_package_is_complete(folder: Path) -> None:
    """A package is typed, says what it is, and has a README."""
    assert (package_in(folder) / "py.typed").is_file()
    assert ast.get_docstring(ast.parse((package_in(folder) / "__init__.py").read_text()))
    assert (folder / "README.md").read_text().startswith(f"# {project(folder)['project']['name']}\n")


@each_plugin
def test_a_plugin_is_named_after_its_folder(folder: Path) -> None:
    """Folder, distribution, package and entry point go by one name."""
    ours = project(folder)["project"]
    assert ours["name"] == f"wherry-{folder.name.replace('_', '-')}"
    assert Requirement("wherry-core>=0.1,<0.2") == dependencies(folder)["wherry-core"]
    assert ours["entry-points"]
    for group, points in ours["entry-points"].items():
        assert group.removeprefix("wherry.") in GROUPS
        assert all(value.startswith(f"wherry_{folder.name}:") for value in points.values())


def test_the_metapackage_brings_everything() -> None:
    """`pip install wherry` brings the core and every bundled plugin, and nothing else."""
    assert set(dependencies(ROOT)) == {project(folder)["project"]["name"] for folder in FOLDERS[1:]}


@each_package
def test_what_is_imported_is_declared(folder: Path) -> None:
    """A distribution declares what it imports, lazily too: installed alone, it must work."""
    declared = {*dependencies(folder), *(["wherry-core"] if folder.name == "core" else [])}
    undeclared = {}
    for path in package_in(folder).rglob("*.py"):
        if path.is_relative_to(package_in(folder) / "testing"):
            continue  # the contract suites: whoever runs them asks for `wherry-core[testing]`
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
                wanted = "wherry-core" if top == "wherry" else IMPORTED_AS.get(top, canonicalize_name(top))
                if wanted not in declared and top != package_in(folder).name:
                    undeclared[f"{path.relative_to(ROOT)}:{node.lineno}"] = wanted
    assert not undeclared, (
        f"imported, and not in the dependencies of {folder.name}/pyproject.toml: {undeclared}"
    )


def test_every_dependency_is_pinned_once_and_in_range() -> None:
    """The root's table pins an exact version of each dependency, and the ranges of the distributions admit it."""
    table, groups = pins(), project(ROOT)["dependency-groups"].values()
    assert sum(map(len, groups)) == len(table), "a package is pinned twice"
    for pin in table.values():
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), f"{pin} is not an exact version"
    for folder in FOLDERS[1:]:
        for name, wanted in dependencies(folder).items():
            if not name.startswith("wherry-"):
                assert name in table, (
                    f"{folder.name} needs {name}, which has no pin in the root pyproject.toml"
                )
                assert wanted.specifier.contains(str(table[name].specifier).removeprefix("=="))


def test_the_environment_has_the_pinned_versions() -> None:
    """Tests run with the versions of the table, or they show nothing."""
    wanted = {name: str(pin.specifier).removeprefix("==") for name, pin in pins().items()}
    assert {name: metadata.version(name) for name in wanted} == wanted


def test_notice_names_what_came_from_elsewhere() -> None:
    """Vendored data is named with its origin, in the tree and in the wheel."""
    notice = (ROOT / "NOTICE").read_text()
    assert (ROOT / "core/NOTICE").read_text() == notice
    for path in (ROOT / "core/wherry/data").iterdir():
        assert f"wherry/data/{path.name}" in notice


# ---- Built


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """The wheel of every distribution, by distribution, built once."""
    target = tmp_path_factory.mktemp("wheels")
    folders = [str(folder) for folder in FOLDERS]
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(target), *folders], check=True, timeout=110)
    return {path.name.partition("-")[0]: zipfile.ZipFile(path) for path in target.iterdir()}


def inside(wheel: zipfile.ZipFile, ending: str) -> str:
    (name,) = (name for name in wheel.namelist() if name.endswith(f".dist-info/{ending}"))
    return wheel.read(name).decode()


def test_every_distribution_builds(wheels: dict[str, zipfile.ZipFile]) -> None:
    """Each folder makes one wheel with its name, terms and README."""
    assert set(wheels) == {project(folder)["project"]["name"].replace("-", "_") for folder in FOLDERS}
    for name, wheel in wheels.items():
        facts = email.message_from_string(inside(wheel, "METADATA"))
        assert (facts["License-Expression"], facts["Requires-Python"]) == ("Apache-2.0", ">=3.11")
        assert inside(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
        assert name == "wherry" or facts.get_payload()


@each_plugin
def test_a_plugins_wheel_names_its_drivers(folder: Path, wheels: dict[str, zipfile.ZipFile]) -> None:
    """A plugin's wheel holds its package and entry points, no tests, and nothing of the core."""
    wheel, package = wheels[f"wherry_{folder.name}"], f"wherry_{folder.name}"
    assert {name.partition("/")[0] for name in wheel.namelist()} == {package, f"{package}-0.1.0.dist-info"}
    assert f"{package}/py.typed" in wheel.namelist()
    for group, points in project(folder)["project"]["entry-points"].items():
        for name, value in points.items():
            assert f"[{group}]" in inside(wheel, "entry_points.txt")
            assert f"{name} = {value}" in inside(wheel, "entry_points.txt")


def test_the_core_owns_the_command(wheels: dict[str, zipfile.ZipFile]) -> None:
    """`wherry` is a command of wherry-core, which ships its data and no driver; the metapackage is empty."""
    core = wheels["wherry_core"]
    assert "wherry = wherry.cli:main" in inside(core, "entry_points.txt")
    assert "wherry/data/seccomp-default.json" in core.namelist()
    assert "Moby" in inside(core, "licenses/NOTICE")
    assert {name.partition("/")[0] for name in core.namelist()} == {"wherry", "wherry_core-0.1.0.dist-info"}
    assert all(".dist-info/" in name for name in wheels["wherry"].namelist())


def test_only_native_execs_wheel_is_for_one_machine(wheels: dict[str, zipfile.ZipFile]) -> None:
    """The wheel with the static program is tagged with its machine and keeps it executable; all others are for any."""
    machine = os.uname().machine
    for name, wheel in wheels.items():
        if name != "wherry_native_exec":
            assert "Tag: py3-none-any" in inside(wheel, "WHEEL")
            continue
        assert f"Tag: py3-none-manylinux_2_17_{machine}\n" in inside(wheel, "WHEEL")
        assert "Root-Is-Purelib: false" in inside(wheel, "WHEEL")
        program = wheel.getinfo("wherry_native_exec/wherry-init")
        assert program.external_attr >> 16 & 0o111 == 0o111
        assert wheel.read(program).startswith(b"\x7fELF")


def test_native_exec_is_not_built_without_its_program(tmp_path: Path) -> None:
    """Whoever builds the wheel before `wherry-init` is told what to do."""
    copy = tmp_path / "native_exec"
    leave = shutil.ignore_patterns("wherry-init", "__pycache__")
    shutil.copytree(ROOT / "plugins/native_exec", copy, ignore=leave)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "build it first: make setup" in done.stderr
