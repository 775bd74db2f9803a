"""Verbs about networks."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from wherry.cli import output, parse
from wherry.cli.connection import part
from wherry.cli.flags import flag
from wherry.cli.inspect import print_all
from wherry.cli.listing import show
from wherry.cli.session import Session
from wherry.errors import InvalidRequest

Network = Annotated[str, typer.Argument(metavar="NETWORK")]
Networks = Annotated[list[str], typer.Argument(metavar="NETWORK…")]
Container = Annotated[str, typer.Argument(metavar="CONTAINER")]
Many = list[str] | None


def ls(
    session: Session,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only ids")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not shorten")] = False,
    filter: Annotated[Many, flag("-f", "--filter", help="name=value")] = None,
    format: Annotated[str, flag("--format", help="table, json or a Go template")] = "",
) -> int:
    found = session.client.call("GET", "/networks", {"filters": output.filters(filter or [])})
    rows = [
        {
            "ID": output.short_id(each["Id"], no_trunc),
            "Name": each["Name"],
            "Driver": each["Driver"],
            "Scope": each.get("Scope", "local"),
            "Internal": str(each.get("Internal", False)).lower(),
            "Labels": ",".join(
                f"{name}={value}" for name, value in sorted((each.get("Labels") or {}).items())
            ),
        }
        for each in sorted(found, key=lambda network: network["Name"])
    ]
    columns = ["ID", "Name", "Driver", "Scope"]
    return show(rows, columns, {"ID": "NETWORK ID"}, quiet="ID" if quiet else "", format=format)


def create(
    session: Session,
    network: Network,
    driver: Annotated[str, flag("-d", "--driver", help="Network driver [bridge]")] = "bridge",
    subnet: Annotated[Many, flag("--subnet", help="10.1.0.0/16")] = None,
    gateway: Annotated[Many, flag("--gateway", help="Address of the host in it")] = None,
    ip_range: Annotated[Many, flag("--ip-range", help="Where addresses are taken from")] = None,
    aux_address: Annotated[Many, flag("--aux-address", help="name=address that is not given out")] = None,
    internal: Annotated[bool, flag("--internal", help="No way out")] = False,
    attachable: Annotated[bool, flag("--attachable", help="Containers may join it by hand")] = False,
    ipv6: Annotated[bool, flag("--ipv6", help="With IPv6")] = False,
    ipv4: Annotated[bool, flag("--ipv4", help="With IPv4 [it has]")] = True,
    opt: Annotated[Many, flag("-o", "--opt", help="name=value for the driver")] = None,
    label: Annotated[Many, flag("--label", help="name=value")] = None,
) -> int:
    if len(gateway or []) > len(subnet or []) or len(ip_range or []) > len(subnet or []):
        raise InvalidRequest("every --gateway and --ip-range needs its --subnet")
    pools: list[dict[str, Any]] = [{"Subnet": each} for each in subnet or []]
    for key, values in (("Gateway", gateway), ("IPRange", ip_range)):
        for pool, value in zip(pools, values or [], strict=False):
            pool[key] = value
    if aux_address and pools:
        pools[0]["AuxiliaryAddresses"] = parse.pairs(aux_address)
    body = {
        "Name": network,
        "Driver": driver,
        "CheckDuplicate": True,
        "Internal": internal,
        "Attachable": attachable,
        "EnableIPv6": ipv6,
        **({} if ipv4 else {"EnableIPv4": False}),
        "IPAM": {"Driver": "default", "Config": pools},
        "Options": parse.pairs(opt or []),
        "Labels": parse.pairs(label or []),
    }
    print(session.client.call("POST", "/networks/create", None, body)["Id"])
    return 0


def prune(
    session: Session,
    filter: Annotated[Many, flag("--filter", help="label=… or until=…")] = None,
    force: Annotated[bool, flag("-f", "--force", help="Do not ask")] = False,
) -> int:
    if not force:
        print(
            "This removes every network of yours that no running container is in. Go on? [y/N] ",
            end="",
            flush=True,
        )
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    found = session.client.call("POST", "/networks/prune", {"filters": output.filters(filter or [])})
    for name in found.get("NetworksDeleted") or ():
        print(name)
    return 0


def rm(session: Session, networks: Networks) -> int:
    return output.each(networks, lambda name: session.client.call("DELETE", f"/networks/{part(name)}"))


def inspect(
    session: Session,
    networks: Networks,
    format: Annotated[str, flag("-f", "--format", help="json or a Go template")] = "",
) -> int:
    return print_all(session.client, networks, ["network"], format)


def connect(
    session: Session,
    network: Network,
    container: Container,
    ip: Annotated[str, flag("--ip", help="IPv4 address")] = "",
    ip6: Annotated[str, flag("--ip6", help="IPv6 address")] = "",
    alias: Annotated[Many, flag("--alias", help="Another name in the network")] = None,
    link: Annotated[Many, flag("--link", help="Link to a container: name[:alias]")] = None,
    link_local_ip: Annotated[Many, flag("--link-local-ip", help="A further address, of a link")] = None,
    mac_address: Annotated[str, flag("--mac-address", help="MAC address")] = "",
    driver_opt: Annotated[Many, flag("--driver-opt", help="name=value for the driver")] = None,
    gw_priority: Annotated[int, flag("--gw-priority", help="The highest one's gateway is the way out")] = 0,
) -> int:
    endpoint: dict[str, Any] = {"Aliases": alias or [], "Links": link or [], "GwPriority": gw_priority}
    if driver_opt:
        endpoint["DriverOpts"] = parse.pairs(driver_opt)
    if mac_address:
        endpoint["MacAddress"] = mac_address
    if ip or ip6 or link_local_ip:
        endpoint["IPAMConfig"] = {"IPv4Address": ip, "IPv6Address": ip6, "LinkLocalIPs": link_local_ip or []}
    body = {"Container": container, "EndpointConfig": endpoint}
    session.client.call("POST", f"/networks/{part(network)}/connect", None, body)
    return 0


def disconnect(
    session: Session,
    network: Network,
    container: Container,
    force: Annotated[bool, flag("-f", "--force", help="Whatever the container's state")] = False,
) -> int:
    body = {"Container": container, "Force": force}
    session.client.call("POST", f"/networks/{part(network)}/disconnect", None, body)
    return 0
