"""Connections that become streams, answers without an end, bodies that flow through."""

import base64
import contextlib
import io
import json
import os
import socket
import stat
import tarfile
import threading
import time
from collections.abc import Callable

import pytest
from docker_api_memory import MemoryEngine
from docker_api_raw import Raw, Wire, request

from wherry_docker_api.archives import file_mode

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def create(raw: Raw, name: str, *cmd: str, **config: object) -> str:
    body = {"Image": "busybox", "Cmd": list(cmd), **config}
    reply = raw.ask("POST", f"/containers/create?name={name}", body)
    assert reply.status == 201, reply
    return str(reply.json["Id"])


def start(raw: Raw, name: str) -> None:
    assert raw.ask("POST", f"/containers/{name}/start").status == 204


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


# ---- attach


@pytest.mark.parametrize(
    ("version", "upgrade", "status", "kind"),
    [
        ("1.51", UPGRADE, 101, "application/vnd.docker.multiplexed-stream"),
        ("1.41", UPGRADE, 101, "application/vnd.docker.raw-stream"),
        ("1.51", "", 200, "application/vnd.docker.raw-stream"),
    ],
)
def test_attach_gives_input_and_output(raw: Raw, version: str, upgrade: str, status: int, kind: str) -> None:
    """What comes behind the request in the same packet is input; a half-closed client still gets all output."""
    create(raw, "cat", "cat", OpenStdin=True, AttachStdin=True)
    with raw.open() as wire:
        target = f"/v{version}/containers/cat/attach?stream=1&stdin=1&stdout=1&stderr=1"
        wire.send(request("POST", target, b"", upgrade) + b"early ")
        found, headers = wire.head()
        assert (found, headers["content-type"]) == (status, kind)
        assert headers.get("upgrade", "") == ("tcp" if upgrade else "")
        start(raw, "cat")
        wire.send(b"late\n")
        wire.sock.shutdown(socket.SHUT_WR)
        assert b"".join(data for _, data in wire.frames()) == b"early late\n"


def test_attach_separates_the_streams(raw: Raw) -> None:
    """1 is stdout, 2 is stderr."""
    create(raw, "both", "sh", "-c", "echo out; echo err >&2")
    with raw.open() as wire:
        wire.send(request("POST", "/containers/both/attach?stream=1&stdout=1&stderr=1", b"", UPGRADE))
        wire.head()
        start(raw, "both")
        assert sorted(wire.frames()) == [(1, b"out\n"), (2, b"err\n")]


def test_attach_of_what_is_not_there(raw: Raw, engine: MemoryEngine) -> None:
    """An answer, not a stream; and of a paused container as well."""
    with raw.open() as wire:
        wire.send(request("POST", "/containers/nope/attach?stream=1", b"", UPGRADE))
        reply = wire.reply()
        assert (reply.status, reply.message) == (404, "No such container: nope")
        wire.send(request("GET", "/_ping"))
        assert wire.reply().status == 200
    create(raw, "still", "sleep", "9")
    start(raw, "still")
    engine.pause("still")
    reply = raw.ask("POST", "/containers/still/attach?stream=1", b"", UPGRADE)
    assert reply.status == 409
    assert "is paused" in reply.message


def test_the_front_lets_go_of_a_connection(raw: Raw) -> None:
    """After the hand-over the front has no descriptor of it left, and a big stream flows without it."""
    before = len(os.listdir("/proc/self/fd"))
    create(raw, "big", "sh", "-c", "head -c 20000000 /dev/zero")
    with raw.open() as wire:
        wire.send(request("POST", "/containers/big/attach?stream=1&stdout=1", b"", UPGRADE))
        wire.head()
        start(raw, "big")
        assert sum(len(data) for _, data in wire.frames()) == 20_000_000
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


# ---- exec


def run_exec(raw: Raw, *cmd: str, **more: object) -> tuple[list[tuple[int, bytes]], int]:
    body = {"Cmd": list(cmd), "AttachStdout": True, "AttachStderr": True, **more}
    exec_id = raw.ask("POST", "/containers/host/exec", body).json["Id"]
    with raw.open() as wire:
        wire.send(request("POST", f"/exec/{exec_id}/start", {"Detach": False}, UPGRADE) + b"in\n")
        assert wire.head()[0] == 101
        wire.sock.shutdown(socket.SHUT_WR)
        frames = wire.frames()
    until(lambda: not raw.get(f"/exec/{exec_id}/json")["Running"])
    return frames, raw.get(f"/exec/{exec_id}/json")["ExitCode"]


