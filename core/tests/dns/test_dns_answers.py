"""What is answered to whom: names of containers, whatever a container sends."""

from __future__ import annotations

from pathlib import Path

import pytest
from dnslib import EDNS0, QTYPE, DNSHeader, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.dns import hosts
from wherry.dns.answers import LARGEST, MOST, PLAIN, Names, answer, failure, question, unknown
from wherry.dns.directory import Directory, Page
from wherry.spec.network import Endpoint, Network
from wherry.testing.network import Lines

ONE = Network(id="1" * 64, name="One", driver="bridge")
TWO = Network(id="2" * 64, name="two", driver="bridge")


def place(
    network: Network, name: str, number: int, *aliases: str, ipv6: str = ""
) -> tuple[Network, Endpoint]:
    return network, Endpoint(
        id=f"{name}{network.name}",
        container_id=f"c-{name}",
        network_id=network.id,
        name=name,
        aliases=aliases,
        ipv4=f"10.0.{1 if network is ONE else 2}.{number}",
        ipv6=ipv6,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    made = Directory(tmp_path / "names", Lines())
    made.restore(
        [
            place(ONE, "web", 2, "www", "abcdef123456", ipv6="fd00::2"),
            place(ONE, "Web2", 3, "www"),
            place(TWO, "db", 2, "store"),
            place(TWO, "web", 3),
        ]
    )
    return made


@pytest.fixture
def names(directory: Directory) -> Names:
    pages = [Page(str(directory.path(network.id))) for network in (ONE, TWO)]
    return Names(pages, {"database": "c-db", "gone": "c-nobody"})


def ask(names: Names, name: str, kind: str = "A", *, tcp: bool = False, edns: int = 0) -> list[str] | None:
    """The answers' data, sorted; None: this is nothing of ours."""
    query = DNSRecord.question(name, kind)
    if edns:
        query.add_ar(EDNS0(udp_len=edns))
    found = answer(query.pack(), names, tcp=tcp)
    if found is None:
        return None
    reply = DNSRecord.parse(found)
    assert reply.header.id == query.header.id and reply.header.rcode == 0 and reply.header.ra
    assert reply.q == query.q
    return sorted(str(record.rdata) for record in reply.rr)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web", "A", ["10.0.1.2"]),
        ("WEB", "A", ["10.0.1.2"]),
        ("web2", "A", ["10.0.1.3"]),
        ("web.", "A", ["10.0.1.2"]),
        ("web.one", "A", ["10.0.1.2"]),
        ("web.two", "A", ["10.0.2.3"]),
        ("www", "A", ["10.0.1.2", "10.0.1.3"]),
        ("abcdef123456", "A", ["10.0.1.2"]),
        ("store", "A", ["10.0.2.2"]),
        ("database", "A", ["10.0.2.2"]),
        ("web", "AAAA", ["fd00::2"]),
        ("www", "AAAA", ["fd00::2"]),
        ("db", "AAAA", []),
        ("web", "MX", []),
        ("web", "ANY", []),
        ("web", "SOA", []),
        ("2.1.0.10.in-addr.arpa", "PTR", ["web.one."]),
        ("3.2.0.10.in-addr.arpa", "PTR", ["web.two."]),
        ("2." + "0." * 27 + "0.0.d.f.ip6.arpa", "PTR", ["web.one."]),
        ("9.9.0.10.in-addr.arpa", "PTR", None),
        ("999.1.0.10.in-addr.arpa", "PTR", None),
        ("gone", "A", None),
        ("nosuch", "A", None),
        ("web.three", "A", None),
        ("example.org", "A", None),
        (".", "A", None),
        (".", "NS", None),
    ],
)
def test_names(names: Names, name: str, kind: str, expected: list[str] | None) -> None:
    """By name, alias, short id, link, with the network behind; of the first network that knows it; nothing is guessed."""
    assert ask(names, name, kind) == expected


def test_those_of_one_name_take_turns(names: Names) -> None:
    """Each is first some time."""
    query = DNSRecord.question("www", "A").pack()
    first = {str(DNSRecord.parse(answer(query, names, tcp=False)).rr[0].rdata) for _ in range(100)}
    assert first == {"10.0.1.2", "10.0.1.3"}


def test_changes_are_seen_at_once(directory: Directory, names: Names) -> None:
    """Entered, called otherwise, gone; and a network that is gone knows nobody."""
    assert ask(names, "late") is None
    directory.put(*place(ONE, "late", 9))
    assert ask(names, "late") == ["10.0.1.9"]
    network, endpoint = place(ONE, "late", 9)
    directory.put(
        network, Endpoint(id=endpoint.id, container_id="x", network_id=ONE.id, name="later", ipv4="10.0.1.9")
    )
    assert ask(names, "late") is None and ask(names, "later") == ["10.0.1.9"]
    directory.drop(network, endpoint)
    assert ask(names, "later") is None
    directory.forget(ONE.id)
    assert ask(names, "web") == ["10.0.2.3"]


