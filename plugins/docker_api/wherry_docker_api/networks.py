"""Networks. Source: API 1.51 /networks; moby `router/network`, `libnetwork/drivers/bridge`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from wherry.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unsupported
from wherry.spec.container import EndpointRequest, Value
from wherry.spec.frontend import Engine
from wherry.spec.network import Network, Subnet
from wherry_docker_api.answer import NO_CONTENT, OK, Answer, json
from wherry_docker_api.call import Call, Route
from wherry_docker_api.query import check_flag, check_words, settle_until
from wherry_docker_api.render import network as render

_FILTERS: Final = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE_FILTERS: Final = frozenset({"label", "label!", "until"})

# Options that a bridge network has of docker, by the field that wherry has for them.
_BRIDGE: Final = "com.docker.network.bridge"
_MTU: Final = "com.docker.network.driver.mtu"


class IPAMEntry(Value, frozen=True):
    subnet: str = ""
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAMBody(Value, frozen=True):
    driver: str = ""
    options: dict[str, str] | None = None
    config: list[IPAMEntry] | None = None


class CreateBody(Value, frozen=True):
    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    ipam: IPAMBody | None = msgspec.field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class ConnectBody(Value, frozen=True):
    container: str = ""
    endpoint_config: EndpointRequest = EndpointRequest()


class DisconnectBody(Value, frozen=True):
    container: str = ""
    force: bool = False


async def list_(call: Call) -> Answer:
    filters = call.query.filters(_FILTERS)
    check_flag(filters, "dangling")
    check_words(filters, "type", ("builtin", "custom"))
    found = await call.door.read(call.engine.networks, filters)
    return json([render.inspect(view, members=False) for view in found])


async def inspect(call: Call) -> Answer:
    return json(render.inspect(await call.door.read(call.engine.network, call.name), members=True))


async def create(call: Call) -> Answer:
    network = _network(await call.json(CreateBody))
    made = await call.door.work(call.engine.create_network, network)
    return json({"Id": made, "Warning": ""}, 201)


def _network(body: CreateBody) -> Network:
    if not body.name:
        raise InvalidRequest("the network needs a name")
    if body.scope == "swarm" or body.ingress or body.config_only:
        raise Unsupported("networks of a swarm are not supported: this engine is not part of one")
    ipam = body.ipam or IPAMBody()
    if ipam.driver not in ("", "default"):
        raise Unsupported(f'the address driver "{ipam.driver}" is not supported: there is only "default"')
    options = body.options or {}
    return Network(
        id="",
        name=body.name,
        driver=body.driver or "bridge",
        subnets=tuple(
            Subnet(
                cidr=each.subnet,
                gateway=each.gateway,
                range=each.ip_range,
                auxiliary=each.auxiliary_addresses or {},
            )
            for each in ipam.config or ()
        ),
        interface=options.get(f"{_BRIDGE}.name", ""),
        internal=body.internal,
        ipv4=body.enable_ipv4 is not False,
        ipv6=bool(body.enable_ipv6),
        mtu=_mtu(options),
        icc=_flag(options, f"{_BRIDGE}.enable_icc"),
        masquerade=_flag(options, f"{_BRIDGE}.enable_ip_masquerade"),
        options=options,
        labels=body.labels or {},
        attachable=body.attachable,
    )


def _mtu(options: Mapping[str, str]) -> int:
    text = options.get(_MTU, "1500")
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 68 <= int(text) <= 65535):
        raise InvalidRequest(f'the option {_MTU} must be a number from 68 to 65535, not "{text}"')
    return int(text)


def _flag(options: Mapping[str, str], name: str) -> bool:
    match options.get(name, "true").lower():
        case "true" | "t" | "1":
            return True
        case "false" | "f" | "0":
            return False
        case other:
            raise InvalidRequest(f'the option {name} must be true or false, not "{other}"')


async def remove(call: Call) -> Answer:
    await call.door.work(call.engine.remove_network, call.name)
    return NO_CONTENT


async def connect(call: Call) -> Answer:
    body = await call.json(ConnectBody)
    if not body.container:
        raise InvalidRequest("the field Container is missing: it must name the container to connect")
    await call.door.work(call.engine.connect, call.name, body.container, body.endpoint_config)
    return OK


async def disconnect(call: Call) -> Answer:
    body = await call.json(DisconnectBody)
    if not body.container:
        raise InvalidRequest("the field Container is missing: it must name the container to disconnect")
    await call.door.work(call.engine.disconnect, call.name, body.container, body.force)
    return OK


async def prune(call: Call) -> Answer:
    given = settle_until(call.query.filters(_PRUNE_FILTERS))
    filters: dict[str, Sequence[str]] = {**given, "type": ["custom"]}
    deleted = await call.door.work(_prune, call.engine, filters)
    return json({"NetworksDeleted": deleted or None})


def _prune(engine: Engine, filters: Mapping[str, Sequence[str]]) -> list[str]:
    deleted: list[Any] = []
    for view in engine.networks(filters):
        if view.containers:
            continue
        try:
            engine.remove_network(view.network.id)
        except (Conflict, Forbidden, NotFound):
            continue  # in use after all, or somebody was faster
        deleted.append(view.network.name)
    return deleted


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/networks", list_),
    ("GET", "/networks/", list_),
    ("POST", "/networks/create", create),
    ("POST", "/networks/prune", prune),
    ("GET", "/networks/{id}", inspect),
    ("DELETE", "/networks/{id}", remove),
    ("POST", "/networks/{id}/connect", connect),
    ("POST", "/networks/{id}/disconnect", disconnect),
)
