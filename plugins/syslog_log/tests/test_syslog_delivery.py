"""What a syslog server gets, in which form, and what happens while it is away."""

from __future__ import annotations

import itertools
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import InvalidRequest, Unavailable
from wherry.spec.log import Batch, Stream
from wherry.spec.logdelivery import HELD, RemoteSink
from wherry.testing.log import START_NS, MakeContext, context_factory, eventually
from wherry_syslog_log import SyslogLog
from wherry_syslog_log.connection import Connection
from wherry_syslog_log.message import Formatter
from wherry_syslog_log.options import NAMES, Options, understand


@pytest.fixture
def context(tmp_path: Path) -> MakeContext:
    return context_factory(tmp_path)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that takes datagrams, at `log` in the test's directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "log"))
        bound.settimeout(5)
        yield bound


def batch(data: bytes, stream: Stream = "stdout", time_ns: int = START_NS + 1_234_567) -> Batch:
    return Batch(data=data, stream=stream, time_ns=time_ns)


def sink_to(address: str, patience: float, **options: str) -> RemoteSink:
    destination = understand(Options(), {"syslog-address": address, **options})
    return RemoteSink(
        Connection(destination),
        Formatter(destination.format, destination.facility, "tag").messages,
        f"syslog at {address}",
        patience=patience,
    )


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("", r"<30>{stamp} {tag}\[{pid}\]: hello"),
        ("rfc3164", r"<30>{stamp} {host} {tag}\[{pid}\]: hello"),
        ("rfc5424", r"<30>1 2026-01-01T00:00:00Z {host} {tag} {pid} {tag} - hello"),
        ("rfc5424micro", r"<30>1 2026-01-01T00:00:00\.001234Z {host} {tag} {pid} {tag} - hello"),
    ],
)
def test_messages_look_as_docker_s(
    context: MakeContext, receiver: socket.socket, tmp_path: Path, form: str, pattern: str
) -> None:
    """Each format, to the byte; the time is the line's, not that of its sending."""
    made = context(syslog_address=f"unixgram://{tmp_path}/log", syslog_format=form)
    sink = SyslogLog().open(made)
    sink.write(batch(b"hello\n"))
    sink.close()
    expected = pattern.format(
        stamp=r"(?:Dec|Jan) [ \d]\d \d\d:\d\d:\d\d",  # local time
        tag=made.container_id[:12],
        pid=os.getpid(),
        host=re.escape(socket.gethostname()),
    )
    assert re.fullmatch(expected, receiver.recv(65536).decode())


def test_facility_severity_and_tag(context: MakeContext, rsyslog: Any) -> None:
    """stdout is info, stderr is err, of the facility and with the tag that the options name."""
    made = context(
        syslog_address=f"unix://{rsyslog.socket}", syslog_facility="local3", tag="{{.Name}}.{{.ImageName}}"
    )
    sink = SyslogLog().open(made)
    sink.write(batch(b"out\n"))
    sink.write(batch(b"err\n", "stderr"))
    sink.close()
    tag = f"{made.container_name}.busybox"
    eventually(lambda: len(rsyslog.parsed(tag)) == 2)
    assert [match.groups() for match in rsyslog.parsed(tag)] == [
        (b"local3", b"info", b"out"),
        (b"local3", b"err", b"err"),
    ]


def test_udp_arrives(context: MakeContext, rsyslog: Any) -> None:
    """Lines by UDP are datagrams to the server; one that is too long for a datagram is cut, not lost."""
    made = context(syslog_address="udp://127.0.0.1:5514")
    sink = SyslogLog().open(made)
    sink.write(batch(b"one\ntwo\n"))
    sink.write(batch(b"x" * 100_000 + b"\n"))
    sink.close()
    eventually(lambda: len(rsyslog.lines(made)) == 3)
    assert rsyslog.lines(made)[:2] == [b"one", b"two"]
    assert len(rsyslog.lines(made)[2]) > 30_000


def test_nobody_listens_to_udp(context: MakeContext) -> None:
    """UDP promises nothing, so nothing waits for it."""
    sink = SyslogLog().open(context(syslog_address="udp://127.0.0.1:9"))
    for number in range(100):
        sink.write(batch(b"%d\n" % number))
    sink.close()