def test_exec(raw: Raw) -> None:
    """Output, input behind the body of the request, exit code; what cannot be executed is told on the stream."""
    create(raw, "host", "sleep", "60")
    start(raw, "host")
    assert run_exec(raw, "sh", "-c", "echo x; exit 7") == ([(1, b"x\n")], 7)
    assert run_exec(raw, "cat", AttachStdin=True) == ([(1, b"in\n")], 0)
    frames, code = run_exec(raw, "missing")
    assert (frames, code) == ([(1, b'exec: "missing": executable file not found in $PATH\r\n')], 127)


def test_exec_that_is_refused_late(raw: Raw) -> None:
    """After the head the stream is the only place for an error."""
    create(raw, "host", "sleep", "60")
    start(raw, "host")
    exec_id = raw.ask("POST", "/containers/host/exec", {"Cmd": ["refused"], "AttachStdout": True}).json["Id"]
    with raw.open() as wire:
        wire.send(request("POST", f"/exec/{exec_id}/start", {}, UPGRADE))
        assert wire.head()[0] == 101
        assert wire.frames() == [(1, b"it stopped in between\r\n")]


def test_exec_once_and_detached(raw: Raw) -> None:
    """A second start is a conflict; a detached one is answered at once."""
    create(raw, "host", "sleep", "60")
    start(raw, "host")
    exec_id = raw.ask("POST", "/containers/host/exec", {"Cmd": ["sleep", "30"]}).json["Id"]
    assert raw.get(f"/exec/{exec_id}/json")["ExitCode"] is None
    assert raw.ask("POST", f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    again = raw.ask("POST", f"/exec/{exec_id}/start", {"Detach": True})
    assert (again.status, again.message) == (409, f"Error: Exec command {exec_id} is already running")


# ---- wait


def test_wait_answers_its_head_at_once(raw: Raw) -> None:
    """`docker run` starts the container only when it has the head."""
    id_ = create(raw, "short", "sh", "-c", "exit 3")
    with raw.open() as wire:
        wire.send(request("POST", "/containers/short/wait?condition=next-exit", b""))
        assert wire.head()[0] == 200
        start(raw, id_)
        assert json.loads(b"".join(wire.chunks())) == {"StatusCode": 3}
    assert raw.ask("POST", "/containers/short/wait").json == {"StatusCode": 3}
    assert raw.ask("POST", "/containers/nope/wait").status == 404


def test_wait_for_removal(raw: Raw) -> None:
    """A `wait` that was accepted before the start gets the code, although the container is gone by then."""
    create(raw, "gone", "sh", "-c", "exit 4", HostConfig={"AutoRemove": True})
    with raw.open() as wire:
        wire.send(request("POST", "/containers/gone/wait?condition=removed", b""))
        wire.head()
        start(raw, "gone")
        assert json.loads(b"".join(wire.chunks())) == {"StatusCode": 4}
    assert raw.ask("GET", "/containers/gone/json").status == 404


# ---- logs


def test_logs(raw: Raw, engine: MemoryEngine) -> None:
    """Frames, with times, of the streams that were asked for."""
    create(raw, "says", "sh", "-c", "echo one; echo two >&2; echo three")
    start(raw, "says")
    raw.ask("POST", "/containers/says/wait")
    with raw.open() as wire:
        wire.send(
            request(
                "GET", "/v1.51/containers/says/logs?stdout=1&timestamps=1&tail=1&since=1.5&until=99999999999"
            )
        )
        _, headers = wire.head()
        assert headers["content-type"] == "application/vnd.docker.multiplexed-stream"
        data = b"".join(wire.chunks())
    assert data[0] == 1
    when, _, text = data[8:].partition(b" ")
    assert text == b"three\n"
    assert len(when) == len("2026-11-24T13:03:00.000000001Z")
    query = engine.asked[-1][1]
    assert (query.tail, query.since_ns, query.until_ns) == (1, 1_500_000_000, 99999999999_000_000_000)
    until(lambda: len(engine.streams_closed) == 1)


def test_logs_of_a_terminal_are_raw(raw: Raw) -> None:
    """No frames where there was a terminal."""
    create(raw, "tty", "echo", "hello", Tty=True)
    start(raw, "tty")
    raw.ask("POST", "/containers/tty/wait")
    reply = raw.ask("GET", "/containers/tty/logs?stdout=1")
    assert reply.headers["content-type"] == "application/vnd.docker.raw-stream"
    assert reply.body == b"hello\r\n"


def test_followed_logs_come_as_they_are_written(raw: Raw) -> None:
    """The head at once, then each line; the end when the container ends."""
    create(raw, "talks", "sh", "-c", "echo first; read x; echo second", OpenStdin=True)
    with raw.open() as attached, raw.open() as wire:
        attached.send(request("POST", "/containers/talks/attach?stream=1&stdin=1", b"", UPGRADE))
        attached.head()
        start(raw, "talks")
        wire.send(request("GET", "/containers/talks/logs?stdout=1&follow=1"))
        wire.head()
        chunks = wire.chunks()
        assert next(chunks)[8:] == b"first\n"
        attached.send(b"go\n")
        assert next(chunks)[8:] == b"second\n"
        assert list(chunks) == []


def test_a_client_that_leaves_ends_its_stream(raw: Raw, engine: MemoryEngine) -> None:
    """Events, followed logs, waits and stats of clients that are gone hold nothing."""
    create(raw, "on", "sleep", "60")
    start(raw, "on")
    wires: list[Wire] = []
    for method, target in (
        ("GET", "/events"),
        ("GET", "/containers/on/logs?stdout=1&follow=1"),
        ("POST", "/containers/on/wait"),
        ("GET", "/containers/on/stats"),
    ):
        wires.append(raw.open())
        wires[-1].send(request(method, target))
        wires[-1].head()
    before = len(os.listdir("/proc/self/fd"))
    for each in wires:
        each.sock.close()
    until(lambda: len(engine.streams_closed) == 2)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before - 2 * len(wires))


