"""Published ports on their way to the keeper: what it holds, and what it serves."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Final

from wherry.house import House
from wherry.keeper.client import Keeper
from wherry.keeper.protocol import Published, Target
from wherry.network.binding import shown
from wherry.network.connection import Connection
from wherry.spec.network import PortBinding

AT_ONCE: Final = 500
"""Ports that one message to a keeper carries."""


def published(house: House, connection: Connection) -> list[Published]:
    """The ports just claimed, as the keeper is told of them; the descriptors of `held` in their order go along."""
    targets = _targets(house, connection)
    return [
        Published(
            name=name(port), protocol=port.protocol, descriptor=position, target=targets.get(name(port))
        )
        for position, (port, _) in enumerate(connection.held)
    ]


def placed(part: Sequence[Published], first: int) -> tuple[Published, ...]:
    """The same for a message in which their descriptors stand one after the other from position `first` on."""
    return tuple(dataclasses.replace(each, descriptor=first + position) for position, each in enumerate(part))


def send(keeper: Keeper, every: Sequence[Published], descriptors: Sequence[int]) -> None:
    """Have a keeper hold these too, in as many messages as it takes. The descriptors stay the caller's."""
    for position in range(0, len(every), AT_ONCE):
        part = slice(position, position + AT_ONCE)
        keeper.publish(placed(every[part], 0), descriptors[part])


def hand_over(house: House, keeper: Keeper | None, connection: Connection) -> None:
    """Have a running container's keeper hold what was claimed, and serve the ports as the connection is now.

    The descriptors are closed here, also on an error.
    """
    try:
        if keeper is not None and connection.ports:
            send(keeper, published(house, connection), connection.sockets)
            keeper.publish((), (), _targets(house, connection))
    finally:
        for descriptor in connection.sockets:
            os.close(descriptor)


def name(port: PortBinding) -> str:
    """What the keeper calls a port."""
    return f"{port.protocol} {shown(port.host_address, port.host_port)}"


def _targets(house: House, connection: Connection) -> dict[str, Target]:
    return {
        name(port): Target(address=address, port=number)
        for port, (address, number) in house.networks.targets(connection).items()
    }
