"""ps: which containers a client wants to see. Source: API 1.51 ContainerList, its filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from wherry.clock import parse
from wherry.container.container import Container
from wherry.container.registry import Containers
from wherry.errors import InvalidRequest
from wherry.spec.container import ContainerView
from wherry.spec.frontend import Filters

STATUSES: Final = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


def listed(
    containers: Containers,
    everything: bool,
    filters: Filters,
    limit: int,
    image_ids: Callable[[str], Sequence[str]],
) -> list[ContainerView]:
    """Snapshots, newest first, as the filters want them. `image_ids`: an image and all that descend from it."""
    for key in filters:
        if key not in _TESTS and key not in ("before", "since", "ancestor", "is-task"):
            raise InvalidRequest(f"invalid filter '{key}'")
    for status in filters.get("status", ()):
        if status not in STATUSES:
            raise InvalidRequest(
                f"invalid value for 'status' filter: {status}; must be one of {', '.join(sorted(STATUSES))}"
            )
    shown_all = (
        everything or limit > 0 or any(filters.get(k) for k in ("status", "exited", "before", "since"))
    )
    before = min((_created(containers, n) for n in filters.get("before", ())), default=None)
    since = max((_created(containers, n) for n in filters.get("since", ())), default=None)
    ancestors = {i for name in filters.get("ancestor", ()) for i in image_ids(name)}
    found = []
    for container in containers.all():
        view = container.view
        if not shown_all and view.status not in ("running", "paused", "restarting"):
            continue
        if (before is not None and parse(view.created) >= before) or (
            since is not None and parse(view.created) <= since
        ):
            continue
        if filters.get("ancestor") and view.image_id not in ancestors:
            continue
        if all(_TESTS[key](view, values) for key, values in filters.items() if key in _TESTS and values):
            found.append(view)
            if limit > 0 and len(found) == limit:
                break
    return found


def _created(containers: Containers, name: str) -> int:
    container: Container = containers.get(name)
    return parse(container.view.created)


def _name(view: ContainerView, values: Sequence[str]) -> bool:
    try:
        return any(re.search(v.removeprefix("/"), view.name) or re.search(v, f"/{view.name}") for v in values)
    except re.error as error:
        raise InvalidRequest(f"invalid value for 'name' filter: {error}") from error


def _label(view: ContainerView, values: Sequence[str]) -> bool:
    labels = view.config.labels or {}
    return all(
        name in labels and (not equals or labels[name] == value)
        for name, equals, value in (v.partition("=") for v in values)
    )


def _exited(view: ContainerView, values: Sequence[str]) -> bool:
    if not all(re.fullmatch(r"-?\d+", v) for v in values):
        raise InvalidRequest(f"invalid value for 'exited' filter: {values[0]}")
    return view.status not in ("running", "paused", "created") and str(view.exit_code) in values


def _network(view: ContainerView, values: Sequence[str]) -> bool:
    places = {*view.networks, *(endpoint.network_id for endpoint in view.networks.values())}
    return any(v in places or any(p and p.startswith(v) for p in places) for v in values)


def _volume(view: ContainerView, values: Sequence[str]) -> bool:
    places = {p for m in view.mounts for p in (m.name, m.source, m.destination)}
    return any(v in places for v in values)


def _ports(text: str) -> tuple[int, int, str]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", text)
    if match is None:
        raise InvalidRequest(f"invalid port: {text}")
    return int(match[1]), int(match[2] or match[1]), match[3] or "tcp"


def _publish(view: ContainerView, values: Sequence[str]) -> bool:
    published = {
        (int(binding.host_port), key.partition("/")[2])
        for key, bound in view.ports.items()
        for binding in bound or ()
    }
    wanted = [_ports(v) for v in values]
    return any(
        first <= port <= last and p == protocol for port, p in published for first, last, protocol in wanted
    )


def _expose(view: ContainerView, values: Sequence[str]) -> bool:
    exposed = {
        (int(key.partition("/")[0]), key.partition("/")[2] or "tcp")
        for key in {**(view.config.exposed_ports or {}), **(view.host_config.port_bindings or {})}
    }
    wanted = [_ports(v) for v in values]
    return any(
        first <= port <= last and p == protocol for port, p in exposed for first, last, protocol in wanted
    )


def _health(view: ContainerView, values: Sequence[str]) -> bool:
    return (view.health.status if view.health else "none") in values


_TESTS: Final[dict[str, Callable[[ContainerView, Sequence[str]], bool]]] = {
    "id": lambda view, values: any(view.id.startswith(v) for v in values),
    "name": _name,
    "label": _label,
    "status": lambda view, values: view.status in values,
    "exited": _exited,
    "network": _network,
    "volume": _volume,
    "publish": _publish,
    "expose": _expose,
    "health": _health,
    "isolation": lambda view, values: True,
}