def test_a_new_daemon_forgets_what_is_gone(directory: Directory, names: Names, tmp_path: Path) -> None:
    """Files of networks that have nobody are removed."""
    assert ask(names, "db") is not None
    Directory(tmp_path / "names", Lines()).restore([place(ONE, "web", 2)])
    assert ask(names, "db") is None
    assert [path.name for path in (tmp_path / "names").iterdir()] == [ONE.id]


def test_a_damaged_page_is_an_empty_one(directory: Directory, names: Names) -> None:
    directory.path(ONE.id).write_bytes(b'["one", [["c", 1]]]')
    assert ask(names, "www") is None
    assert ask(names, "web") == ["10.0.2.3"]


@pytest.mark.parametrize(("edns", "room"), [(0, PLAIN), (700, 700), (60000, MOST)])
def test_long_answers(tmp_path: Path, edns: int, room: int) -> None:
    """By UDP what fits, and else a word that there is more; by TCP all of it."""
    directory = Directory(tmp_path / "names", Lines())
    directory.restore(place(ONE, f"w{number}", number, "all") for number in range(1, 201))
    names = Names([Page(str(directory.path(ONE.id)))], {})
    query = DNSRecord.question("all", "A")
    if edns:
        query.add_ar(EDNS0(udp_len=edns))
    short = answer(query.pack(), names, tcp=False)
    assert short is not None and len(short) <= room and DNSRecord.parse(short).header.tc
    whole = answer(query.pack(), names, tcp=True)
    assert whole is not None and len(DNSRecord.parse(whole).rr) == 200


def made_packet(made: DNSHeader) -> bytes:
    record = DNSRecord(made, q=DNSRecord.question("web", "A").q)
    return bytes(record.pack())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (made_packet(DNSHeader(id=7, qr=1)), None),
        (made_packet(DNSHeader(id=7, opcode=4)), 4),
        (b"\0\7\1\0\0\2\0\0\0\0\0\0\3web\0\0\1\0\1", 1),
        (b"\0\7\1\0\0\1\0\1\0\0\0\0\3web\0\0\1\0\1", 1),
        (b"\0\7\1\0\0\1\0\0\0\0\0\0\3we", 1),
        (b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", 1),
        (b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\x3f" + b"a" * 63 + bytes(LARGEST), 1),
        (b"\0\7\1\0\0\1\0\0\0\0\0\0\4\xff\xfe\0.\0\0\1\0\1", 1),
    ],
)
def test_what_makes_no_sense(names: Names, message: bytes, code: int | None) -> None:
    """Is answered with why, or with nothing where nothing can be."""
    found = answer(message, names, tcp=False)
    if code is None:
        assert found == b""
    else:
        assert found is not None and found[:2] == message[:2] and found[3] & 15 == code


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_nothing_hurts(data: bytes) -> None:
    """Any bytes: an answer, silence, or somebody else's question; never an error."""
    names = Names([], {})
    for message in (
        data,
        b"\0\7\1\0\0\1\0\0\0\0\0\0" + data,
        b"\0\7\1\0\0\1\0\0\0\0\0\1\3web\0\0\1\0\1" + data,
    ):
        found = answer(message, names, tcp=False)
        assert found is None or isinstance(found, bytes)
        question(message)
        if len(message) >= 12:
            assert failure(message)[:2] == message[:2]


def test_refusals_repeat_the_question() -> None:
    """As resolvers expect."""
    query = DNSRecord.question("some.name.example", "AAAA").pack()
    for made, code in ((failure(query), 2), (unknown(query), 3)):
        reply = DNSRecord.parse(made)
        assert reply.header.rcode == code and reply.header.id == DNSRecord.parse(query).header.id
        assert str(reply.q.qname) == "some.name.example." and reply.q.qtype == QTYPE.AAAA


def test_the_hosts_servers(tmp_path: Path) -> None:
    """As the file has them now; what is no address is left out."""
    path = tmp_path / "resolv.conf"
    found = hosts.Servers(str(path))
    assert found.now() == []
    path.write_text(
        "# x\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver\n nameserver fd00::1\nsearch a\n"
    )
    assert found.now() == ["192.0.2.1", "fd00::1"]
    (tmp_path / "new").write_text("nameserver 192.0.2.2\n")
    (tmp_path / "new").rename(path)
    assert found.now() == ["192.0.2.2"]
    path.unlink()
    assert found.now() == []
