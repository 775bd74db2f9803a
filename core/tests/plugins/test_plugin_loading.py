"""Loading a driver: what its author is told when it does not fit, and what the core gets when it does."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import ConfigurationError, DriverError, InvalidRequest, Unsupported
from wherry.plugins import REQUIRED, Driver, Resolved, contract_of, load
from wherry.services import EngineServices

Make = Callable[..., Resolved]

HEAD = """
from dataclasses import dataclass
from pathlib import Path
from wherry.errors import InvalidRequest
from wherry.spec import hookimpl
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes a module with a class `Mine` from source text, and says how to find it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = []

    def make(text: str, kind: str = "log", **more: Any) -> Resolved:
        name = f"driver_under_test_{tmp_path.name.replace('-', '_')}_{len(modules)}"
        (tmp_path / f"{name}.py").write_text(HEAD + textwrap.dedent(text))
        modules.append(name)
        importlib.invalidate_caches()
        return Resolved(
            kind=kind,
            name="mine",
            module=name,
            attribute="Mine",
            distribution="a-dist",
            version="1.2",
            **more,
        )

    yield make
    for name in modules:
        sys.modules.pop(name, None)


GOOD = """
class Mine:
    @hookimpl
    def open(self, context):
        return ("opened", context)
"""


def test_a_driver_of_one_method_is_a_driver(source: Make) -> None:
    driver = load(source(GOOD), None)
    assert driver.call("open", context=7) == ("opened", 7)
    assert driver.has("open")
    assert (driver.kind, driver.name) == ("log", "mine")


def test_an_optional_hook_that_is_not_there_answers_none(source: Make) -> None:
    driver = load(source(GOOD), None)
    assert not driver.has("path")
    assert driver.call("path", context=7) is None


def test_where_a_driver_is_travels_as_json(source: Make) -> None:
    resolved = source(GOOD, root="/x", options={})
    assert Resolved(**json.loads(json.dumps(dataclasses.asdict(resolved)))) == resolved


