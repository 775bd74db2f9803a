"""Docker's own clients, unmodified: the `docker` program (every one that is installed) and docker-py."""

import io
import os
import pty
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from docker_api_memory import MemoryEngine

PROGRAMS = [path for path in ("/usr/bin/docker", "/usr/local/bin/docker") if Path(path).exists()]


class Docker:
    """The `docker` program against a socket, with a configuration of its own."""

    def __init__(self, program: str, address: str, home: Path) -> None:
        self.program = program
        self.env = {
            **os.environ,
            "DOCKER_HOST": f"unix://{address}",
            "DOCKER_CONFIG": str(home),
            "HOME": str(home),
        }

    def __call__(
        self, *args: str, stdin: bytes = b"", code: int = 0, text: bool = True
    ) -> subprocess.CompletedProcess[Any]:
        done = subprocess.run(
            [self.program, *args], input=stdin, capture_output=True, env=self.env, timeout=30
        )
        assert done.returncode == code, (args, done)
        return done

    def out(self, *args: str, stdin: bytes = b"", code: int = 0) -> str:
        return str(self(*args, stdin=stdin, code=code).stdout.decode())


@pytest.fixture(params=PROGRAMS or [None])
def cli(request: pytest.FixtureRequest, address: str, tmp_path: Path) -> Docker:
    if request.param is None:
        if os.environ.get("WHERRY_NO_PEERS"):
            pytest.skip("there is no docker program")
        pytest.fail("there is no docker program: make setup-test")
    return Docker(request.param, address, tmp_path)


@pytest.fixture
def client(address: str) -> Iterator[docker.DockerClient]:
    with_socket = docker.DockerClient(base_url=f"unix://{address}", version="auto", timeout=20)
    yield with_socket
    with_socket.close()


# ---- the docker program