def test_the_local_socket_is_found(
    context: MakeContext, receiver: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an address the machine's own syslog socket is used."""
    from wherry_syslog_log import connection

    monkeypatch.setattr(connection, "_LOCAL", (str(tmp_path / "none"), str(tmp_path / "log")))
    sink = SyslogLog().open(context())
    sink.write(batch(b"hello\n"))
    assert receiver.recv(1000).endswith(b": hello")
    sink.close()


@pytest.mark.parametrize("address", ["unixgram://{root}/log", "tcp://127.0.0.1:5514"])
def test_nothing_is_lost_while_the_server_restarts(
    context: MakeContext, rsyslog: Any, network: int, address: str
) -> None:
    """A write waits while the server is away, and goes on when it is back: every line once, in order."""
    from wherry.linux import netns

    made = context(syslog_address=address.format(root=rsyslog.root))
    sink = SyslogLog().open(made)
    sink.write(batch(b"before 1\nbefore 2\n"))
    eventually(lambda: len(rsyslog.lines(made)) == 2)
    rsyslog.stop()
    done = threading.Event()

    def write() -> None:
        with netns.inside(network):
            for number in range(50):
                sink.write(batch(b"during %d\n" % number))
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not done.wait(0.3)
    rsyslog.start()
    assert done.wait(20)
    writer.join()
    sink.close()
    expected = [b"before 1", b"before 2", *(b"during %d" % number for number in range(50))]
    eventually(lambda: len(rsyslog.lines(made)) >= len(expected))
    assert rsyslog.lines(made) == expected


def test_what_is_held_is_bounded_and_comes_first(tmp_path: Path) -> None:
    """After an outage longer than its patience a sink no longer waits: it holds 1 MiB, refuses more, and sends what it
    held, in order, when the server is back."""
    path = tmp_path / "late"
    sink = sink_to(f"unixgram://{path}", patience=0.1)
    taken: list[int] = []
    numbers = itertools.count()
    refused = 0
    while refused < 5:
        number = next(numbers)
        try:
            sink.write(batch(b"%06d " % number + b"x" * 8000 + b"\n"))
            taken.append(number)
        except Unavailable as error:
            refused += 1
            assert str(path) in str(error)
    assert len(taken) * 8000 <= HELD + 9000
    assert len(taken) > 100
    got: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(path))
        bound.settimeout(10)

        def receive() -> None:
            while len(got) < len(taken) + 1:
                got.append(int(bound.recv(65536).split(b": ")[1].split()[0]))

        receiving = threading.Thread(target=receive)
        receiving.start()
        sink._next_try = 0.0  # the next attempt is due
        sink.write(batch(b"999999 end\n"))
        receiving.join(20)
    sink.close()
    assert got == [*taken, 999999]


def test_opening_does_not_wait_and_closing_not_for_long(context: MakeContext) -> None:
    """A container starts although its log server is away, and what is then lost is said."""
    sink = SyslogLog().open(context(syslog_address="tcp://127.0.0.1:1"))
    sink.close()
    impatient = sink_to("tcp://127.0.0.1:1", patience=0.0)
    impatient.write(batch(b"one\ntwo\n"))
    with pytest.raises(Unavailable, match="the last 2 messages are lost"):
        impatient.close()


def test_a_server_that_hangs_up_between_lines_costs_none(context: MakeContext) -> None:
    """Whether the server is still there is looked at before each sending, so that lines do not go into a dead socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        sink = SyslogLog().open(context(syslog_address=f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        for number in range(5):
            sink.write(batch(b"%d\n" % number))
            accepted, _ = server.accept()
            with accepted:
                assert accepted.makefile("rb").readline().endswith(b": %d\n" % number)
        sink.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with key.pem and cert.pem, for localhost."""
    root = tmp_path_factory.mktemp("tls")
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem",
        shell=True, cwd=root, check=True, capture_output=True,
    )  # fmt: skip
    return root


