"""Loading and calling drivers: from the name of a class to an object whose hooks the core calls.

    discovery.Catalogue ── Resolved ──▶ load(resolved, services) ── Driver ──▶ driver.call("open", context=…)
    (the daemon)          (JSON: daemon, launcher, keeper)

`wherry.contracts` examines the class; pluggy holds the instance, each driver in a plugin manager of its own, which is
thrown away when anything fails. Where a hook has one implementation and no wrapper, which is nearly always, `call` is
the bound method itself.

Finding drivers is left to `wherry.discovery`: nothing here reads metadata, so that launcher and keepers stay small.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pluggy

from wherry import driver_options
from wherry.contracts import (
    KINDS,
    REQUIRED,
    Kind,
    Resolved,
    contract_of,
    examine,
    implementations,
    is_wrapper,
    marks_of,
    parameters_of,
    say,
    specification,
)
from wherry.errors import DriverError, WherryError
from wherry.services import EngineServices
from wherry.spec.services import Services
from wherry.words import nearest

__all__ = ["KINDS", "REQUIRED", "Driver", "Kind", "Resolved", "contract_of", "examine", "load"]


class Driver:
    """A loaded driver. Its hooks are called by name; which it has does not change."""

    __slots__ = ("_calls", "_contract", "_own", "_wrapped", "instance", "kind", "name", "resolved")

    def __init__(
        self,
        resolved: Resolved,
        instance: Any,
        contract: Mapping[str, frozenset[str]],
        calls: Mapping[str, Callable[..., Any]],
        own: frozenset[str],
        wrapped: Mapping[str, Sequence[str]],
    ) -> None:
        self.kind: Final = resolved.kind
        self.name: Final = resolved.name
        self.resolved: Final = resolved
        self.instance: Final = instance
        self._contract: Final = contract
        self._calls: Final = calls
        self._own: Final = own
        self._wrapped: Final = wrapped

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
            by = " and ".join(f'"{name}"' for name in self._wrapped.get(hook, ()))
            whose = f", wrapped by extension {by}," if by else ""
            raise DriverError(f"{self.resolved.describe(hook)}{whose} failed: {say(error)}") from error

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
    wrapped: dict[str, list[str]] = {}
    for extension in reversed(extensions):  # pluggy calls the one registered last first
        wrapper = extension if isinstance(extension, Driver) else load(extension, services)
        for hook in hooks.admit_wrappers(wrapper.resolved, wrapper.instance):
            wrapped.setdefault(hook, []).append(wrapper.name)
    own = implementations(class_, wrappers=False)
    calls: dict[str, Callable[..., Any]] = {}
    for hook, method in own.items():
        # A driver newer than this core may have hooks that are never called.
        if hook in contract and hook not in wrapped:
            calls[hook] = _direct(getattr(instance, method), contract[hook])
    for hook in wrapped:
        calls[hook] = getattr(hooks.hook, hook)
    return Driver(resolved, instance, contract, calls, frozenset(own) & contract.keys(), wrapped)


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
        raise DriverError(f"{resolved.describe('__init__')} failed: {say(error)}") from error


@dataclass(frozen=True)
class _NoOptions:
    """The options of a driver that declares none: every name is unknown."""


class _Hooks(pluggy.PluginManager):
    """The hooks of one driver: its own methods, and the wrappers of extensions around them."""

    def __init__(self, kind: Kind) -> None:
        super().__init__("wherry")
        self.add_hookspecs(specification(kind))
        self._contract = contract_of(kind)
        self._wrappers_only = False

    def admit(self, resolved: Resolved, instance: Any) -> None:
        try:
            self.register(instance, f"{resolved.kind}/{resolved.name}/{id(instance)}")
        except (pluggy.PluginValidationError, ValueError) as error:
            raise DriverError(f"{resolved.describe()} does not meet its contract: {say(error)}") from error

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
        marks = marks_of(type(plugin), name)
        if marks is None:
            return None
        if not self._wrappers_only:
            return None if is_wrapper(marks) else marks
        # One extension may wrap hooks of several kinds, and hooks of two kinds may share a name: the arguments tell.
        hook = marks.get("specname") or name
        fits = hook in self._contract and parameters_of(type(plugin), name) <= self._contract[hook]
        return marks if fits and is_wrapper(marks) else None


def _direct(method: Callable[..., Any], given: frozenset[str]) -> Callable[..., Any]:
    """The method itself, or, where it does not name every argument that the hook gives, a call without those."""
    parameters = inspect.signature(method).parameters
    if given <= parameters.keys() or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return method
    named = tuple(given & parameters.keys())

    def call(**kwargs: Any) -> Any:
        return method(**{name: kwargs[name] for name in named})

    return call