# ---- events


def test_events(raw: Raw, engine: MemoryEngine) -> None:
    """One JSON value a line, in docker's shape with the old fields; the head comes before the first event."""
    with raw.open() as wire:
        wire.send(
            request("GET", "/events?filters=" + json.dumps({"type": {"container": True}}).replace(" ", ""))
        )
        assert wire.head()[0] == 200
        create(raw, "told", "true")
        (value,) = [json.loads(line) for line in next(wire.chunks()).splitlines()]
    assert engine.asked[-1] == ("events", None, None, {"type": ["container"]})
    id_ = engine.inspect("told").id
    assert value["status"] == value["Action"] == "create"
    assert value["id"] == value["Actor"]["ID"] == id_
    assert value["from"] == value["Actor"]["Attributes"]["image"] == "busybox"
    assert value["Type"] == "container"
    assert value["scope"] == "local"
    assert value["timeNano"] // 10**9 == value["time"]


def test_events_of_the_past_end(raw: Raw) -> None:
    """With `until` in the past the answer has an end."""
    create(raw, "then", "true")
    reply = raw.ask("GET", f"/events?since=1&until={time.time():.9f}")
    assert [json.loads(line)["Action"] for line in reply.body.splitlines()] == ["create"]


# ---- stats


def test_stats(raw: Raw) -> None:
    """Two samples for a share, one where that is enough, zeros of what does not run."""
    create(raw, "busy", "sleep", "60")
    idle = raw.get("/containers/busy/stats?stream=0")
    assert idle["read"] == "0001-01-01T00:00:00Z"
    assert idle["memory_stats"] == {}
    start(raw, "busy")
    two = raw.get("/containers/busy/stats?stream=0")
    assert two["cpu_stats"]["cpu_usage"]["total_usage"] > two["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    one = raw.get("/containers/busy/stats?stream=0&one-shot=1")
    assert one["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert one["networks"]["eth0"] == {"rx_bytes": 1, "tx_bytes": 2}
    with raw.open() as wire:
        wire.send(request("GET", "/containers/busy/stats"))
        wire.head()
        chunks = wire.chunks()
        assert json.loads(next(chunks))["name"] == "/busy"
        assert json.loads(next(chunks))["precpu_stats"]["system_cpu_usage"] > 0


# ---- Archives


def test_load_streams_its_body(raw: Raw, engine: MemoryEngine) -> None:
    """More than fits anywhere on the way, chunked; the engine gets every byte."""
    piece = os.urandom(100_000)
    with raw.open(30) as wire:
        wire.send(b"POST /images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        wire.send(b"0\r\n\r\n")
        reply = wire.reply()
        assert json.loads(reply.body) == {"stream": "Loaded image: busybox:latest\n"}
        wire.send(request("GET", "/_ping"))
        assert wire.reply().status == 200
    assert engine.uploaded == piece * 100


def test_an_upload_that_is_refused_early(raw: Raw) -> None:
    """The answer comes although the client is still sending, and says why."""
    with raw.open() as wire, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        wire.send(
            b"POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 900000000\r\n\r\nwrong"
            + b"x" * 3_000_000
        )
        reply = wire.reply()
        assert (reply.status, reply.message) == (400, "the archive is no image")


def test_an_upload_that_breaks_off_is_no_archive(raw: Raw, engine: MemoryEngine) -> None:
    """A client that dies half-way must not look like one that was done."""
    with raw.open() as wire:
        wire.send(b"POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        until(lambda: any(thread.name == "work lane" for thread in threading.enumerate()))
    with raw.open() as wire:
        wire.send(
            b"POST /images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxxxxx\r\nzz\r\n"
        )
        assert wire.reply().status == 400
    assert engine.uploaded == b""


def test_import(raw: Raw, engine: MemoryEngine) -> None:
    """A tar becomes an image; the parameters arrive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("etc"))
    target = "/images/create?fromSrc=-&repo=mine&tag=2&message=hi&changes=CMD%20a&changes=ENV%20b=c"
    reply = raw.ask("POST", target, buffer.getvalue())
    assert reply.status == 200
    assert json.loads(reply.body)["status"].startswith("sha256:")
    assert engine.asked[-1] == ("import", "mine:2", "hi", ["CMD a", "ENV b=c"])
    assert raw.ask("POST", "/images/create?fromSrc=http://x/", b"").status == 501


def test_save_and_export(raw: Raw) -> None:
    """Archives flow out; an unknown name is a 404 and no broken archive."""
    id_ = create(raw, "out", "true")
    reply = raw.ask("GET", "/images/get?names=busybox&names=busybox:latest")
    assert reply.headers["content-type"] == "application/x-tar"
    assert len(reply.body) == 2 * 10000 * 71
    exported = raw.ask("GET", "/containers/out/export")
    with tarfile.open(fileobj=io.BytesIO(exported.body)) as tar:
        assert (tar.extractfile("hostname") or io.BytesIO()).read() == id_.encode() * 4096
    assert raw.ask("GET", "/images/nope/get").status == 404
    assert raw.ask("GET", "/containers/nope/export").status == 404


def test_files_of_a_container(raw: Raw, engine: MemoryEngine) -> None:
    """What a path is comes as a header, in Go's words; archives flow both ways; the parameters arrive."""
    id_ = create(raw, "files", "true")
    for method in ("HEAD", "GET"):
        reply = raw.ask(method, "/containers/files/archive?path=/hostname")
        assert reply.status == 200
        assert json.loads(base64.b64decode(reply.headers["x-docker-container-path-stat"])) == {
            "name": "hostname", "size": 64, "mode": 0o755 | 1 << 23, "mtime": "2023-11-14T22:13:20.123Z",
            "linkTarget": "",
        }  # fmt: skip
    assert reply.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as tar:
        assert (tar.extractfile("hostname") or io.BytesIO()).read() == id_.encode() * 4096
    link = raw.ask("HEAD", "/containers/files/archive?path=link").headers["x-docker-container-path-stat"]
    assert json.loads(base64.b64decode(link)) == {
        "name": "link", "size": 8, "mode": 0o777 | 1 << 27, "mtime": "1970-01-01T00:00:00Z", "linkTarget": "/hostname"
    }  # fmt: skip
    missing = raw.ask("GET", "/containers/files/archive?path=/nope")
    assert (missing.status, missing.message) == (404, "Could not find the file /nope in container files")
    assert raw.ask("HEAD", "/containers/files/archive?path=/nope").status == 404
    target = "/containers/files/archive?path=/etc&noOverwriteDirNonDir=true&copyUIDGID=1"
    assert raw.ask("PUT", target, b"tar").status == 200
    assert engine.asked[-1] == ("extract", "/etc", True, True) and engine.uploaded == b"tar"
    refused = raw.ask("PUT", "/containers/files/archive?path=/file", b"x" * 3_000_000)
    assert (refused.status, refused.message) == (400, "extraction point is not a directory")


@pytest.mark.parametrize(
    ("mode", "go"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFDIR | 0o1777, 0o777 | 1 << 31 | 1 << 20),
        (stat.S_IFREG | 0o6755, 0o755 | 1 << 23 | 1 << 22),
        (stat.S_IFLNK | 0o777, 0o777 | 1 << 27),
        (stat.S_IFBLK | 0o600, 0o600 | 1 << 26),
        (stat.S_IFCHR | 0o600, 0o600 | 1 << 26 | 1 << 21),
        (stat.S_IFIFO | 0o600, 0o600 | 1 << 25),
        (stat.S_IFSOCK | 0o600, 0o600 | 1 << 24),
    ],
)
def test_modes_are_gos(mode: int, go: int) -> None:
    """Source: Go `os.FileMode`."""
    assert file_mode(mode) == go
