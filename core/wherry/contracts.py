"""What a driver's class must be: the contract of its kind, and the examination that holds a class against it.

pluggy by itself does not notice a missing method (the call answers `[]`, which reads like success) and ignores a
method that lacks its marker. So a class is examined before it is instantiated, statically: nothing of the driver runs
but the import of its module.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from wherry.errors import DriverError, Unsupported
from wherry.words import nearest

Kind = Literal["exec", "log", "network", "storage", "volume", "frontend", "extension"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

REQUIRED: Final[Mapping[Kind, frozenset[str]]] = MappingProxyType(
    {
        "exec": frozenset(
            "start exec kill pause unpause pids stats update oom_killed clean owned warm info capabilities".split()
        ),
        "log": frozenset({"open"}),
        "network": frozenset({"sandbox"}),
        "storage": frozenset(
            "create apply rootfs remove changes diff usage owned sync recover status".split()
        ),
        "frontend": frozenset({"serve", "stop"}),
        "extension": frozenset(),
    }
)
"""The hooks that a driver of each kind must have. A kind that is missing here has no drivers yet."""

_MARK = "wherry_impl"  # where pluggy's HookimplMarker("wherry") leaves its options


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A driver that was found and not yet imported. `dataclasses.asdict` and `Resolved(**value)` are its JSON form.

    `root` is the directory that the driver may use (DESIGN: its own, below the data or exec root). `sources` tells
    where an option was written (`file:line`), for messages.
    """

    kind: Kind
    name: str
    module: str
    attribute: str
    distribution: str = ""
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    root: str = ""
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def entry_point(self) -> str:
        return f"{self.name} = {self.module}:{self.attribute}"

    def describe(self, method: str = "") -> str:
        """`log driver "plain" (distribution wherry-plain-log 1.0, entry point plain = wherry_plain_log:PlainLog)`."""
        what = (
            "extension"
            if self.kind == "extension"
            else self.kind
            if self.kind == "frontend"
            else f"{self.kind} driver"
        )
        parts = [
            f"distribution {self.distribution or '?'} {self.version}".rstrip(),
            f"entry point {self.entry_point}",
        ]
        if method:
            parts.append(f"method {method}")
        return f'{what} "{self.name}" ({", ".join(parts)})'


def examine(resolved: Resolved) -> type[Any]:
    """Import a driver's class and hold it against its contract, without making an instance.

    Raises DriverError (broken) or Unsupported (written for another version), with the method at fault.
    """
    class_ = _import(resolved)
    _check_version(resolved, class_)
    contract = contract_of(resolved.kind)
    found = implementations(class_)
    for hook in contract:
        if hook not in found and callable(inspect.getattr_static(class_, hook, None)):
            raise DriverError(f"{resolved.describe(hook)} is not marked as a hook: write @hookimpl above it")
    for hook, method in found.items():
        _check_hook(resolved, class_, hook, method)
    missing = sorted(REQUIRED[resolved.kind] - found.keys())
    if missing:
        raise DriverError(
            f"{resolved.describe(missing[0])}: the method is missing"
            + (f", and so are {', '.join(missing[1:])}" if missing[1:] else "")
            + f"; every {resolved.kind} driver needs it"
        )
    return class_


@functools.cache
def contract_of(kind: Kind) -> Mapping[str, frozenset[str]]:
    """The hooks of a kind, each with the names of its arguments."""
    found = {}
    for name, function in vars(specification(kind)).items():
        if hasattr(function, "wherry_spec"):
            found[name] = frozenset(inspect.signature(function).parameters) - {"self"}
    return MappingProxyType(found)


def specification(kind: Kind) -> type[Any]:
    if kind not in REQUIRED:
        raise Unsupported(f"this version of wherry has no {kind} drivers")
    found = getattr(importlib.import_module(f"wherry.spec.{kind}"), f"{kind.capitalize()}Spec")
    assert isinstance(found, type)
    return found


