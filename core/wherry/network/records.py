"""The networks on disk: one JSON file each, promised; a damaged one is set aside and stops nobody."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

import msgspec

from wherry import clock
from wherry.errors import NotFound
from wherry.spec.network import Network
from wherry.spec.services import Log
from wherry.state import atomic

_decode: Final = msgspec.json.Decoder(Network)
_encode: Final = msgspec.json.Encoder()


def load(directory: Path, log: Log) -> dict[str, Network]:
    """Every network by its id."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = {}
    for path in sorted(directory.glob("*.json")):
        try:
            network = _decode.decode(path.read_bytes())
            if network.id != path.stem:
                raise ValueError(f"it says that it is {network.id}")
        except (OSError, ValueError) as error:
            aside = path.with_suffix(".damaged")
            log.error(
                f"the record of network {path.stem[:12]} is damaged and set aside as {aside.name}: {error}"
            )
            os.replace(path, aside)
            continue
        found[network.id] = network
    return found


def save(directory: Path, network: Network) -> None:
    """Promise a network's record."""
    atomic.promise(directory / f"{network.id}.json", _encode.encode(network))
    atomic.sync_directory(directory)


def remove(directory: Path, network: Network) -> None:
    """Already gone is success."""
    (directory / f"{network.id}.json").unlink(missing_ok=True)
    atomic.sync_directory(directory)


def new_id() -> str:
    return secrets.token_hex(32)


def now() -> str:
    return clock.now()


def find(networks: dict[str, Network], wanted: str) -> Network:
    """By name, id, or an id's beginning that only one has. NotFound."""
    if wanted in networks:
        return networks[wanted]
    for network in networks.values():
        if network.name == wanted:
            return network
    if re.fullmatch(r"[0-9a-f]{1,64}", wanted):
        fitting = [network for network in networks.values() if network.id.startswith(wanted)]
        if len(fitting) == 1:
            return fitting[0]
    raise NotFound("network", wanted, f"network {wanted} not found")
