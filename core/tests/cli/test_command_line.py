"""The command line itself: how flags are read, what is said when they are wrong, and what is sent to a daemon."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from wherry.cli import arguments, main
from wherry.cli.flags import flag
from wherry.cli.session import Session, UsageError
from wherry.cli.verbs import ALIASES, NOT_HERE, VERBS


def verb(
    session: Session,
    name: Annotated[str, typer.Argument()],
    rest: Annotated[list[str] | None, typer.Argument()] = None,
    yes: Annotated[bool, flag("-y", "--yes", help="")] = False,
    proxy: Annotated[bool, flag("--proxy/--no-proxy", help="")] = True,
    count: Annotated[int | None, flag("-c", "--count", help="")] = None,
    env: Annotated[list[str] | None, flag("-e", "--env", help="")] = None,
) -> int:
    return 0


READ: dict[str, dict[str, Any]] = {
    "x": {"name": "x", "rest": []},
    "x a b": {"name": "x", "rest": ["a", "b"]},
    "-y x": {"name": "x", "rest": [], "yes": True},
    "--yes=false x": {"name": "x", "rest": [], "yes": False},
    "--proxy=0 x": {"name": "x", "rest": [], "proxy": False},
    "--no-proxy x": {"name": "x", "rest": [], "proxy": False},
    "-c 3 x": {"name": "x", "rest": [], "count": 3},
    "-c3 x": {"name": "x", "rest": [], "count": 3},
    "-c=3 x": {"name": "x", "rest": [], "count": 3},
    "--count=-1 x": {"name": "x", "rest": [], "count": -1},
    "-yc 3 x": {"name": "x", "rest": [], "yes": True, "count": 3},
    "-eA=1 -e B --env=C= x": {"name": "x", "rest": [], "env": ["A=1", "B", "C="]},
    "x -y": {"name": "x", "rest": ["-y"]},
    "-- -y": {"name": "-y", "rest": []},
    "x --yes=false -- -z": {"name": "x", "rest": ["--yes=false", "--", "-z"]},
    "- a": {"name": "-", "rest": ["a"]},
}


@pytest.mark.parametrize("line", READ)
def test_flags_are_read_by_dockers_rules(line: str) -> None:
    assert arguments.read("verb", verb, line.split(), program=True) == READ[line]


def test_flags_may_come_after_names_where_no_program_follows() -> None:
    assert arguments.read("verb", verb, ["x", "-y", "a"], program=False) == {
        "name": "x",
        "rest": ["a"],
        "yes": True,
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", '"wherry verb" requires at least 1 argument.'),
        ("--yess x", 'unknown flag: --yess; did you mean "--yes"?'),
        ("-yz x", "unknown shorthand flag: 'z' in -yz"),
        ("--count", "flag needs an argument: --count"),
        ("-yc", "flag needs an argument: 'c' in -yc"),
        ("--count many x", 'invalid argument "many" for "--count" flag'),
        ("--yes=perhaps x", "true or false is expected"),
    ],
)
def test_what_is_wrong_is_told_in_dockers_words(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        arguments.read("verb", verb, line.split(), program=True)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_and_can_be_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert VERBS[name].help in capsys.readouterr().out


def test_every_verb_is_in_the_overview_and_no_word_is_two_things(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    for name, each in VERBS.items():
        assert name in overview
        assert each.help in overview
    assert not VERBS.keys() & (ALIASES.keys() | NOT_HERE.keys())
    assert set(ALIASES.values()) <= VERBS.keys()


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("rn", 125, 'did you mean "run"?'),
        ("--nope ps", 125, "unknown flag: --nope"),
        ("-H", 125, "flag needs an argument: -H"),
        ("network", 125, "needs one of: connect, create"),
        ("commit a b", 125, 'wherry has no "commit"'),
        ("ps x", 125, "accepts no arguments"),
        ("daemon --nope", 2, "unknown flag: --nope"),
        ("daemon --mtu 5 --validate", 2, "5 is not between"),
        ("-H ssh://host ps", 1, "is no address of a daemon"),
        ("-H unix:///nowhere/sock ps", 1, "Cannot connect"),
        ("logs --since yesterday x", 1, "Cannot connect"),
    ],
)
def test_errors_are_said_once_with_their_exit_code(
    line: str, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERRY_HOST", "unix:///nowhere/sock")
    assert main(line.split()) == code
    answer = capsys.readouterr()
    assert words in answer.err
    assert answer.out == ""
    assert answer.err.startswith("wherry")


@dataclass
class Scripted:
    """A daemon that answers from a table, and remembers what it was asked, in order."""

    path: Path
    answers: dict[str, tuple[int, Any]]
    asked: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            method, target, _ = head.decode().split("\r\n")[0].split(" ")
            length = next(
                (int(h.split(":")[1]) for h in head.decode().split("\r\n") if h.startswith("Content-Length")),
                0,
            )
            while len(body) < length:
                body += connection.recv(65536)
            name = f"{method} {target.partition('?')[0]}"
            self.asked.append(f"{method} {target}")
            self.bodies.append(json.loads(body) if body else None)
            status, answer = self.answers.get(name, (404, {"message": f"no answer to {name}"}))
            if status == 101:
                connection.sendall(
                    b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + answer
                )
                return
            text = b"" if answer is None else json.dumps(answer).encode()
            connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    path = tmp_path / "sock"
    daemon = Scripted(path, {})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        monkeypatch.setenv("WHERRY_HOST", f"unix://{path}")
        threading.Thread(target=daemon.serve, args=(listener,), daemon=True).start()
        yield daemon
        listener.shutdown(socket.SHUT_RDWR)


def running(scripted: Scripted, start: tuple[int, Any] = (204, None)) -> None:
    scripted.answers = {
        "POST /containers/create": (201, {"Id": "abc", "Warnings": ["odd"]}),
        "POST /containers/abc/attach": (101, b"\1\0\0\0\0\0\0\3hi\n"),
        "POST /containers/abc/wait": (200, {"StatusCode": 7}),
        "POST /containers/abc/start": start,
        "DELETE /containers/abc": (204, None),
    }


def test_run_attaches_and_waits_before_it_starts(
    scripted: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing that the container prints is lost, and no exit is missed."""
    running(scripted)
    assert main(["run", "--rm", "-e", "A=1", "image", "echo", "--rm=false"]) == 7
    verbs = [each.split("?")[0].rpartition("/")[2] for each in scripted.asked]
    assert verbs == ["create", "attach", "wait", "start"]
    assert "condition=removed" in scripted.asked[2]
    answer = capfd.readouterr()
    assert (answer.out, answer.err) == ("hi\n", "WARNING: odd\n")
    body = scripted.bodies[0]
    assert (body["Image"], body["Cmd"], body["Env"]) == ("image", ["echo", "--rm=false"], ["A=1"])
    assert body["HostConfig"]["AutoRemove"] is True