BROKEN = {
    "no such hook, nearly": (
        "class Mine:\n    @hookimpl\n    def opne(self, context): ...",
        'did you mean "open"',
    ),
    "required method missing": ("class Mine:\n    pass", "method open): the method is missing"),
    "unmarked": ("class Mine:\n    def open(self, context): ...", "write @hookimpl above it"),
    "unmarked override": (
        "class Base:\n    @hookimpl\n    def open(self, context): ...\n"
        "class Mine(Base):\n    def open(self, context): ...",
        "write @hookimpl above it",
    ),
    "unmarked beside a good one": (GOOD + "\n    def check(self, options): ...", "method check)"),
    "foreign argument": ("class Mine:\n    @hookimpl\n    def open(self, file): ...", 'wants "file"'),
    "coroutine": ("class Mine:\n    @hookimpl\n    async def open(self, context): ...", "blocking Python"),
    "generator": ("class Mine:\n    @hookimpl\n    def open(self, context): yield", "blocking Python"),
    "wrapper": (
        "class Mine:\n    @hookimpl(wrapper=True)\n    def open(self, context): return (yield)",
        "only an extension",
    ),
    "import raises": ("raise RuntimeError('no\\nluck')", "cannot be imported: RuntimeError: no luck"),
    "import exits": ("raise SystemExit(3)", "cannot be imported: SystemExit"),
    "no such class": ("class Other: ...", "cannot be imported: AttributeError"),
    "not a class": ("Mine = 5", "no class but a int"),
    "constructor raises": (
        GOOD + "\n    def __init__(self): 1 / 0",
        "method __init__) failed: ZeroDivisionError",
    ),
    "constructor wants more": (GOOD + "\n    def __init__(self, engine): ...", 'wants "engine"'),
    "strange version": (GOOD.replace("class Mine:", "class Mine:\n    SPEC = 'x'"), "SPEC is 'x'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_driver_is_told_with_distribution_and_entry_point(source: Make, case: str) -> None:
    text, words = BROKEN[case]
    resolved = source(text.strip("\n"))
    with pytest.raises(DriverError) as caught:
        load(resolved, None)
    message = str(caught.value)
    assert words in message
    assert "distribution a-dist 1.2" in message
    assert f"entry point mine = {resolved.module}:Mine" in message
    assert "\n" not in message


@pytest.mark.parametrize(("version", "advice"), [((2, 0), "newer wherry"), ((0, 9), "newer driver")])
def test_a_driver_for_another_major_version_is_refused(
    source: Make, version: tuple[int, int], advice: str
) -> None:
    with pytest.raises(Unsupported, match=advice):
        load(source(GOOD.replace("class Mine:", f"class Mine:\n    SPEC = {version}").strip("\n")), None)


def test_a_newer_minor_version_may_have_hooks_that_we_do_not_know(source: Make) -> None:
    text = (
        GOOD.replace("class Mine:", "class Mine:\n    SPEC = (1, 9)")
        + "\n    @hookimpl\n    def later(self): ..."
    )
    assert load(source(text.strip("\n")), None).call("open", context=1) == ("opened", 1)


def test_what_a_hook_raises_becomes_a_driver_error_naming_the_method(source: Make) -> None:
    driver = load(source("class Mine:\n    @hookimpl\n    def open(self, context): return {}['x']"), None)
    with pytest.raises(DriverError, match=r"method open\) failed: KeyError: 'x'") as caught:
        driver.call("open", context=1)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_of_the_tree_passes_as_it_is(source: Make) -> None:
    text = "class Mine:\n    @hookimpl\n    def open(self, context): raise InvalidRequest('not so')"
    with pytest.raises(InvalidRequest, match=r"^not so$"):
        load(source(text), None).call("open", context=1)


def test_a_method_need_not_name_every_argument(source: Make) -> None:
    driver = load(source("class Mine:\n    @hookimpl\n    def open(self): return 'x'"), None)
    assert driver.call("open", context=1) == "x"


def test_a_property_is_not_evaluated_by_loading(source: Make) -> None:
    text = GOOD.strip("\n") + "\n    @property\n    def status(self): raise RuntimeError('looked at')"
    assert load(source(text), None).has("open")


def test_the_core_calling_a_hook_wrongly_is_not_the_drivers_fault(source: Make) -> None:
    driver = load(source(GOOD), None)
    with pytest.raises(TypeError, match='no hook "opne"'):
        driver.call("opne", context=1)
    with pytest.raises(TypeError, match=r"takes \(context\)"):
        driver.call("open", file=1)


def test_a_constructor_gets_what_it_names_and_nothing_else(source: Make) -> None:
    text = (
        GOOD.strip("\n")
        + "\n    def __init__(self, root, services): self.root, self.services = root, services"
    )
    services = EngineServices(engine_id="0a1b2c3d", cgroup_parent="/x")
    driver = load(source(text, root="/data/mine"), services)
    assert driver.instance.root == Path("/data/mine")
    assert driver.instance.services.engine_id == "0a1b2c3d"


def test_a_drivers_lines_say_whose_they_are(source: Make) -> None:
    lines: list[tuple[str, str, dict[str, Any]]] = []
    text = GOOD.strip("\n") + "\n    def __init__(self, services): services.log.warning('odd', size=3)"
    sink = EngineServices(
        engine_id="x",
        cgroup_parent="/",
        sink=lambda level, message, f: lines.append((level, message, dict(f))),
    )
    load(source(text), sink)
    assert lines == [("warning", "odd", {"driver": "log/mine", "size": 3})]


OPTIONS = """
class Mine:
    @dataclass(frozen=True)
    class Options:
        max_size: int
        compress: bool = False
        program: Path = Path("/bin/true")
        names: list[str] | None = None

    def __init__(self, options):
        self.options = options

    @hookimpl
    def open(self, context): ...
"""


@pytest.mark.parametrize(
    "given",
    [
        {"max-size": 5, "compress": True, "program": "/x"},
        {"max_size": "5", "compress": "true", "program": "/x"},
    ],
    ids=["as a file has them", "as flags have them"],
)
def test_options_are_typed(source: Make, given: dict[str, Any]) -> None:
    options = load(source(OPTIONS, options=given), None).instance.options
    assert (options.max_size, options.compress, options.program) == (5, True, Path("/x"))


WRONG = {
    "unknown": (
        {"max-sise": 5},
        'x.toml:9: log driver "mine" has no option "max-sise"; did you mean "max-size"?',
    ),
    "number for text": ({"max-size": 5, "names": 3}, "Expected a list"),
    "a boolean is no number": ({"max-size": True}, 'option "max-size"'),
    "text that is no number": ({"max-size": "many"}, 'option "max-size"'),
    "missing": ({}, 'needs the option "max-size"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_refused_with_their_place(source: Make, case: str) -> None:
    given, words = WRONG[case]
    with pytest.raises(ConfigurationError) as caught:
        load(source(OPTIONS, options=given, sources={"max-sise": "x.toml:9"}), None)
    assert words in str(caught.value)


def test_a_driver_without_options_takes_none(source: Make) -> None:
    with pytest.raises(ConfigurationError, match='has no option "a"'):
        load(source(GOOD, options={"a": 1}), None)


EXTENSION = """
class Mine:
    seen = []

    @hookimpl(wrapper=True)
    def open(self, context):
        self.seen.append(context)
        return ("wrapped", (yield))

    @hookimpl
    def check(self, command):
        return None
"""


def test_an_extension_wraps_a_driver_that_does_not_know(source: Make) -> None:
    extension = load(source(EXTENSION, kind="extension"), None)
    driver = load(source(GOOD), None, [extension])
    assert driver.call("open", context=1) == ("wrapped", ("opened", 1))
    assert extension.instance.seen == [1]
    # The extension's own `check(command)` is no `check(options)` of a log driver.
    assert driver.call("check", options={}) is None
    assert extension.has("check")


def test_the_first_extension_is_outermost(source: Make) -> None:
    def naming(word: str) -> Driver:
        text = (
            "class Mine:\n    @hookimpl(wrapper=True)\n    def open(self, context): return ("
            + repr(word)
            + ", (yield))"
        )
        return load(source(text, kind="extension"), None)

    driver = load(source(GOOD), None, [naming("a"), naming("b")])
    assert driver.call("open", context=1) == ("a", ("b", ("opened", 1)))


def test_an_extension_may_only_wrap_hooks_of_drivers(source: Make) -> None:
    with pytest.raises(DriverError, match="no such hook"):
        load(source("class Mine:\n    @hookimpl\n    def open(self, context): ...", kind="extension"), None)
    with pytest.raises(DriverError, match='did you mean "open"'):
        text = "class Mine:\n    @hookimpl(wrapper=True)\n    def opne(self, context): return (yield)"
        load(source(text, kind="extension"), None)


def test_a_wrapper_that_fails_is_told_as_an_error_of_the_call(source: Make) -> None:
    text = (
        "class Mine:\n    @hookimpl(wrapper=True)\n    def open(self, context):\n        1 / 0\n        yield"
    )
    driver = load(source(GOOD), None, [load(source(text, kind="extension"), None)])
    with pytest.raises(DriverError, match=r'wrapped by extension "mine", failed: ZeroDivisionError'):
        driver.call("open", context=1)


@pytest.mark.parametrize("kind", REQUIRED)
def test_what_is_required_is_what_the_specification_says(kind: Any) -> None:
    """The table in the code and the word `Optional` in a hook's docstring do not drift apart."""
    module = importlib.import_module(f"wherry.spec.{kind}")
    specification = getattr(module, f"{kind.capitalize()}Spec")
    all_optional = "All are optional" in specification.__doc__
    said = {
        name
        for name in contract_of(kind)
        if not all_optional and "Optional." not in getattr(specification, name).__doc__
    }
    assert said == REQUIRED[kind]


@pytest.mark.parametrize("kind", REQUIRED)
def test_every_hook_says_since_when(kind: Any) -> None:
    module = importlib.import_module(f"wherry.spec.{kind}")
    specification = getattr(module, f"{kind.capitalize()}Spec")
    for name in contract_of(kind):
        assert "Since 1." in getattr(specification, name).__doc__, name