def test_run_gives_output_and_exit_code(cli: Docker, engine: MemoryEngine) -> None:
    """Both streams, every exit code, and nothing is left with --rm."""
    assert cli.out("run", "--rm", "busybox", "echo", "hello") == "hello\n"
    done = cli("run", "--rm", "busybox", "sh", "-c", "echo bad >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == (b"", b"bad\n")
    assert cli.out("run", "-i", "--rm", "busybox", "cat", stdin=b"hi") == "hi"
    assert engine.views == {}


def test_run_with_a_terminal(cli: Docker) -> None:
    """Raw bytes through a terminal of the client."""
    master, slave = pty.openpty()
    run = [cli.program, "run", "--rm", "-it", "busybox", "sh", "-c", "read x; echo got $x; exit 6"]
    process = subprocess.Popen(run, stdin=slave, stdout=slave, stderr=slave, env=cli.env)
    os.close(slave)
    os.write(master, b"typed\n")
    seen = b""
    try:
        while data := os.read(master, 4096):
            seen += data
    except OSError:
        pass  # its other side is closed
    os.close(master)
    assert process.wait(20) == 6
    assert b"got typed" in seen


def test_run_of_an_image_that_is_not_here(cli: Docker) -> None:
    """125, and the sentence says what to do."""
    done = cli("run", "--rm", "nowhere", code=125)
    assert b'image "nowhere:latest" is not here' in done.stderr
    assert b"docker load" in done.stderr


def test_the_life_of_a_container(cli: Docker) -> None:
    """create, start, ps, inspect, top, rename, pause, stop, restart, kill, wait, rm."""
    id_ = cli.out("run", "-d", "--name", "web", "busybox", "sleep", "100").strip()
    assert cli.out("ps", "--format", "{{.ID}} {{.Names}} {{.Command}} {{.State}}").strip() == (
        f'{id_[:12]} web "sleep 100" running'
    )
    assert cli.out("ps", "-q", "--no-trunc").strip() == id_
    assert cli.out("inspect", "-f", "{{.State.Status}} {{.Name}} {{.Config.Image}}", "web").strip() == (
        "running /web busybox"
    )
    assert "sleep" in cli.out("top", "web")
    cli("pause", "web")
    assert "(Paused)" in cli.out("ps", "--format", "{{.Status}}")
    cli("unpause", "web")
    cli("rename", "web", "net")
    cli("stop", "-t", "5", "net")
    assert "Exited (143)" in cli.out("ps", "-a", "--format", "{{.Status}}")
    cli("start", "net")
    cli("restart", "-t", "5", "net")
    assert cli("rm", "net", code=1).stderr.decode().count("container is running") == 1
    cli("kill", "net")
    assert cli.out("wait", "net").strip() == "137"
    assert cli("start", "-a", "nope", code=1).stderr.decode().rstrip().endswith("No such container: nope")
    cli("update", "--memory", "64m", "net")
    assert cli.out("diff", "net").split() == ["A", "/a", "D", "/d", "C", "/m"]
    cli("rm", "net")
    assert cli.out("ps", "-aq") == ""


def test_exec(cli: Docker) -> None:
    """Output, input and exit codes of another process."""
    cli("run", "-d", "--name", "host", "busybox", "sleep", "100")
    assert cli.out("exec", "host", "echo", "there") == "there\n"
    assert cli.out("exec", "-i", "host", "cat", stdin=b"x" * 100_000) == "x" * 100_000
    cli("exec", "host", "sh", "-c", "exit 9", code=9)
    cli("exec", "-d", "host", "sleep", "50")
    assert b"executable file not found" in cli("exec", "host", "missing", code=127).stdout


def test_logs(cli: Docker) -> None:
    """logs, followed to the end of the container."""
    cli("run", "-d", "--name", "says", "busybox", "sh", "-c", "echo a; echo b >&2; sleep 0.3; echo c")
    done = cli("logs", "-f", "says")
    assert (done.stdout, done.stderr) == (b"a\nc\n", b"b\n")
    assert cli.out("logs", "--tail", "1", "says") == "c\n"
    assert cli.out("logs", "-t", "--tail", "1", "says").endswith("Z c\n")


def test_attach(cli: Docker) -> None:
    """A client that comes later sees what comes later, and the exit code."""
    cli("run", "-di", "--name", "reads", "busybox", "sh", "-c", "read x; echo got $x; exit 4")
    done = cli("attach", "reads", stdin=b"this\n", code=4)
    assert done.stdout == b"got this\n"


def test_events_follow(cli: Docker, engine: MemoryEngine) -> None:
    """Events come while they happen, in their order."""
    command = [cli.program, "events", "--format", "{{.Action}}", "--filter", "type=container"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cli.env) as follow:
        assert follow.stdout is not None
        deadline = time.monotonic() + 10
        while not engine.streams:
            assert time.monotonic() < deadline
        cli("run", "--rm", "busybox", "true")
        assert [follow.stdout.readline().strip() for _ in range(4)] == ["create", "start", "die", "destroy"]
        follow.kill()


def test_images(cli: Docker, tmp_path: Path) -> None:
    """images, import, load, save, tag, history, rmi."""
    assert (
        cli.out("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").strip()
        == "busybox:latest bbbbbbbbbbbb"
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("etc"))
    made = cli.out("import", "-c", "CMD x", "-", "mine:1", stdin=buffer.getvalue()).strip()
    assert made.startswith("sha256:")
    assert cli.out("inspect", "-f", "{{.Id}} {{.RepoTags}}", "mine:1").strip() == f"{made} [mine:1]"
    assert cli.out("load", stdin=b"\0" * 2_000_000) == "Loaded image: busybox:latest\n"
    assert b"the archive is no image" in cli("load", stdin=b"wrong" + b"x" * 10_000, code=1).stderr
    cli("tag", "mine:1", "example.com/a/b:2")
    assert cli.out("image", "inspect", "-f", "{{.Id}}", "example.com/a/b:2").strip() == made
    cli("save", "-o", str(tmp_path / "saved"), "busybox")
    assert (tmp_path / "saved").stat().st_size == 710_000
    assert "import" in cli.out("history", "busybox")
    assert f"Deleted: {made}" in cli.out("rmi", "mine:1")


def test_the_engine_as_a_whole(cli: Docker) -> None:
    """version, info, networks, volumes, disk usage, stats, prune."""
    assert "0.1" in cli.out("version", "--format", "{{.Server.Version}}")
    assert cli.out("info", "--format", "{{.ID}} {{.Swarm.LocalNodeState}}").strip() == "memory inactive"
    assert cli.out("network", "ls", "--format", "{{.Name}}").strip() == "bridge"
    assert "172.30.0.1" in cli.out("network", "inspect", "bridge")
    cli("network", "create", "--subnet", "172.31.0.0/16", "--label", "a=b", "own")
    assert cli.out("network", "inspect", "-f", "{{.Labels}}", "own").strip() == "map[a:b]"
    cli("network", "rm", "own")
    assert cli.out("volume", "ls", "-q") == ""
    assert "Local Volumes" in cli.out("system", "df")
    cli("run", "-d", "--name", "busy", "busybox", "sleep", "100")
    assert (
        cli.out("stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}}", "busy").strip()
        == "busy 100.00%"
    )
    cli("kill", "busy")
    assert "Total reclaimed space" in cli.out("container", "prune", "-f")
    assert "not a swarm manager" in cli("node", "ls", code=1).stderr.decode()
    assert "is not supported" in cli("commit", "busy", code=1).stderr.decode()


# ---- docker-py


def test_docker_py_runs(client: docker.DockerClient) -> None:
    """run, with output and errors."""
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 2"], remove=True)
    assert caught.value.exit_status == 2
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nope")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nope")