def _import(resolved: Resolved) -> type[Any]:
    try:
        found: Any = importlib.import_module(resolved.module)
        for name in resolved.attribute.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:
        raise DriverError(f"{resolved.describe()} cannot be imported: {say(error)}") from error
    if not isinstance(found, type):
        raise DriverError(f"{resolved.describe()} is no class but a {type(found).__name__}")
    return found


def _check_version(resolved: Resolved, class_: type[Any]) -> None:
    """`SPEC` on the class is the version that it was written for; a class without one is of the first."""
    ours = (
        importlib.import_module(f"wherry.spec.{resolved.kind}").SPEC if resolved.kind in REQUIRED else (1, 0)
    )
    theirs = getattr(class_, "SPEC", (1, 0))
    match theirs:
        case (int(major), int(minor)):
            pass
        case _:
            raise DriverError(f"{resolved.describe()}: SPEC is {theirs!r}, not a pair of numbers like (1, 0)")
    if major != ours[0]:
        raise Unsupported(
            f"{resolved.describe()} was written for version {major}.{minor} of the {resolved.kind} contract, and this "
            f"wherry has {ours[0]}.{ours[1]}; install a {'newer wherry' if major > ours[0] else 'newer driver'}"
        )


def implementations(class_: type[Any], *, wrappers: bool = True) -> dict[str, str]:
    """hook → method, for every method of a class that is marked as a hook."""
    found = {}
    for method in dir(class_):
        marks = marks_of(class_, method)
        if marks is not None and (wrappers or not is_wrapper(marks)):
            found[marks.get("specname") or method] = method
    return found


def marks_of(class_: type[Any], method: str) -> Mapping[str, Any] | None:
    # Statically: a property is not evaluated only because somebody looks.
    static = inspect.getattr_static(class_, method, None)
    marks = getattr(getattr(static, "__func__", static), _MARK, None)
    return marks if isinstance(marks, dict) else None


def is_wrapper(marks: Mapping[str, Any]) -> bool:
    return bool(marks.get("wrapper") or marks.get("hookwrapper"))


def _check_hook(resolved: Resolved, class_: type[Any], hook: str, method: str) -> None:
    marks = marks_of(class_, method) or {}
    if is_wrapper(marks):
        if resolved.kind != "extension":
            raise DriverError(f"{resolved.describe(method)} is a wrapper; only an extension may wrap hooks")
        everywhere = {name for kind in REQUIRED if kind != "extension" for name in contract_of(kind)}
        if hook not in everywhere:
            raise DriverError(
                f"{resolved.describe(method)}: no driver has such a hook{nearest(hook, everywhere)}"
            )
        return
    contract = contract_of(resolved.kind)
    if hook not in contract:
        if marks.get("optionalhook") or _is_newer(resolved, class_):
            return
        raise DriverError(
            f"{resolved.describe(method)}: {resolved.kind} drivers have no such hook{nearest(hook, contract)}"
        )
    function = getattr(class_, method)
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise DriverError(
            f"{resolved.describe(method)} must be a plain function: drivers are blocking Python"
        )
    foreign = sorted(parameters_of(class_, method) - contract[hook])
    if foreign:
        takes = ", ".join(sorted(contract[hook])) or "nothing"
        raise DriverError(f'{resolved.describe(method)} wants "{foreign[0]}"; the hook gives {takes}')


def _is_newer(resolved: Resolved, class_: type[Any]) -> bool:
    ours = importlib.import_module(f"wherry.spec.{resolved.kind}").SPEC
    return bool(getattr(class_, "SPEC", (1, 0)) > ours)


def parameters_of(class_: type[Any], method: str) -> set[str]:
    """The arguments that must be given to a method by name, besides self."""
    static = inspect.getattr_static(class_, method)
    names = list(inspect.signature(getattr(class_, method)).parameters.values())
    if not isinstance(static, staticmethod | classmethod):
        names = names[1:]
    return {name.name for name in names if name.default is name.empty}


def say(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
