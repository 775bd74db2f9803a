"""--link from outside: variables, hosts entries, what passes under --icc=false, and what changes when the other does."""

from __future__ import annotations

import json
from collections.abc import Callable

from wherry.testing.daemon import Daemon, eventually

SERVE = ("busybox", "sh", "-c", "hostname > /i; httpd -f -p 80 -h / & httpd -f -p 81 -h / & wait")
SLEEP = ("busybox", "sleep", "1000")


def address(daemon: Daemon, name: str) -> str:
    return daemon.inspect(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}")


def test_variables_and_hosts(daemon: Daemon) -> None:
    """As the reference has them; also seen by exec."""
    told = ("-e", "A=b", "-e", "HOME=/x", "--expose", "80", "--expose", "53/udp")
    daemon.ok("run", "-d", "--name", "child", "--hostname", "childs-host", *told, *SERVE)
    where = address(daemon, "child")
    asks = ("busybox", "sh", "-c", "env; cat /etc/hosts")
    said = daemon.ok("run", "--name", "parent", "--link", "child:db-1", *asks).splitlines()
    for line in (
        f"DB_1_PORT=udp://{where}:53",
        f"DB_1_PORT_53_UDP=udp://{where}:53",
        f"DB_1_PORT_80_TCP_ADDR={where}",
        "DB_1_PORT_80_TCP_PORT=80",
        "DB_1_PORT_80_TCP_PROTO=tcp",
        "DB_1_NAME=/parent/db-1",
        "DB_1_ENV_A=b",
        f"{where}\tdb-1 childs-host child",
    ):
        assert line in said, line
    assert not any(line.startswith("DB_1_ENV_HOME") for line in said)


def test_a_child_that_starts_again_is_found(daemon: Daemon) -> None:
    """With another address: the hosts file of who links to it says so, and what somebody wrote into it stays."""
    daemon.ok("run", "-d", "--name", "child", "--expose", "80", *SERVE)
    daemon.ok("run", "-d", "--name", "parent", "--link", "child:db", *SLEEP)
    daemon.ok("exec", "parent", "sh", "-c", "echo '10.9.9.9 printer # mine' >> /etc/hosts")
    before = address(daemon, "child")
    daemon.ok("stop", "-t", "0", "child")
    daemon.ok("exec", "parent", "true")
    daemon.ok("run", "-d", "--name", "squatter", *SLEEP)
    daemon.ok("rename", "child", "kid")
    daemon.ok("start", "kid")
    after = address(daemon, "kid")
    assert after != before

    def hosts() -> str:
        return daemon.ok("exec", "parent", "cat", "/etc/hosts")

    eventually(lambda: f"{after}\tdb" in hosts(), "the hosts file says the new address")
    assert "10.9.9.9 printer # mine" in hosts() and before not in hosts()
    daemon.ok("stop", "-t", "0", "kid")
    refused = daemon.docker("restart", "-t", "0", "parent")
    assert (
        refused.returncode and "Cannot link to a non running container: /kid AS /parent/db" in refused.stderr
    )


def test_links_pass_where_nothing_else_does(make_daemon: Callable[..., Daemon]) -> None:
    """--icc=false: the exposed ports of who is linked to, for who links, while the link is there."""
    daemon = make_daemon("--no-icc").start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "child", "--expose", "80", *SERVE)
    daemon.ok("run", "-d", "--name", "parent", "--link", "child:db", *SLEEP)
    daemon.ok("run", "-d", "--name", "other", *SLEEP)
    eventually(lambda: daemon.net.fetch(f"http://{address(daemon, 'child')}/i") != "", "the child serves")

    def reaches(name: str, port: int = 80, seconds: str = "1") -> bool:
        url = f"http://{address(daemon, 'child')}:{port}/i"
        return daemon.docker("exec", name, "timeout", seconds, "wget", "-qO-", url).returncode == 0

    assert reaches("parent", seconds="10")
    assert not reaches("parent", 81) and not reaches("other")
    daemon.kill()
    daemon.start()
    assert reaches("parent", seconds="10") and not reaches("other")
    first = address(daemon, "child")
    daemon.ok("stop", "-t", "0", "child")
    eventually(
        lambda: first not in daemon.net.run("nft", "list", "ruleset").stdout, "nothing passes to who is gone"
    )
    daemon.ok("run", "-d", "--name", "squatter", *SLEEP)
    daemon.ok("start", "child")
    eventually(lambda: reaches("parent", seconds="10"), "the link leads to the new address")
    daemon.ok("rm", "--link", "parent/db")
    assert not reaches("parent")
    assert "\tdb" not in daemon.ok("exec", "parent", "cat", "/etc/hosts")
    missing = daemon.docker("rm", "--link", "parent/db")
    assert missing.returncode and "Could not get parent parent for link name parent/db" in missing.stderr


def test_links_that_cannot_be(daemon: Daemon) -> None:
    """Said at create; a container can be named by its link."""
    daemon.ok("run", "-d", "--name", "child", *SLEEP)
    for words, *flags in (
        ("No such container: nosuch", "--link", "nosuch:db"),
        ("can't be used with links", "--network", "host", "--link", "child:db"),
        ("can't be used with links", "--network", "container:child", "--link", "child:db"),
        ("invalid alias of a link", "--link", "child:a b"),
    ):
        refused = daemon.docker("create", *flags, *SLEEP)
        assert refused.returncode and words in refused.stderr, (flags, refused.stderr)
    daemon.ok("create", "--name", "parent", "--link", "child:db", *SLEEP)
    assert json.loads(daemon.ok("inspect", "parent/db"))[0]["Name"] == "/child"


def test_hosts_entries_that_were_asked_for(make_daemon: Callable[..., Daemon]) -> None:
    """--add-host, of both IP versions; host-gateway is the host as the container sees it, or what the daemon was told."""
    daemon = make_daemon().start()
    daemon.image()

    def hosts(*flags: str) -> str:
        return daemon.ok("run", "--rm", *flags, "busybox", "cat", "/etc/hosts")

    said = hosts("--add-host", "a:192.0.2.1", "--add-host", "b:2001:db8::1", "--add-host", "h:host-gateway")
    for line in ("192.0.2.1\ta", "2001:db8::1\tb", "172.17.0.1\th"):
        assert line in said
    daemon.ok("network", "create", "--subnet", "10.91.0.0/24", "mine")
    assert "10.91.0.1\th" in hosts("--network", "mine", "--add-host", "h:host-gateway")
    assert "172.17.0.1\th" in hosts("--network", "none", "--add-host", "h:host-gateway")
    daemon.ok("network", "rm", "mine")
    daemon.stop()
    daemon.start("--host-gateway-ip", "192.0.2.77")
    assert "192.0.2.77\th" in hosts("--add-host", "h:host-gateway")