def test_docker_py_lives_with_a_container(client: docker.DockerClient, engine: MemoryEngine) -> None:
    """Options reach the engine; exec, logs, stats, wait and remove work."""
    container = client.containers.run(
        "busybox", ["sh", "-c", "echo up; sleep 100"], detach=True, name="py", labels={"a": "b"}, mem_limit="64m",
        ports={"80/tcp": 8080}, environment={"X": "y"}, healthcheck={"test": ["CMD", "true"]},
        ulimits=[docker.types.Ulimit(name="nofile", soft=10, hard=20)],
    )  # fmt: skip
    (asked,) = engine.requests
    assert asked.host_config.memory == 64 << 20
    assert asked.host_config.port_bindings is not None
    assert asked.host_config.ulimits is not None and asked.host_config.ulimits[0].hard == 20
    assert asked.config.env == ["X=y"]
    assert container.exec_run(["sh", "-c", "echo in; exit 3"]) == (3, b"in\n")
    assert container.exec_run("echo tty", tty=True) == (0, b"tty\r\n")
    assert container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True) == (0, (b"o\n", b"e\n"))
    assert next(container.logs(stream=True, follow=True)) == b"up\n"
    assert container.stats(stream=False)["memory_stats"]["usage"] == 4096
    assert container.top()["Titles"] == ["PID", "CMD"]
    assert [each.name for each in client.containers.list(filters={"name": "py"})] == ["py"]
    container.kill()
    assert container.wait() == {"StatusCode": 137}
    container.remove()
    assert client.containers.list(all=True) == []


def test_docker_py_attaches_by_socket(client: docker.DockerClient) -> None:
    """A hijacked connection in docker-py's own way."""
    container = client.containers.create("busybox", ["cat"], stdin_open=True)
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    attached._sock.sendall(b"ping\n")
    assert attached._sock.recv(100)[8:] == b"ping\n"
    attached._sock.close()
    container.remove(force=True)


def test_docker_py_archives_and_events(client: docker.DockerClient, engine: MemoryEngine) -> None:
    """load, save, export, events."""
    client.images.load(b"x" * 300_000)
    assert len(engine.uploaded) == 300_000
    assert sum(map(len, client.images.get("busybox").save())) == 710_000
    container = client.containers.create("busybox", ["true"])
    assert sum(map(len, container.export())) > 200_000
    events = client.events(since=1, until=int(time.time()) + 1, decode=True)
    assert next(iter(events))["Action"] == "create"
    assert client.ping()
    assert client.df()["LayersSize"] == 7
    assert client.info()["ID"] == "memory"


def test_every_program_was_found() -> None:
    """A machine of ours has docker; where two are installed, both are held to the tests above."""
    assert PROGRAMS or os.environ.get("WHERRY_NO_PEERS") or shutil.which("docker")