STARTS = {
    'exec: "x": executable file not found in $PATH': 127,
    "stat /x: no such file or directory": 127,
    'exec: "/etc": permission denied': 126,
    "driver failed programming external connectivity": 125,
}


@pytest.mark.parametrize("message", STARTS)
def test_a_start_that_fails_has_dockers_exit_code_and_leaves_nothing(
    scripted: Scripted, message: str
) -> None:
    running(scripted, (400, {"message": message}))
    assert main(["run", "--rm", "image", "x"]) == STARTS[message]
    assert scripted.asked[-1].startswith("DELETE /containers/abc?")


def test_an_id_file_is_written_once(
    scripted: Scripted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running(scripted)
    file = tmp_path / "id"
    assert main(["create", "--cidfile", str(file), "image"]) == 0
    assert file.read_text() == "abc"
    assert main(["create", "--cidfile", str(file), "image"]) == 1
    assert "container ID file found" in capsys.readouterr().err
    assert len(scripted.asked) == 1


def test_flags_become_the_apis_words(scripted: Scripted) -> None:
    running(scripted)
    line = (
        "create -it --name n -p 80:8080 -v /a:/b --memory 64m --cpus 1.5 --pids-limit 9 --cap-add NET_ADMIN "
        "--exec-driver lxc --log-driver syslog --log-opt tag=x --ulimit nofile=3:4 --restart on-failure:2 "
        "--network mine --ip 10.1.1.1 --network-alias web --entrypoint= --init --tmpfs /t:size=1m --stop-timeout 3 image"
    )
    assert main(line.split()) == 0
    assert scripted.asked == ["POST /containers/create?name=n"]
    body = scripted.bodies[0]
    host = body["HostConfig"]
    assert body["Entrypoint"] == [""]
    assert (body["Tty"], body["OpenStdin"], body["StopTimeout"]) == (True, True, 3)
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "", "HostPort": "80"}]}
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 1_500_000_000, 9)
    assert (host["Runtime"], host["LogConfig"]) == ("lxc", {"Type": "syslog", "Config": {"tag": "x"}})
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 3, "Hard": 4}]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert host["NetworkMode"] == "mine"
    assert body["NetworkingConfig"]["EndpointsConfig"]["mine"] == {
        "Aliases": ["web"],
        "IPAMConfig": {"IPv4Address": "10.1.1.1"},
    }


def test_one_failure_of_many_is_told_and_the_rest_is_done(
    scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.answers = {"POST /containers/good/stop": (204, None), "POST /containers/also/stop": (304, None)}
    assert main(["stop", "good", "bad", "also"]) == 1
    answer = capsys.readouterr()
    assert answer.out == "good\nalso\n"
    assert answer.err.startswith("Error response from daemon: ")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n[",
        b"HTTP/1.1 200 OK\r\n\r\nno json",
    ],
    ids=["nothing", "not HTTP", "cut off", "no JSON"],
)
def test_a_strange_daemon_is_one_clear_line(
    tmp_path: Path, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        assert main(["-H", f"unix://{path}", "ps"]) == 1
        server.join(10)
    assert capsys.readouterr().err.count("\n") == 1
