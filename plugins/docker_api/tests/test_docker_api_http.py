"""What a client may send, and what it must not: the answer to nonsense is 4xx and one sentence, never 5xx."""

import json
import socket
import threading
from typing import Any

import pytest
from docker_api_memory import MemoryEngine
from docker_api_raw import Raw, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry_docker_api import wire

# ---- Versions and paths


def test_ping_says_what_clients_negotiate_by(raw: Raw) -> None:
    """`_ping` names the version, the classic builder and the operating system, to GET and HEAD, with and without version."""
    for method, target in (("GET", "/_ping"), ("HEAD", "/_ping"), ("GET", "/v1.24/_ping")):
        reply = raw.ask(method, target)
        assert reply.status == 200
        assert reply.body == (b"" if method == "HEAD" else b"OK")
        assert reply.headers["api-version"] == "1.51"
        assert reply.headers["builder-version"] == "1"
        assert reply.headers["docker-experimental"] == "false"
        assert reply.headers["ostype"] == "linux"
        assert reply.headers["swarm"] == "inactive"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.51"),
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ("1.1.1.", '"1.1.1." is no version of the API; write it like 1.51'),
    ],
)
def test_a_version_that_is_not_spoken_is_refused(raw: Raw, version: str, message: str) -> None:
    """The sentence is dockerd's: clients match it."""
    reply = raw.ask("GET", f"/v{version}/containers/json")
    assert (reply.status, reply.message) == (400, message)


@pytest.mark.parametrize(
    "target", ["/", "/nothing", "/containers", "/v1.51/containers/x/nothing", "/v1.51", "*", "x"]
)
def test_an_unknown_page(raw: Raw, target: str) -> None:
    """404, in dockerd's words; a wrong method is no different."""
    assert raw.ask("GET", target).message == "page not found"
    assert raw.ask("PATCH", "/containers/json").status == 404


def test_an_image_name_may_have_slashes(raw: Raw, engine: MemoryEngine) -> None:
    """Slashes, plain or escaped, belong to the name."""
    engine.tag("busybox", "example.com:5000/a/b:1")
    for name in ("example.com:5000/a/b:1", "example.com:5000%2Fa%2Fb:1"):
        assert "example.com:5000/a/b:1" in raw.get(f"/images/{name}/json")["RepoTags"]


def test_a_thing_that_is_not_there(raw: Raw) -> None:
    """404 with the words that clients look for."""
    assert raw.ask("GET", "/containers/nope/json").message == "No such container: nope"
    assert raw.ask("GET", "/images/nope/json").message == "No such image: nope:latest"
    assert raw.ask("GET", "/exec/nope/json").message == "No such exec instance: nope"
    assert raw.ask("GET", "/networks/nope").message == "network nope not found"
    assert raw.ask("POST", "/containers/create", {"Image": "nope"}).message == "No such image: nope:latest"


@pytest.mark.parametrize(
    ("method", "target", "status", "words"),
    [
        ("POST", "/build", 501, "not supported yet"),
        ("POST", "/images/create?fromImage=docker.io%2Flibrary%2Fx&tag=1", 501, 'image "x:1" is not here'),
        ("POST", "/commit?container=a", 501, "docker commit"),
        ("POST", "/session", 501, "BuildKit"),
        ("POST", "/auth", 501, "registries"),
        ("GET", "/distribution/a/b/json", 501, "registries"),
        ("GET", "/swarm", 503, "This node is not a swarm manager."),
        ("GET", "/services", 503, "This node is not a swarm manager."),
        ("GET", "/services/x", 503, "This node is not a swarm manager."),
        ("POST", "/swarm/leave", 503, "This node is not part of a swarm"),
    ],
)
def test_what_there_is_not_says_so(raw: Raw, method: str, target: str, status: int, words: str) -> None:
    """An honest answer, with a way around if there is one."""
    reply = raw.ask(method, target)
    assert reply.status == status
    assert method == "HEAD" or words in reply.message


# ---- Connections


def test_a_connection_carries_many_requests(raw: Raw) -> None:
    """One after the other, and sent all at once."""
    with raw.open() as wire:
        for _ in range(3):
            wire.send(request("GET", "/_ping"))
            assert wire.reply().body == b"OK"
        wire.send(request("GET", "/_ping") * 20)
        assert [wire.reply().body for _ in range(20)] == [b"OK"] * 20


def test_a_refused_body_is_read_away(raw: Raw) -> None:
    """An error before the body was read leaves the connection in step."""
    with raw.open() as wire:
        wire.send(request("POST", "/nothing", b"x" * 200_000))
        assert wire.reply().status == 404
        wire.send(request("GET", "/_ping"))
        assert wire.reply().body == b"OK"


def test_a_body_may_be_chunked(raw: Raw, engine: MemoryEngine) -> None:
    """Chunked and sized bodies mean the same."""
    body = json.dumps({"Image": "busybox", "Labels": {"a": "b"}}).encode()
    head = b"POST /containers/create?name=chunky HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    with raw.open() as wire:
        wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for byte in body:
            wire.send(b"1\r\n%c\r\n" % byte)
        wire.send(b"0\r\n\r\n")
        assert wire.reply().status == 201
    assert engine.inspect("chunky").config.labels == {"a": "b"}


