"""From configuration to command: environments, capabilities, limits, signals, ports, devices."""

from __future__ import annotations

import signal

import pytest

from wherry.errors import InvalidRequest
from wherry.lifecycle import command
from wherry.lifecycle.create import merged, signal_number
from wherry.lifecycle.ports import wished
from wherry.spec.container import Config, HostConfig, PortBinding


def test_environment_replaces_in_place_and_appends() -> None:
    config = Config(hostname="h", domainname="d", tty=True, env=["TERM=vt100", "NEW=1", "HOSTNAME"])
    assert command.environment(config, ["LINK=x"]) == (
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=vt100", "LINK=x", "NEW=1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "image_entrypoint", "image_cmd", "whole"),
    [
        (None, None, ["e"], ["c"], ["e", "c"]),
        (None, ["x"], ["e"], ["c"], ["e", "x"]),
        (["y"], None, ["e"], ["c"], ["y"]),
        ([""], ["z"], ["e"], ["c"], ["z"]),
        (["y"], ["z"], ["e"], ["c"], ["y", "z"]),
    ],
)
def test_entrypoint_and_command_of_request_and_image(
    entrypoint: list[str] | None,
    cmd: list[str] | None,
    image_entrypoint: list[str],
    image_cmd: list[str],
    whole: list[str],
) -> None:
    """Docker's rules for what of the image counts beside what the user gave."""
    config = merged(
        Config(entrypoint=entrypoint, cmd=cmd), Config(entrypoint=image_entrypoint, cmd=image_cmd)
    )
    assert list(command.argv(config)) == whole


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no command specified"):
        command.argv(Config())


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", int(signal.SIGRTMIN) + 3), ("HUP", 1)],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGBOGUS", "-9", "SIGRTMIN+99"])
def test_bad_signals(text: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid signal"):
        signal_number(text)


def test_port_wishes() -> None:
    host = HostConfig(
        publish_all_ports=True,
        port_bindings={"80/tcp": [PortBinding(host_port="8000-8010"), PortBinding(host_ip="127.0.0.1")]},
    )
    wishes = wished(Config(exposed_ports={"80/tcp": {}, "53/udp": {}}), host)
    assert [(w.protocol, w.container_port, w.host_address, w.first, w.last) for w in wishes] == [
        ("tcp", 80, "", 8000, 8010),
        ("tcp", 80, "127.0.0.1", 0, 0),
        ("udp", 53, "", 0, 0),
    ]
    for bad in ("x/tcp", "0/tcp", "70000/tcp", "80/icmp"):
        with pytest.raises(InvalidRequest, match="invalid port"):
            wished(Config(), HostConfig(port_bindings={bad: [PortBinding()]}))
    for bad in ("9-8", "-8", "x", "70000"):
        with pytest.raises(InvalidRequest, match="invalid port"):
            wished(Config(), HostConfig(port_bindings={"80/tcp": [PortBinding(host_port=bad)]}))
