"""The firewall's two writers: one model, whole or not at all, and nobody else's rules touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from wherry.errors import ConfigurationError
from wherry.linux import xtables
from wherry.network.firewall.firewall import Firewall, choose
from wherry.network.firewall.legacy import LegacyWriter
from wherry.network.firewall.model import FirewallError, Passage, Publication, Rules, Writer, Zone
from wherry.network.firewall.nft import NftWriter
from wherry.testing.network import own_network

ZONE = Zone(interface="wtest0", subnet="10.99.0.0/24", gateway="10.99.0.1")
INNER = Zone(interface="wtest1", subnet="10.98.0.0/24", gateway="10.98.0.1", internal=True, icc=False)
WEB = Publication(protocol="tcp", host_address="", host_port=8080, address="10.99.0.2", container_port=80)
DNS = Publication(
    protocol="udp", host_address="127.0.0.1", host_port=53, address="10.99.0.3", container_port=53
)
SIGNAL = Publication(protocol="sctp", host_address="", host_port=99, address="10.99.0.3", container_port=99)


ZONE6 = Zone(interface="wtest0", subnet="fd00:99::/64", gateway="fd00:99::1")
WEB6 = Publication(protocol="tcp", host_address="", host_port=8080, address="fd00:99::2", container_port=80)
BOUND6 = Publication(
    protocol="udp", host_address="2001:db8::1", host_port=53, address="fd00:99::3", container_port=53
)
PASSAGE = Passage(interface="wtest1", source="10.98.0.2", address="10.98.0.3", protocol="tcp", port=5432)
PASSAGE6 = Passage(interface="wtest0", source="fd00:99::2", address="fd00:99::3", protocol="udp", port=53)
EVERYTHING = Rules({ZONE, INNER, ZONE6}, {WEB, DNS, SIGNAL, WEB6, BOUND6}, {PASSAGE, PASSAGE6})


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture(params=[NftWriter, LegacyWriter], ids=["nft", "legacy"])
def writer(request: pytest.FixtureRequest) -> Iterator[Writer]:
    made = request.param("0a1b2c3d")
    yield made
    made.close()


def nft(*arguments: str) -> str:
    return subprocess.run(["nft", *arguments], check=True, capture_output=True, text=True).stdout


def legacy(*arguments: str) -> str:
    return subprocess.run(["iptables-legacy", *arguments], check=True, capture_output=True, text=True).stdout


def saved() -> str:
    """All legacy rules, without counters and comments."""
    lines = subprocess.run(
        ["iptables-legacy-save"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return "\n".join(line for line in lines if line.startswith("-A"))


def test_what_was_written_is_held(writer: Writer) -> None:
    """And nothing else is taken for it."""
    rules = Rules({ZONE, INNER}, {WEB, DNS})
    assert not writer.holds(rules)
    writer.write(rules)
    assert writer.holds(rules)
    assert not writer.holds(Rules({ZONE}, {WEB, DNS}))
    assert not writer.holds(Rules({ZONE, INNER}, {WEB}))
    writer.write(rules)
    assert writer.holds(rules)


def test_both_ip_versions_are_written_held_and_cleared(writer: Writer) -> None:
    """Grants of both come and go one by one; without a zone of IPv6, nor a wall to keep, nothing of it is written."""
    writer.write(Rules(EVERYTHING.zones))
    grants = [*EVERYTHING.publications, *EVERYTHING.passages]
    for grant in grants:
        writer.add([grant])
    assert writer.holds(EVERYTHING)
    writer.write(EVERYTHING)
    assert writer.holds(EVERYTHING)
    assert any("6" in name for name in writer.owned())
    for grant in grants:
        assert not writer.holds(Rules(EVERYTHING.zones))
        writer.remove([grant])
    assert writer.holds(Rules(EVERYTHING.zones))
    writer.write(Rules({ZONE}, {WEB}))
    assert writer.holds(Rules({ZONE}, {WEB})) and not writer.holds(Rules({ZONE, ZONE6}, {WEB}))
    assert not any("6" in name for name in writer.owned())
    writer.clear()
    assert writer.owned() == []


def test_the_administrators_chain_is_made_once_and_kept(writer: Writer) -> None:
    """Rules in it see packets before ours, and outlive every change of ours; an empty one goes with the last engine."""
    show = (lambda: nft("list", "ruleset")) if isinstance(writer, NftWriter) else saved
    writer.write(Rules({ZONE}, {WEB}))
    if isinstance(writer, NftWriter):
        nft("add", "rule", "inet", "wherry-user", "forward", "ip", "saddr", "192.0.2.66", "drop")
        nft("chain", "inet", "wherry-user", "forward", "{ policy drop; }")
    else:
        legacy("-A", "WHERRY-USER", "-s", "192.0.2.66", "-j", "DROP")
    writer.write(EVERYTHING)
    writer.clear()
    assert "192.0.2.66" in show()
    writer.write(Rules({ZONE}))
    if isinstance(writer, NftWriter):
        assert "policy drop" in nft("list", "table", "inet", "wherry-user")
        nft("flush", "chain", "inet", "wherry-user", "forward")
    else:
        lines = saved().splitlines()
        jumps = [line.split()[-1] for line in lines if line.startswith("-A FORWARD")]
        assert jumps == ["WHERRY-USER", "WHERRY-0a1b2c3d"]
        legacy("-F", "WHERRY-USER")
    writer.clear()
    assert "user" not in show().lower()


def test_publications_come_and_go(writer: Writer) -> None:
    """The kernel has at each moment what the model has."""
    writer.write(Rules({ZONE}, set()))
    for publications in ({WEB}, {WEB, DNS}, {WEB, DNS, SIGNAL}):
        new = publications - {WEB, DNS} or publications - {WEB} or publications
        writer.add(new)
        assert writer.holds(Rules({ZONE}, publications))
    writer.remove([WEB, SIGNAL])
    assert writer.holds(Rules({ZONE}, {DNS}))


def test_a_thousand_ports(writer: Writer) -> None:
    """In one transaction."""
    many = {
        Publication(
            protocol="tcp", host_address="", host_port=20000 + n, address="10.99.0.2", container_port=n + 1
        )
        for n in range(1000)
    }
    writer.write(Rules({ZONE}, set()))
    writer.add(many)
    assert writer.holds(Rules({ZONE}, many))
    writer.remove(many)
    assert writer.holds(Rules({ZONE}, set()))


def test_clearing_leaves_nothing(writer: Writer) -> None:
    """Also when there is nothing."""
    writer.write(Rules({ZONE}, {WEB}))
    assert writer.owned()
    writer.clear()
    writer.clear()
    assert writer.owned() == []
    assert "WHERRY" not in saved() and "wherry" not in nft("list", "ruleset")


def test_others_rules_are_not_touched(writer: Writer) -> None:
    """Neither by writing nor by clearing, in either of the two worlds."""
    legacy("-A", "FORWARD", "-s", "203.0.113.0/24", "-j", "DROP")
    legacy("-t", "nat", "-N", "THEIRS")
    legacy("-t", "nat", "-A", "THEIRS", "-p", "tcp", "--dport", "99", "-j", "ACCEPT")
    legacy("-t", "nat", "-A", "PREROUTING", "-j", "THEIRS")
    nft("add table ip theirs; add chain ip theirs c; add rule ip theirs c ip saddr 203.0.113.1 drop")
    before = saved(), nft("list", "table", "ip", "theirs")
    writer.write(Rules({ZONE}, {WEB, DNS}))
    writer.add([SIGNAL])
    writer.clear()
    assert (saved(), nft("list", "table", "ip", "theirs")) == before


def test_another_engines_rules_are_not_ours(writer: Writer) -> None:
    other = type(writer)("ffffffff")  # type: ignore[call-arg]
    other.write(Rules({INNER}, {SIGNAL}))
    writer.write(Rules({ZONE}, {WEB}))
    assert other.holds(Rules({INNER}, {SIGNAL}))
    writer.clear()
    assert other.holds(Rules({INNER}, {SIGNAL}))
    other.close()


def test_a_refused_change_changes_nothing(writer: Writer) -> None:
    """One of two is impossible: neither happens."""
    writer.write(Rules({ZONE}, {WEB}))
    with pytest.raises(FirewallError):
        writer.remove([WEB, DNS])  # DNS is not there
    assert writer.holds(Rules({ZONE}, {WEB}))


def test_a_flush_is_mended_with_everything(writer: Writer) -> None:
    """From the model: zones, isolation, every port."""
    firewall = Firewall(writer)
    firewall.set([ZONE, INNER], [WEB])
    writer.clear()
    assert firewall.mend()
    assert writer.holds(Rules({ZONE, INNER}, {WEB}))
    assert not firewall.mend()
    writer.clear()
    firewall.publish([DNS])
    assert writer.holds(Rules({ZONE, INNER}, {WEB, DNS}))
    writer.clear()
    firewall.withdraw([WEB])
    assert writer.holds(Rules({ZONE, INNER}, {DNS}))


# ---- The choice


@pytest.mark.parametrize(
    ("in_legacy", "in_nft", "chosen"),
    [
        (False, False, "nftables"),
        (True, False, "iptables"),
        (False, True, "nftables"),
        (True, True, "nftables"),
    ],
)
def test_legacy_only_where_its_tables_hold_rules_and_nfts_hold_none(
    in_legacy: bool, in_nft: bool, chosen: str
) -> None:
    if in_legacy:
        legacy("-A", "FORWARD", "-s", "203.0.113.0/24", "-j", "DROP")
    if in_nft:
        nft("add table ip theirs; add chain ip theirs c; add rule ip theirs c ip saddr 203.0.113.1 drop")
    assert choose("0a1b2c3d").name == chosen


def test_looking_at_legacy_tables_is_no_rule() -> None:
    """`iptables-legacy -L` makes a table; an empty one does not make a host a legacy one."""
    legacy("-L")
    assert "filter" in xtables.tables() and xtables.entries("filter") == 0
    assert choose("0a1b2c3d").name == "nftables"


@pytest.mark.parametrize(
    ("choice", "name"), [("nft", "nftables"), ("nftables", "nftables"), ("iptables", "iptables")]
)
def test_the_configuration_decides_and_the_other_is_cleared(choice: str, name: str) -> None:
    """Never both: rules of ours in the other world, from before, go."""
    for writer in (NftWriter("0a1b2c3d"), LegacyWriter("0a1b2c3d")):
        writer.write(Rules({ZONE}, {WEB}))
    chosen = choose("0a1b2c3d", choice)
    assert chosen.name == name
    others = LegacyWriter("0a1b2c3d") if name == "nftables" else NftWriter("0a1b2c3d")
    assert others.owned() == []
    assert chosen.owned()


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="neither"):
        choose("0a1b2c3d", "ipchains")
