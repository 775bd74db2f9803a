"""The firewall as the networks use it: the model, one writer, and the choice between the two.

Every change goes to the kernel as one small transaction. If the kernel does not have what the change builds on
(somebody flushed the rules), everything is written anew from the model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from wherry.errors import ConfigurationError, Unavailable, Unsupported
from wherry.network.firewall import legacy, nft
from wherry.network.firewall.model import FirewallError, Grant, Rules, Writer, Zone

CHOICES: Final = {
    "": "auto",
    "auto": "auto",
    "nft": "nft",
    "nftables": "nft",
    "legacy": "legacy",
    "iptables": "legacy",
}


class Firewall:
    """What is wanted, and the one who writes it. Safe to share: changes are made one after the other."""

    def __init__(self, writer: Writer | None = None) -> None:
        self._writer = writer
        self._rules = Rules()
        self._lock = threading.Lock()

    def use(self, writer: Writer | None) -> None:
        """Write by this one from now on; None: write nothing."""
        with self._lock:
            self._writer = writer

    @property
    def active(self) -> bool:
        """False: the engine was told to write no rules."""
        return self._writer is not None

    @property
    def name(self) -> str:
        return self._writer.name if self._writer else "none"

    def set(self, zones: Iterable[Zone], grants: Iterable[Grant]) -> bool:
        """Make this the whole of the rules; answers whether the kernel had something else."""
        with self._lock:
            self._rules = Rules(set(zones))
            self._rules.include(grants)
            return self._mend()

    def mend(self) -> bool:
        """Write everything again if the kernel lost it; answers whether it had."""
        with self._lock:
            return self._mend()

    def add_zone(self, zone: Zone) -> None:
        with self._lock:
            self._rules.zones.add(zone)
            self._write()

    def remove_zone(self, zone: Zone) -> None:
        with self._lock:
            self._rules.zones.discard(zone)
            self._write()

    def publish(self, grants: Iterable[Grant]) -> None:
        """Let these pass too. Unavailable if the kernel refuses; then nothing has changed."""
        with self._lock:
            new = [grant for grant in grants if grant not in self._rules]
            if not new or self._writer is None:
                return
            self._rules.include(new)
            try:
                try:
                    self._writer.add(new)
                except FirewallError:
                    self._writer.write(self._rules)
            except FirewallError as error:
                self._rules.exclude(new)
                raise Unavailable(f"ports cannot be published: {error}") from error

    def withdraw(self, grants: Iterable[Grant]) -> None:
        """Let these pass no more; they did not is success."""
        with self._lock:
            old = [grant for grant in grants if grant in self._rules]
            if not old or self._writer is None:
                return
            self._rules.exclude(old)
            try:
                self._writer.remove(old)
            except FirewallError:
                self._write()

    def owned(self) -> list[str]:
        return self._writer.owned() if self._writer else []

    def clear(self) -> None:
        """Leave no rule."""
        with self._lock:
            self._rules = Rules()
            if self._writer is not None:
                self._writer.clear()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _mend(self) -> bool:
        if self._writer is None or self._writer.holds(self._rules):
            return False
        self._write()
        return True

    def _write(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(self._rules)
        except FirewallError as error:
            raise Unavailable(f"the firewall's rules cannot be written: {error}") from error


def choose(engine_id: str, choice: str = "auto") -> Writer:
    """The writer for this host: legacy only if its tables hold rules and nft's hold none, or `choice` says so.

    Whatever the other one has of this engine's, from before, is cleared: never both.
    """
    if choice not in CHOICES:
        raise ConfigurationError(f"firewall: {choice} is neither auto, nftables nor iptables")
    wanted = CHOICES[choice]
    if wanted == "auto":
        if not nft.usable():
            wanted = "legacy"
        else:
            wanted = "legacy" if legacy.holds_rules() and not nft.holds_rules() else "nft"
    if wanted == "nft":
        try:
            writer: Writer = nft.NftWriter(engine_id)
        except OSError as error:
            raise Unsupported(f"nftables cannot be used: {error}; install libnftables1") from error
        if legacy.holds_rules():
            _clear_legacy(engine_id)
        return writer
    try:
        writer = legacy.LegacyWriter(engine_id)
    except (ImportError, OSError) as error:
        raise Unsupported(f"legacy iptables cannot be used: {error}; install iptables") from error
    if nft.usable():
        other = nft.NftWriter(engine_id)
        if other.owned():
            other.clear()
        other.close()
    return writer


def _clear_legacy(engine_id: str) -> None:
    try:
        writer = legacy.LegacyWriter(engine_id)
    except (ImportError, OSError):
        return  # without the library none of it was written by us
    if writer.owned():
        writer.clear()
