"""Loading and calling drivers: from the name of a class to an object whose hooks the core calls.

    discovery.Catalogue ── Resolved ──▶ load(resolved, services) ── Driver ──▶ driver.call("open", context=…)
    (the daemon)          (JSON: daemon, launcher, keeper)

pluggy states the contract and makes the call. By itself it does not notice a missing method (the call answers `[]`,
which reads like success) and ignores a method that lacks its marker. So the class is examined before it is
instantiated, and each driver gets a plugin manager of its own, which is thrown away when anything fails.

Where a hook has one implementation and no wrapper, which is nearly always, `call` is the bound method itself.

Finding drivers is left to `wherry.discovery`: nothing here reads metadata, so that launcher and keepers stay small.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import pluggy

from wherry import driver_options
from wherry.errors import DriverError, Unsupported, WherryError
from wherry.services import EngineServices
from wherry.spec.services import Services
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


class Driver:
    """A loaded driver. Its hooks are called by name; which it has does not change."""

    __slots__ = ("_calls", "_contract", "_own", "instance", "kind", "name", "resolved")

    def __init__(
        self,
        resolved: Resolved,
        instance: Any,
        contract: Mapping[str, frozenset[str]],
        calls: Mapping[str, Callable[..., Any]],
        own: frozenset[str],
    ) -> None:
        self.kind: Final = resolved.kind
        self.name: Final = resolved.name
        self.resolved: Final = resolved
        self.instance: Final = instance
        self._contract: Final = contract
        self._calls: Final = calls
        self._own: Final = own

    def __repr__(self) -> str:
        return f"<{self.resolved.describe()}>"

    def has(self, hook: str) -> bool:
        """Whether the driver itself implements `hook`."""
        return hook in self._own

    def call(self, hook: str, **kwargs: Any) -> Any:
        """Call `hook` with all the arguments that its specification names.

        Answers None for an optional hook that the driver lacks. A WherryError passes as it is; anything else that
        the driver raises becomes a DriverError naming distribution, entry point and method.
        """
        call = self._calls.get(hook)
        if kwargs.keys() != self._contract.get(hook):
            raise self._misuse(hook, kwargs)
        if call is None:
            return None
        try:
            return call(**kwargs)
        except WherryError:
            raise
        except Exception as error:
            raise DriverError(f"{self.resolved.describe(hook)} failed: {_say(error)}") from error

    def _misuse(self, hook: str, kwargs: Mapping[str, Any]) -> TypeError:
        if hook not in self._contract:
            return TypeError(
                f'a driver of kind {self.kind} has no hook "{hook}"{nearest(hook, self._contract)}'
            )
        wanted = ", ".join(sorted(self._contract[hook]))
        return TypeError(f"{self.kind} hook {hook} takes ({wanted}), not ({', '.join(sorted(kwargs))})")


def load(
    resolved: Resolved, services: Services | None, extensions: Sequence[Resolved | Driver] = ()
) -> Driver:
    """Import a driver's module, hold its class against the contract of its kind, and make the driver.

    `extensions` wrap its hooks, the first outermost; one given as a `Driver` is shared with whoever else has it, one
    given as `Resolved` is made anew. Raises DriverError for a driver that is broken, ConfigurationError for its
    options, Unsupported for one that was written for another version of the contract.
    """
    contract = contract_of(resolved.kind)
    class_ = examine(resolved)
    if isinstance(services, EngineServices):
        services = services.bound(driver=f"{resolved.kind}/{resolved.name}")
    instance = _instantiate(resolved, class_, services)
    hooks = _Hooks(resolved.kind)
    hooks.admit(resolved, instance)
    wrapped: set[str] = set()
    for extension in reversed(extensions):  # pluggy calls the one registered last first
        wrapper = extension if isinstance(extension, Driver) else load(extension, services)
        wrapped |= hooks.admit_wrappers(wrapper.resolved, wrapper.instance)
    own = _implementations(class_, wrappers=False)
    calls: dict[str, Callable[..., Any]] = {}
    for hook, method in own.items():
        if (
            hook in contract and hook not in wrapped
        ):  # a newer driver may have hooks that this core never calls
            calls[hook] = _direct(getattr(instance, method), contract[hook])
    for hook in wrapped:
        calls[hook] = getattr(hooks.hook, hook)
    return Driver(resolved, instance, contract, calls, frozenset(own) & contract.keys())


def examine(resolved: Resolved) -> type[Any]:
    """Import a driver's class and hold it against its contract, without making an instance.

    Raises DriverError (broken) or Unsupported (written for another version), with the method at fault.
    """
    class_ = _import(resolved)
    _check_version(resolved, class_)
    contract = contract_of(resolved.kind)
    found = _implementations(class_)
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
    for name, function in vars(_specification(kind)).items():
        if hasattr(function, "wherry_spec"):
            found[name] = frozenset(inspect.signature(function).parameters) - {"self"}
    return MappingProxyType(found)


def _specification(kind: Kind) -> type[Any]:
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
        raise DriverError(f"{resolved.describe()} cannot be imported: {_say(error)}") from error
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


def _implementations(class_: type[Any], *, wrappers: bool = True) -> dict[str, str]:
    """hook → method, for every method of a class that is marked as a hook."""
    found = {}
    for method in dir(class_):
        marks = _marks(class_, method)
        if marks is not None and (wrappers or not _is_wrapper(marks)):
            found[marks.get("specname") or method] = method
    return found


def _marks(class_: type[Any], method: str) -> Mapping[str, Any] | None:
    # Statically: a property is not evaluated only because somebody looks.
    static = inspect.getattr_static(class_, method, None)
    marks = getattr(getattr(static, "__func__", static), _MARK, None)
    return marks if isinstance(marks, dict) else None


def _is_wrapper(marks: Mapping[str, Any]) -> bool:
    return bool(marks.get("wrapper") or marks.get("hookwrapper"))


def _check_hook(resolved: Resolved, class_: type[Any], hook: str, method: str) -> None:
    marks = _marks(class_, method) or {}
    if _is_wrapper(marks):
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
    foreign = sorted(_parameters(class_, method) - contract[hook])
    if foreign:
        takes = ", ".join(sorted(contract[hook])) or "nothing"
        raise DriverError(f'{resolved.describe(method)} wants "{foreign[0]}"; the hook gives {takes}')


def _is_newer(resolved: Resolved, class_: type[Any]) -> bool:
    ours = importlib.import_module(f"wherry.spec.{resolved.kind}").SPEC
    return bool(getattr(class_, "SPEC", (1, 0)) > ours)


def _parameters(class_: type[Any], method: str) -> set[str]:
    """The arguments that must be given to a method by name, besides self."""
    static = inspect.getattr_static(class_, method)
    names = list(inspect.signature(getattr(class_, method)).parameters.values())
    if not isinstance(static, staticmethod | classmethod):
        names = names[1:]
    return {name.name for name in names if name.default is name.empty}


def _instantiate(resolved: Resolved, class_: type[Any], services: Services | None) -> Any:
    try:
        wanted = inspect.signature(class_).parameters
    except ValueError:  # a class written in C
        wanted = MappingProxyType({})
    declared = getattr(class_, "Options", None)
    if declared is None and resolved.options:
        declared = _NoOptions
    given: dict[str, Any] = {}
    if declared is not None:
        given["options"] = driver_options.build(
            declared, resolved.options, f'{resolved.kind} driver "{resolved.name}"', resolved.sources
        )
    if resolved.root:
        given["root"] = Path(resolved.root)
    if services is not None:
        given["services"] = services
    for parameter in wanted.values():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if parameter.default is parameter.empty and parameter.name not in given and named:
            raise DriverError(
                f'{resolved.describe("__init__")} wants "{parameter.name}", which there is not here; '
                "a driver is given those of root, options (if it declares Options) and services that it names"
            )
    try:
        return class_(**{name: value for name, value in given.items() if name in wanted})
    except WherryError:
        raise
    except Exception as error:
        raise DriverError(f"{resolved.describe('__init__')} failed: {_say(error)}") from error


@dataclass(frozen=True)
class _NoOptions:
    """The options of a driver that declares none: every name is unknown."""


class _Hooks(pluggy.PluginManager):
    """The hooks of one driver: its own methods, and the wrappers of extensions around them."""

    def __init__(self, kind: Kind) -> None:
        super().__init__("wherry")
        self.add_hookspecs(_specification(kind))
        self._contract = contract_of(kind)
        self._wrappers_only = False

    def admit(self, resolved: Resolved, instance: Any) -> None:
        try:
            self.register(instance, resolved.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise DriverError(f"{resolved.describe()} does not meet its contract: {_say(error)}") from error

    def admit_wrappers(self, resolved: Resolved, instance: Any) -> set[str]:
        """Put an extension's wrappers around the driver's hooks; answers which hooks those are."""
        self._wrappers_only = True
        try:
            self.admit(resolved, instance)
        finally:
            self._wrappers_only = False
        return {
            caller.name for caller in self.get_hookcallers(instance) or [] if caller.name in self._contract
        }

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        marks = _marks(type(plugin), name)
        if marks is None:
            return None
        if not self._wrappers_only:
            return None if _is_wrapper(marks) else marks
        # One extension may wrap hooks of several kinds, and hooks of two kinds may share a name: the arguments tell.
        hook = marks.get("specname") or name
        fits = hook in self._contract and _parameters(type(plugin), name) <= self._contract[hook]
        return marks if fits and _is_wrapper(marks) else None


def _direct(method: Callable[..., Any], given: frozenset[str]) -> Callable[..., Any]:
    """The method itself, or, where it does not name every argument that the hook gives, a call without those."""
    parameters = inspect.signature(method).parameters
    if given <= parameters.keys() or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return method
    named = tuple(given & parameters.keys())

    def call(**kwargs: Any) -> Any:
        return method(**{name: kwargs[name] for name in named})

    return call


def _say(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
