"""Who may import whom.

A *room* is a module or package directly below `wherry`, or below a plugin's package; the package's own `__init__` is its
front door. The rules are the tables below. Every import counts, in functions and under TYPE_CHECKING too: a type is
knowledge of another room just as a call is.
"""

import ast
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent

# What these rooms of the core may import of the core. Rooms not named are free, within "no circles".
CORE_ROOMS: Final[dict[str, frozenset[str]]] = {
    "errors": frozenset(),
    "linux": frozenset(),
    "spec": frozenset({"errors"}),
    "logfiles": frozenset({"errors", "spec"}),
    # It reaches the engine only through the API; `words` and `quantities` are leaves: texts in, texts out.
    "cli": frozenset({"errors", "words", "quantities"}),
}
# What they may import besides, inside a function only: `wherry daemon` becomes the daemon; `wherry drivers` and
# `wherry doctor` look at this machine where no daemon runs; `wherry cp` reads and writes trees of this machine.
CORE_ROOMS_LAZILY: Final[dict[str, frozenset[str]]] = {
    "cli": frozenset({"config", "daemon", "discovery", "doctor", "linux"}),
}
# What plugins may import of the core, and their tests besides.
PLUGIN_ROOMS: Final = frozenset({"spec", "errors", "linux", "logfiles"})
PLUGIN_TEST_ROOMS: Final = frozenset({"testing"})
# The plugins that may import another plugin.
PLUGIN_OF_PLUGIN: Final[dict[str, frozenset[str]]] = {
    "wherry_oci_exec": frozenset({"wherry_native_exec"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import of ours: `source` imports `target` (both modules, as deep as they are known) at `where`."""

    source: str
    target: str
    where: str  # path:line
    lazy: bool  # inside a function

    def __str__(self) -> str:
        return f"{self.where}: {self.source} imports {self.target}"


# ---- Reading


def package_of(module: str) -> str:
    return module.partition(".")[0]


def room_of(module: str) -> str:
    """`wherry.cli.run` → `cli`; the front door, `wherry`, → `wherry`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def modules_below(folder: Path) -> dict[str, Path]:
    """The modules in `folder`, by the name they have when `folder` is on the path."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_below(folder: Path, *, root: Path) -> list[Import]:
    """Every import of ours, of every module below `folder` (a folder that is on the path, such as `core`)."""
    modules = modules_below(folder)
    found = []
    for module, path in modules.items():
        tree = ast.parse(path.read_text(), filename=str(path))
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node, target, lazy in targets(tree, package, modules):
            if package_of(target) == "wherry" or target.startswith("wherry_"):
                where = f"{path.relative_to(root)}:{node.lineno}"
                found.append(Import(source=module, target=target, where=where, lazy=lazy))
    return found


def targets(
    tree: ast.AST, package: str, known: Iterable[str]
) -> Iterator[tuple[ast.stmt | ast.expr, str, bool]]:
    """(node, imported module, inside a function) of each import in `tree`, which is a module in `package`."""
    queue: deque[tuple[ast.AST, bool]] = deque([(tree, False)])
    while queue:
        node, lazy = queue.popleft()
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield node, name.name, lazy
            case ast.ImportFrom(module=module, names=names, level=level):
                base = relative(package, level, module)
                for name in names:
                    yield node, submodule(base, name.name, known), lazy
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ) if not target.startswith("."):
                yield node, target, lazy
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        queue.extend((child, inside) for child in ast.iter_child_nodes(node))


def relative(package: str, level: int, module: str | None) -> str:
    if level == 0:
        return module or ""
    parts = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*parts, *([module] if module else [])])


def submodule(base: str, name: str, known: Iterable[str]) -> str:
    """What `from base import name` imports: a module where one has that name, or something that `base` defines.

    Of `wherry` itself any lower-case name is taken for a room, so that a plugin cannot reach one by this spelling.
    """
    deeper = f"{base}.{name}"
    return deeper if deeper in known or (base == "wherry" and name.islower()) else base


# ---- Judging


def core_trespasses(imports: Iterable[Import]) -> Iterator[str]:
    for step in imports:
        here, there = room_of(step.source), room_of(step.target)
        if package_of(step.target) != "wherry":
            yield f"{step}: the core imports no driver; it finds them by entry point"
        elif here == there:
            continue
        elif there == "testing":
            yield f"{step}: wherry.testing is for tests alone"
        elif here in CORE_ROOMS and there not in CORE_ROOMS[here]:
            if there not in CORE_ROOMS_LAZILY.get(here, frozenset()):
                yield f"{step}: wherry.{here} may import {listed(CORE_ROOMS[here])} of ours and nothing else"
            elif not step.lazy:
                yield f"{step}: wherry.{here} may import wherry.{there} only inside a function"


def plugin_trespasses(imports: Iterable[Import], *, package: str) -> Iterator[str]:
    """What the plugin `package` and its tests import that they may not."""
    for step in imports:
        owner, there = package_of(step.target), room_of(step.target)
        in_tests = package_of(step.source) != package
        allowed = PLUGIN_ROOMS | (PLUGIN_TEST_ROOMS if in_tests else frozenset())
        if owner == "wherry":
            if there not in allowed:
                whose = "a plugin's tests" if in_tests else "a plugin"
                yield f"{step}: {whose} may import {listed(allowed)} of the core and nothing else"
        elif owner != package and owner not in PLUGIN_OF_PLUGIN.get(package, frozenset()):
            yield f"{step}: a plugin imports no other plugin"


def circles(imports: Iterable[Import], *, package: str) -> Iterator[str]:
    """The shortest way round from each room of `package` that imports itself through others, each circle once."""
    steps: dict[str, dict[str, Import]] = {}
    for step in imports:
        here, there = room_of(step.source), room_of(step.target)
        if package_of(step.source) == package_of(step.target) == package and here != there:
            steps.setdefault(here, {}).setdefault(there, step)
    told: set[frozenset[str]] = set()
    for start in sorted(steps):
        way = way_round(start, steps)
        rooms = frozenset(room_of(step.source) for step in way)
        if way and rooms not in told:
            told.add(rooms)
            names = " → ".join([start, *(room_of(step.target) for step in way)])
            yield "\n    ".join([f"a circle of rooms in {package}: {names}", *map(str, way)])


def way_round(start: str, steps: dict[str, dict[str, Import]]) -> list[Import]:
    """The shortest chain of imports from `start` back to it; empty where there is none."""
    queue = deque([(start, list[Import]())])
    seen = set()
    while queue:
        room, way = queue.popleft()
        for there, step in steps.get(room, {}).items():
            if there == start:
                return [*way, step]
            if there not in seen:
                seen.add(there)
                queue.append((there, [*way, step]))
    return []


def listed(rooms: Iterable[str]) -> str:
    return ", ".join(f"wherry.{room}" for room in sorted(rooms)) or "nothing"


def trespasses(root: Path) -> list[str]:
    """Every breach of a border in the tree at `root`, one text each."""
    core = [step for step in imports_below(root / "core", root=root) if package_of(step.source) == "wherry"]
    found = [*core_trespasses(core), *circles(core, package="wherry")]
    for folder in sorted(root.glob("plugins/*/")):
        package = f"wherry_{folder.name}"
        imports = imports_below(folder, root=root)
        found += [*plugin_trespasses(imports, package=package), *circles(imports, package=package)]
    return found


# ---- Promises


def test_every_import_stays_within_its_borders() -> None:
    """No room of the core and no plugin imports what it may not, and no imports of rooms go in a circle."""
    found = trespasses(ROOT)
    assert not found, "imports across borders (who may import whom is in the tables of this test):\n  " + (
        "\n  ".join(found)
    )


def test_the_tree_is_where_the_checker_looks() -> None:
    """The checker sees the core and the plugins; a moved tree must not make it blind."""
    assert any(room_of(step.target) == "errors" for step in imports_below(ROOT / "core", root=ROOT))
    assert {"wherry", "wherry.errors", "wherry.spec"} <= set(modules_below(ROOT / "core"))
    assert all((folder / f"wherry_{folder.name}").is_dir() for folder in ROOT.glob("plugins/*/"))


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in {"core/wherry/__init__.py": "", "plugins/a/wherry_a/__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("core/wherry/errors.py", "import wherry.spec", "wherry.errors may import nothing of ours"),
        (
            "core/wherry/linux/mount.py",
            "from wherry.errors import NotFound",
            "wherry.linux may import nothing",
        ),
        ("core/wherry/linux/mount.py", "from ..errors import NotFound", "wherry.linux may import nothing"),
        ("core/wherry/linux/__init__.py", "from .. import errors", "wherry.linux may import nothing"),
        ("core/wherry/spec/log.py", "import wherry.linux.fd", "wherry.spec may import wherry.errors of ours"),
        (
            "core/wherry/cli/run.py",
            "from wherry import Engine",
            "wherry.cli may import wherry.errors, wherry.quantities, wherry.words of ours",
        ),
        (
            "core/wherry/cli/run.py",
            "def f():\n import wherry.engine",
            "wherry.cli may import wherry.errors, wherry.quantities, wherry.words of ours",
        ),
        ("core/wherry/cli/daemon.py", "import wherry.daemon", "only inside a function"),
        ("core/wherry/engine.py", "import wherry_a", "the core imports no driver"),
        ("core/wherry/engine.py", "from wherry.testing import log", "wherry.testing is for tests alone"),
        (
            "plugins/a/wherry_a/__init__.py",
            "import wherry.engine",
            "a plugin may import wherry.errors, wherry.linux",
        ),
        ("plugins/a/wherry_a/__init__.py", "from wherry import engine", "a plugin may import"),
        ("plugins/a/wherry_a/__init__.py", "import wherry", "a plugin may import"),
        ("plugins/a/wherry_a/__init__.py", "from wherry.testing import log", "a plugin may import"),
        (
            "plugins/a/wherry_a/__init__.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from wherry.state import Record",
            "a plugin may import",
        ),
        (
            "plugins/a/wherry_a/__init__.py",
            "import importlib\ndef f():\n return importlib.import_module('wherry.engine')",
            "a plugin may import",
        ),
        (
            "plugins/a/wherry_a/__init__.py",
            "async def f():\n import wherry_b",
            "a plugin imports no other plugin",
        ),
        ("plugins/a/tests/test_a.py", "import wherry.engine", "a plugin's tests may import"),
    ],
)
def test_a_bad_import_is_rejected(tmp_path: Path, path: str, text: str, complaint: str) -> None:
    """Whoever breaks a rule is told the file, the line and the rule."""
    plant(tmp_path, {path: text})
    (found,) = trespasses(tmp_path)
    assert complaint in found
    assert found.startswith(f"{path}:{len(text.splitlines())}: ")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("core/wherry/spec/log.py", "from wherry.errors import NotFound\nfrom wherry.spec import markers"),
        ("core/wherry/cli/run.py", "from wherry.cli import api\nimport wherry.errors"),
        ("core/wherry/cli/daemon.py", "def f():\n from wherry.daemon import serve\n import wherry.config"),
        ("core/wherry/engine.py", "import wherry.spec.log, wherry.linux, wherry.state.records"),
        ("core/wherry/testing/log.py", "import wherry.spec.log, wherry.plugins"),
        ("core/tests/test_engine.py", "import wherry.engine, wherry.testing"),
        ("plugins/a/wherry_a/driver.py", "from wherry.spec import hookimpl\nfrom wherry_a.sink import Sink"),
        ("plugins/a/wherry_a/__init__.py", "from .driver import A"),
        ("plugins/a/tests/test_a.py", "import wherry.testing.log, wherry_a, wherry.spec"),
        ("plugins/oci_exec/wherry_oci_exec/__init__.py", "from wherry_native_exec import build"),
    ],
)
def test_a_good_import_is_accepted(tmp_path: Path, path: str, text: str) -> None:
    """What the rules allow, in every spelling, is left alone."""
    plant(tmp_path, {path: text})
    assert trespasses(tmp_path) == []


def test_a_circle_is_rejected(tmp_path: Path) -> None:
    """A circle is shown as the way round, with file and line of each step; within one room imports are free."""
    plant(
        tmp_path,
        {
            "core/wherry/state/names.py": "from wherry.volumes import mounts\nimport wherry.state.records",
            "core/wherry/state/records.py": "import wherry.state.names",
            "core/wherry/volumes/__init__.py": "def f():\n from wherry import logs",
            "core/wherry/logs/__init__.py": "from wherry.state.names import Name",
            "core/wherry/engine.py": "import wherry.logs",
            "plugins/a/wherry_a/__init__.py": "from wherry_a.sink import Sink",
            "plugins/a/wherry_a/sink.py": "import wherry_a",
        },
    )
    core, plugin = trespasses(tmp_path)
    assert core.splitlines() == [
        "a circle of rooms in wherry: logs → state → volumes → logs",
        "    core/wherry/logs/__init__.py:1: wherry.logs imports wherry.state.names",
        "    core/wherry/state/names.py:1: wherry.state.names imports wherry.volumes",
        "    core/wherry/volumes/__init__.py:2: wherry.volumes imports wherry.logs",
    ]
    assert "a circle of rooms in wherry_a: sink → wherry_a → sink" in plugin