@pytest.mark.parametrize("form", ["", "rfc5424"])
@pytest.mark.parametrize(
    "trust", [{"syslog_tls_ca_cert": "{root}/cert.pem"}, {"syslog_tls_skip_verify": "true"}]
)
def test_tls(context: MakeContext, certificate: Path, form: str, trust: dict[str, str]) -> None:
    """By TLS, with the server's certificate verified or not; RFC 5424 messages begin with their length."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            plain, _ = server.accept()
            with tls.wrap_socket(plain, server_side=True) as accepted, accepted.makefile("rb") as file:
                got.append(file.read())

        serving = threading.Thread(target=serve)
        serving.start()
        options = {name: value.format(root=certificate) for name, value in trust.items()}
        address = f"tcp+tls://localhost:{server.getsockname()[1]}"
        sink = SyslogLog().open(context(None, syslog_address=address, syslog_format=form, **options))
        sink.write(batch(b"one\n"))
        sink.write(batch(b"two\n"))
        sink.close()
        serving.join(10)
    if form:
        rest = got[0]
        for text in (b"one", b"two"):
            length, _, rest = rest.partition(b" ")
            assert rest[: int(length)].endswith(b"- " + text)
            rest = rest[int(length) :]
        assert rest == b""
    else:
        assert [line.rpartition(b": ")[2] for line in got[0].splitlines()] == [b"one", b"two"]


def test_a_certificate_that_is_not_trusted_is_not_talked_to(certificate: Path) -> None:
    """Without the authority's certificate nothing is sent, and the error says why."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            while True:
                try:
                    accepted, _ = server.accept()
                except OSError:
                    return  # the test is over
                try:
                    tls.wrap_socket(accepted, server_side=True).close()
                except OSError:
                    pass  # what the client thinks of us

        serving = threading.Thread(target=serve)
        serving.start()
        sink = sink_to(f"tcp+tls://localhost:{server.getsockname()[1]}", patience=0.0)
        sink.write(batch(b"secret\n"))
        sink._wire.close()
        with pytest.raises(Unavailable, match="certificate"):
            sink.close()
        server.shutdown(socket.SHUT_RDWR)
        serving.join(10)


def test_a_sealed_keeper_can_use_it(certificate: Path) -> None:
    """In a keeper nothing can be imported any more: names are resolved and TLS is set up all the same."""
    program = """
import sys
from pathlib import Path
from wherry_syslog_log import SyslogLog
from wherry.spec.log import Batch, LogContext

class Sealed:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"sealed: {name}")

driver = SyslogLog()
sys.meta_path.insert(0, Sealed())
for address in ("udp://localhost:9", "tcp://localhost:9", "tcp+tls://localhost:9", ""):
    options = {"syslog-address": address, "syslog-format": "rfc5424micro", "tag": "{{.Name}}"}
    context = LogContext(container_id="a" * 64, container_name="x", directory=Path("/"), options=options)
    sink = driver.open(context)
    sink._patience = 0
    sink.write(Batch(data=b"x\\n", stream="stdout", time_ns=1))
    assert "sealed" not in sink._trouble, sink._trouble
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"syslog-address": "127.0.0.1:514"}, "proto://address"),
        ({"syslog-address": "http://host"}, "proto://address"),
        ({"syslog-address": "local://"}, "proto://address"),
        ({"syslog-address": "tcp://"}, "names no server"),
        ({"syslog-address": "tcp://host:99999"}, "syslog-address"),
        ({"syslog-address": "tcp://host/path"}, "names no server"),
        ({"syslog-address": "tcp://" + "x" * 70}, "syslog-address"),
        ({"syslog-address": "unix://log"}, "names no socket"),
        ({"syslog-facility": "local9"}, "invalid syslog facility: local9"),
        ({"syslog-facility": "24"}, "invalid syslog facility: 24"),
        ({"syslog-format": "rfc1"}, "invalid syslog format: rfc1"),
        ({"tag": "{{.Nmae}}"}, "Nmae"),
        ({"syslog-tls-cert": "/x", "syslog-address": "tcp+tls://h"}, "only go together"),
        ({"syslog-tls-ca-cert": "/none", "syslog-address": "tcp+tls://h"}, "/none"),
        ({"syslog-adress": "udp://h"}, "unknown log opt 'syslog-adress' for syslog"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, str], complaint: str) -> None:
    """The message names the option at fault."""
    with pytest.raises(InvalidRequest, match=re.escape(complaint)):
        SyslogLog().check(options)


@pytest.mark.parametrize(
    "address", ["udp://[::1]:514", "tcp://logs.example", "tcp+tls://10.0.0.1:6514", "unix:///dev/log"]
)
def test_docker_s_addresses_are_taken(address: str) -> None:
    """What Docker's documentation shows can be said here, by the names it has there."""
    SyslogLog().check({"syslog-address": address, "syslog-facility": "3", "labels": "a", "env": "b"})
    assert all(
        name in ("tag", "labels", "labels-regex", "env", "env-regex") or name.startswith("syslog-")
        for name in NAMES
    )