def test_expect_continue(raw: Raw) -> None:
    """A client that asks first is told to go on."""
    body = json.dumps({"Image": "busybox"}).encode()
    whole = request("POST", "/containers/create?name=asks", body, "Expect: 100-continue\r\n")
    with raw.open() as wire:
        wire.send(whole.removesuffix(body))
        assert wire.head()[0] == 100
        wire.send(body)
        assert wire.reply().status == 201


def test_http_1_0_and_absolute_targets(raw: Raw) -> None:
    """Old and odd spellings of a request."""
    with raw.open() as wire:
        wire.send(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert wire.reply().body == b"OK"
        assert wire.rest() == b""
    assert raw.ask("GET", "http://docker/v1.40/_ping").body == b"OK"


# ---- Hostile requests


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"GET /_ping HTTP/x\r\nHost: d\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nBad\x00Name: x\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: d\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: d\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /containers/%ff/json HTTP/1.1\r\nHost: d\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffffffff\r\n{}",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999\r\n\r\n" + b" " * 5_000_000,
    ],
    ids=lambda data: data[:40].decode("latin-1"),
)
def test_bad_http_is_the_clients_fault(raw: Raw, data: bytes) -> None:
    """4xx with a sentence, and the front lives on."""
    with raw.open() as wire:
        try:
            wire.send(data)
        except BrokenPipeError:
            pass  # refused before it was all sent
        reply = wire.reply()
        assert 400 <= reply.status < 500, reply
        assert reply.message
    assert raw.ask("GET", "/_ping").body == b"OK"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "EOF"),
        (b"{", "invalid JSON"),
        (b"{} {}", "Extra data"),
        (b'{"Image": NaN}', "NaN is no number"),
        (b'{"Image": "a", "Image": "b"}', 'the name "Image" occurs twice'),
        (b'{"Image": "a", "image": "b"}', 'the name "Image" occurs twice'),
        (b'{"Image": "\xff"}', "invalid JSON"),
        (b'{"Image": "\\ud800"}', "surrogate"),
        (b'{"Labels":' + b'{"a":' * 100_000 + b"}" * 100_000 + b"}", "nested too deeply"),
        (b'{"X":' + b"[" * 100 + b"]" * 100 + b"}", "nested too deeply"),
        (b'{"HostConfig": {"Memory": 1e400}}', "out of range"),
        (b'{"HostConfig": {"Memory": 9223372036854775808}}', "out of range"),
        (b'{"HostConfig": {"Memory": ' + b"9" * 5000 + b"}}", "invalid JSON"),
        (b"[]", "the body: expected `object`, got `array`"),
        (b'"x"', "the body: expected `object`, got `str`"),
        (b'{"Image": 1}', "Image: expected `str`, got `int`"),
        (b'{"Tty": 1}', "Tty: expected `bool`, got `int`"),
        (b'{"HostConfig": {"Memory": true}}', "HostConfig.Memory: expected `int`, got `bool`"),
        (b'{"HostConfig": {"Memory": 1.5}}', "HostConfig.Memory: expected `int`, got `float`"),
        (b'{"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": 80}]}}}', "expected `str`, got `int`"),
        (b'{"HostConfig": {"ConsoleSize": [1]}}', "ConsoleSize"),
        (b'{"Env": "A=b"}', "Env: expected `array | null`, got `str`"),
        (b'{"NetworkingConfig": {"EndpointsConfig": []}}', "expected `object | null`, got `array`"),
    ],
)  # fmt: skip
def test_bad_json_names_what_is_wrong(raw: Raw, body: bytes, words: str) -> None:
    """Types are strict: true is no number, nothing occurs twice, nesting has an end."""
    reply = raw.ask("POST", "/containers/create", body)
    assert reply.status == 400
    assert words in reply.message


def test_what_go_allows_is_allowed(raw: Raw, engine: MemoryEngine) -> None:
    """Names in any case, unknown names, null for "not said": clients rely on that."""
    body = {
        "image": "busybox", "TTY": None, "Unknown": [1], "Cmd": "true", "Labels": {"a": None},
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": None}, "HostConfig": {"memory": 5, "NetworkMode": None},
        "NetworkingConfig": {"EndpointsConfig": {"bridge": None}},
    }  # fmt: skip
    assert raw.ask("POST", "/containers/create?name=lenient", body).status == 201
    (asked,) = engine.requests
    assert asked.config.cmd == ["true"]
    assert asked.config.labels == {"a": ""}
    assert asked.config.healthcheck is not None and asked.config.healthcheck.interval == 0
    assert asked.host_config.memory == 5
    assert list(asked.networks) == ["bridge"]


