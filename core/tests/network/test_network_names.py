"""What a container's hosts and resolv.conf say."""

from __future__ import annotations

import pytest

from wherry.network import names

HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


@pytest.mark.parametrize(
    ("addresses", "domain", "extra", "tail"),
    [
        (["172.17.0.2"], "", [], "172.17.0.2\tweb\n"),
        (["172.17.0.2"], "example.org", [], "172.17.0.2\tweb.example.org web\n"),
        ([], "", [], ""),
        (["172.17.0.2"], "", [("db alias", "172.17.0.3")], "172.17.0.3\tdb alias\n172.17.0.2\tweb\n"),
        (["172.18.0.2", "fd00::2"], "", [], "172.18.0.2\tweb\nfd00::2\tweb\n"),
    ],
)
def test_hosts(addresses: list[str], domain: str, extra: list[tuple[str, str]], tail: str) -> None:
    """Docker's lines, then links and --add-host, then the container itself in each of its networks."""
    own = [(names.own_names("web", domain), address) for address in addresses]
    assert names.hosts_file(extra, own) == HOSTS + tail


def test_lines_of_others_stay() -> None:
    """What a container's user wrote into its hosts file, comments and spaces included."""
    mine = "10.9.9.9  printer # web\n172.17.0.2 other\n"
    text = names.add_lines(mine + "172.17.0.3\tdb", [("web", "172.17.0.2")])
    assert text == mine + "172.17.0.3\tdb\n172.17.0.2\tweb\n"
    assert names.drop_lines(text, "172.17.0.2", "web") == mine + "172.17.0.3\tdb\n"
    assert names.drop_lines(text, "10.9.9.9", "web") == text


@pytest.mark.parametrize(
    ("host", "given", "container"),
    [
        ("nameserver 10.0.0.53\n", {}, "nameserver 10.0.0.53\n"),
        (
            "# comment\nsearch a b\nnameserver 10.0.0.53\n",
            {},
            "# comment\nsearch a b\nnameserver 10.0.0.53\n",
        ),
        ("nameserver 127.0.0.53\nnameserver 10.0.0.53\n", {}, "nameserver 10.0.0.53\n"),
        ("nameserver 127.0.0.53\n", {}, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("", {}, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("nameserver ::1\nnameserver 2001:db8::1\n", {}, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("nameserver 2001:db8::1\n", {"ipv6": True}, "nameserver 2001:db8::1\n"),
        ("nameserver fe80::1%eth0\nnameserver 1.1.1.1\n", {}, "nameserver 1.1.1.1\n"),
        ("nameserver 127.0.0.53\n", {"filter_local": False}, "nameserver 127.0.0.53\n"),
        ("search a\nnameserver 127.0.0.1\n", {"dns": ["9.9.9.9"]}, "search a\nnameserver 9.9.9.9\n"),
        ("search a\nnameserver 10.0.0.53\n", {"search": ["b", "c"]}, "search b c\nnameserver 10.0.0.53\n"),
        ("search a\nnameserver 10.0.0.53\n", {"search": ["."]}, "nameserver 10.0.0.53\n"),
        ("nameserver 10.0.0.53\n", {"options": ["ndots:2"]}, "nameserver 10.0.0.53\noptions ndots:2\n"),
        ("options x\nnameserver 10.0.0.53\n", {"dns": ["127.0.0.1"]}, "nameserver 127.0.0.1\noptions x\n"),
    ],
)
def test_resolv_conf(host: str, given: dict[str, object], container: str) -> None:
    """The host's, without what means nothing in a container; what was asked for replaces it."""
    assert names.resolv_conf(host, **given) == container  # type: ignore[arg-type]


def test_a_digest_tells_a_change() -> None:
    assert names.digest("a") != names.digest("b")
    assert names.digest("a") == names.digest("a")
