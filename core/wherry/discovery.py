"""Finding drivers: which distributions offer one, under which name. In the daemon only.

stevedore reads the entry points. Reading is all it does here: nothing is imported before a driver is used, because
stevedore would import a whole group, log what fails and go on. Nor does it use its cache, a file below the home
directory: metadata is read once per daemon (10 ms), and what is installed later is found at the next start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from stevedore import NamedExtensionManager

from wherry.errors import ConfigurationError, WherryError
from wherry.plugins import KINDS, Kind, Resolved, examine
from wherry.words import nearest


class Group(NamedExtensionManager[Any]):
    """The entry points of one group, each with its distribution. It is asked to load none of them."""

    def __init__(self, group: str, installed: Iterable[EntryPoint]) -> None:
        self._installed = list(installed)
        super().__init__(group, names=[])

    def list_entry_points(self) -> list[EntryPoint]:
        return self._installed


class Catalogue:
    """Every driver that is installed, by kind and name; read once, when it is made."""

    def __init__(self) -> None:
        installed = entry_points()
        self._found: Final[dict[tuple[Kind, str], list[Resolved]]] = defaultdict(list)
        self._reasons: Final[dict[tuple[Kind, str], str]] = {}
        for kind in KINDS:
            group = f"wherry.{kind}"
            for point in Group(group, installed.select(group=group)).list_entry_points():
                self._found[kind, point.name].append(_resolve(kind, point))

    def find(
        self,
        kind: Kind,
        name: str,
        *,
        options: Mapping[str, Any] | None = None,
        sources: Mapping[str, str] | None = None,
        root: str = "",
    ) -> Resolved:
        """The driver of that name, ready for `plugins.load`.

        Raises ConfigurationError if there is none, naming the nearest, or if several distributions claim the name.
        """
        found = self._found.get((kind, name), [])
        if not found:
            known = nearest(name, self.names(kind))
            raise ConfigurationError(f'no {_title(kind)} "{name}" is installed{known}')
        if len(found) > 1:
            raise ConfigurationError(_claimed(found))
        only = found[0]
        return Resolved(
            kind=kind,
            name=name,
            module=only.module,
            attribute=only.attribute,
            distribution=only.distribution,
            version=only.version,
            options=dict(options or {}),
            sources=dict(sources or {}),
            root=root,
        )

    def names(self, kind: Kind) -> list[str]:
        """The names of a kind's drivers, sorted."""
        return sorted(name for of, name in self._found if of == kind)

    def entries(self) -> list[Resolved]:
        """Every driver, by kind and name; a name that two distributions claim is there twice."""
        return [resolved for key in sorted(self._found, key=_order) for resolved in self._found[key]]

    def broken(self, kind: Kind, name: str, reason: str) -> None:
        """Remember that a driver failed when it was loaded: `listing` says so from now on."""
        self._reasons[kind, name] = reason

    def check(self) -> dict[tuple[Kind, str], str]:
        """Import every driver and hold it against its contract; answers (kind, name) → what is wrong."""
        wrong: dict[tuple[Kind, str], str] = {}
        for key, found in self._found.items():
            for resolved in found:
                try:
                    examine(resolved)
                except WherryError as error:
                    wrong[key] = str(error)
            if len(found) > 1:
                wrong[key] = _claimed(found)
        return wrong

    def listing(self, in_use: Collection[tuple[Kind, str]] = (), check: bool = False) -> list[dict[str, str]]:
        """What `Engine.drivers` answers: one entry per driver, with its state and, where broken, the reason."""
        wrong = {**self._reasons, **(self.check() if check else {})}
        lines = []
        for resolved in self.entries():
            key = (resolved.kind, resolved.name)
            claims = self._found[key]
            reason = wrong.get(key, _claimed(claims) if len(claims) > 1 else "")
            state = "broken" if reason else "in use" if key in in_use else "available"
            lines.append(
                {
                    "kind": resolved.kind,
                    "name": resolved.name,
                    "distribution": resolved.distribution,
                    "version": resolved.version,
                    "entry_point": resolved.entry_point,
                    "state": state,
                    "reason": reason,
                }
            )
        return lines


def _resolve(kind: Kind, point: EntryPoint) -> Resolved:
    module, _, attribute = point.value.partition(":")
    return Resolved(
        kind=kind,
        name=point.name,
        module=module.strip(),
        attribute=attribute.partition("[")[0].strip(),
        distribution=point.dist.name if point.dist else "",
        version=point.dist.version if point.dist else "",
    )


def _claimed(found: list[Resolved]) -> str:
    owners = " and ".join(sorted(f"{each.distribution} {each.version}" for each in found))
    return f'the {_title(found[0].kind)} "{found[0].name}" is claimed by {owners}; uninstall all but one'


def _title(kind: Kind) -> str:
    return kind if kind in ("frontend", "extension") else f"{kind} driver"


def _order(key: tuple[Kind, str]) -> tuple[int, str]:
    return KINDS.index(key[0]), key[1]