def test_a_body_needs_its_type(raw: Raw) -> None:
    """JSON that does not say it is JSON is refused, as dockerd does."""
    data = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"
    with raw.open() as wire:
        wire.send(data)
        reply = wire.reply()
    assert (reply.status, reply.message) == (
        400,
        "unsupported Content-Type header (text/plain): must be 'application/json'",
    )


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/containers/json?limit=x", "limit must be a number"),
        ("/containers/json?limit=99999999999999999999", "limit must be a number"),
        ("/containers/json?filters=x", "invalid JSON"),
        ("/containers/json?filters=[]", "must be a JSON object"),
        ("/containers/json?filters={%22x%22:[%22y%22]}", "invalid filter 'x'"),
        ("/containers/json?filters={%22status%22:[%22odd%22]}", "invalid filter 'status=odd'"),
        ("/containers/json?filters={%22exited%22:[%22odd%22]}", "invalid filter 'exited=odd'"),
        ("/containers/json?filters={%22name%22:{%22a%22:1}}", "must be true or false"),
        ("/containers/json?filters={%22name%22:[1]}", "list of strings"),
        ("/containers/json?x=%ff", "cannot be read"),
        ("/images/json?filters={%22dangling%22:[%22odd%22]}", "invalid filter 'dangling=odd'"),
        ("/containers/x/logs", "Bad parameters: you must choose at least one stream"),
        ("/containers/x/logs?stdout=1&since=yesterday", "since must be a time"),
        ("/containers/x/logs?stdout=1&tail=x", "tail must be a number"),
        ("/events?since=1e3", "since must be a time"),
    ],
)
def test_bad_parameters(raw: Raw, target: str, words: str) -> None:
    """400 naming the parameter."""
    reply = raw.ask("GET", target)
    assert reply.status == 400
    assert words in reply.message


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            "/containers/create?name=-x",
            "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        ("/containers/create?name=x", "Invalid container name (x)"),
        ("/containers/create?name=a%0Ab", "Invalid container name"),
        ("/containers/a/rename", "Neither old nor new names may be empty"),
        ("/containers/a/stop?t=soon", "t must be a number"),
        ("/containers/a/wait?condition=odd", 'invalid condition: "odd"'),
        ("/containers/a/resize?h=1", "w is missing"),
        ("/containers/a/resize?h=1&w=-2", "cannot be"),
        ("/containers/a/start", "non-empty request body"),
        ("/containers/a/exec", "No exec command specified"),
        ("/networks/create", "the network needs a name"),
        ("/images/busybox/tag", "repo is missing"),
    ],
)
def test_bad_commands(raw: Raw, target: str, words: str) -> None:
    """400 in dockerd's words where clients know them."""
    reply = raw.ask("POST", target, {"Image": "busybox"})
    assert reply.status == 400
    assert words in reply.message


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
_names = st.sampled_from(
    "Image Cmd Env Tty Labels HostConfig NetworkingConfig EndpointsConfig Memory Ulimits Mounts PortBindings 80/tcp "
    "HostPort Healthcheck Test Binds Devices RestartPolicy Name IPAMConfig Sysctls BlkioDeviceReadBps Container Subnet "
    "IPAM Config Options Driver Force Detach".split()
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_values)
def test_whatever_json_comes_it_is_no_crash(raw: Raw, body: Any) -> None:
    """No value at any place makes the front fail."""
    for target in ("/containers/create", "/containers/x/update", "/networks/create", "/containers/x/exec"):
        assert (
            raw.ask("POST", target, body).status < 500
            or "not supported" in raw.ask("POST", target, body).message
        )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=300))
def test_whatever_bytes_come_it_is_no_crash(raw: Raw, data: bytes) -> None:
    """Any bytes: an answer below 500, or none, and the next client is served."""
    with raw.open() as wire:
        wire.send(data)
        wire.sock.shutdown(socket.SHUT_WR)
        found = wire.rest()
    assert not found or found.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2"))
    assert raw.ask("GET", "/_ping").body == b"OK"


# ---- Patience


def test_a_slow_head_is_cut_off(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never finishes its request is answered 408 and gone; one that never begins may wait."""
    monkeypatch.setattr(wire, "SLOW_SECONDS", 0.3)
    with raw.open() as idle, raw.open() as slow, raw.open() as slow_body:
        slow.send(b"GET /_pi")
        slow_body.send(request("POST", "/containers/create", b" " * 100)[:-50])
        assert slow.reply().status == 408
        assert slow.rest() == b""
        assert slow_body.reply().status == 408
        idle.send(request("GET", "/_ping"))
        assert idle.reply().body == b"OK"


def test_what_hangs_holds_nobody_up(raw: Raw, engine: MemoryEngine) -> None:
    """While many stops hang, lists, inspects and kills are answered."""
    raw.ask("POST", "/containers/create?name=hung", {"Image": "busybox", "Cmd": ["sleep", "60"]})
    assert raw.ask("POST", "/containers/hung/start").status == 204
    engine.hold = threading.Event()
    wires = [raw.open() for _ in range(40)]
    try:
        for each in wires:
            each.send(request("POST", "/containers/hung/stop?t=0"))
        assert raw.get("/containers/hung/json")["State"]["Running"] is True
        assert len(raw.get("/containers/json")) == 1
        assert raw.ask("POST", "/containers/hung/kill").status == 204
        engine.hold.set()
        assert {each.reply().status for each in wires} <= {204, 304}
    finally:
        engine.hold.set()
        for each in wires:
            each.sock.close()
