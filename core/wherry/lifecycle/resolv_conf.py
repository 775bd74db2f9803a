"""resolv.conf of containers: made from the host's, followed while nobody touched it, left alone once somebody did.

    the host's file changes     container stopped, file as we wrote it   rewritten at once
                                container runs                           marked: looked at again at its next start
    a container starts          file as we wrote it, or none             written as it should be now
    always                      somebody changed it                      left alone

Whether somebody did is told by a digest kept beside the file. It is bind-mounted into the container, so it is
rewritten in place. Source: reference `setupContainerDns`, `updateResolvConf`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from wherry.container.container import Container
from wherry.errors import NotFound
from wherry.house import House
from wherry.lifecycle.files import read, write
from wherry.network import names
from wherry.network.endpoints import has_names
from wherry.network.listening import ADDRESS
from wherry.spec.network import Network

log = logging.getLogger(__name__)

USUAL: Final = Path("/etc/resolv.conf")
STUB: Final = "127.0.0.53"
BEHIND_THE_STUB: Final = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved says whom it asks itself: its own address means nothing in a container."""


def write_at_start(house: House, container: Container) -> None:
    """Give a container that starts its file, or leave the one alone that somebody changed."""
    if container.host_config.network_mode.startswith("container:"):
        return
    refresh(house, container)
    if container.record.update_dns:
        container.record = msgspec.structs.replace(container.record, update_dns=False)


def refresh(house: House, container: Container) -> None:
    """Make the file what it should be now, unless somebody changed it."""
    path, hashed = _paths(container)
    before = read(path)
    if before is not None and names.digest(before) != read(hashed):
        return
    text = wanted(house, container)
    if before != text:
        write(path, text)
        write(hashed, names.digest(text))


def host_changed(house: House) -> None:
    """The host's file is another now: stopped containers follow, running ones will at their next start."""
    for container in house.containers.all():
        mode = container.host_config.network_mode
        if mode.startswith("container:") or read(_paths(container)[0]) is None:
            continue
        try:
            with container.operation("dns"):
                if container.view.status in ("removing", "dead"):
                    continue
                if container.running and read(_paths(container)[0]) != wanted(house, container):
                    container.record = msgspec.structs.replace(container.record, update_dns=True)
                    container.save(synced=False)
                elif not container.running:
                    refresh(house, container)
        except Exception as error:  # one container must not keep the others from following
            log.warning("resolv.conf of %s: %s", container.name, error)


def wanted(house: House, container: Container) -> str:
    """What the file should say."""
    host, settings = container.host_config, house.settings
    if host.network_mode == "host":
        return read(settings.resolv_conf) or ""
    networks = _networks(house, container)
    text = names.resolv_conf(
        host_text(settings.resolv_conf),
        dns=host.dns or settings.dns,
        search=host.dns_search or settings.dns_search,
        options=host.dns_options or settings.dns_opts,
        ipv6=any(network.ipv6 for network in networks),
        filter_local=True,
    )
    return names.answered_by(text, ADDRESS) if any(map(has_names, networks)) else text


def host_text(path: Path) -> str:
    """The host's file; where it names only systemd's own stub, the file that says whom that asks."""
    text = read(path) or ""
    if names.nameservers(text) == [STUB] and path == USUAL:
        return read(BEHIND_THE_STUB) or text
    return text


def _networks(house: House, container: Container) -> list[Network]:
    found = []
    for name in container.record.networks:
        try:
            found.append(house.networks.get(name))
        except NotFound:
            continue  # the start will say so
    return found


def _paths(container: Container) -> tuple[Path, Path]:
    return container.directory / "resolv.conf", container.directory / "resolv.conf.hash"


def watched(path: Path) -> frozenset[Path]:
    """Directories in which a change of the host's file would be seen: it may be a link, and be replaced by renaming."""
    found = {path.parent, Path(os.path.realpath(path)).parent}
    if path == USUAL:
        found.add(BEHIND_THE_STUB.parent)
    return frozenset(directory for directory in found if directory.is_dir())
