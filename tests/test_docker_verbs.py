"""The verbs of the real `docker` program beyond run, each as its user sees it."""

from __future__ import annotations

import json
import subprocess
import tarfile
import threading
from pathlib import Path

from wherry.testing.daemon import DOCKER, Daemon, eventually
from wherry.testing.images import busybox_tar


def test_create_start_stop_restart_rm(daemon: Daemon) -> None:
    name = daemon.ok(
        "create",
        "--name",
        "life",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' TERM; while true; do sleep 0.05; done",
    )
    assert daemon.inspect("life", "{{.State.Status}}") == "created"
    daemon.ok("start", "life")
    first = daemon.inspect("life", "{{.State.Pid}}")
    daemon.ok("restart", "-t", "5", "life")
    assert daemon.inspect("life", "{{.State.Pid}}") not in ("0", first)
    daemon.ok("stop", "-t", "5", "life")
    assert daemon.inspect("life", "{{.State.Status}} {{.State.ExitCode}}") == "exited 9"
    refused = daemon.docker("kill", "life")
    assert refused.returncode == 1
    assert "is not running" in refused.stderr
    daemon.ok("start", "life")
    refused = daemon.docker("rm", "life")
    assert refused.returncode == 1
    assert "stop the container before removing or force remove" in refused.stderr
    daemon.ok("rm", "-f", "life")
    assert daemon.docker("inspect", name).returncode == 1


def test_wait_gives_the_code(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "waited", "busybox", "sh", "-c", "sleep 0.3; exit 42")
    assert daemon.ok("wait", "waited") == "42"
    assert daemon.ok("wait", "waited") == "42"


def test_names_are_unique_and_renamed(daemon: Daemon) -> None:
    first = daemon.ok("create", "--name", "one", "busybox", "true")
    second = daemon.docker("create", "--name", "one", "busybox", "true")
    assert second.returncode == 1
    assert f'The container name "/one" is already in use by container "{first}"' in second.stderr
    daemon.ok("rename", "one", "two")
    assert daemon.inspect(first, "{{.Name}}") == "/two"
    daemon.ok("create", "--name", "one", "busybox", "true")


def test_ps_and_its_filters(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "up", "--label", "kind=a", "busybox", "sleep", "1000")
    daemon.ok("create", "--name", "made", "--label", "kind=b", "busybox", "true")
    daemon.docker("run", "--name", "done", "busybox", "sh", "-c", "exit 3")
    assert daemon.ok("ps", "--format", "{{.Names}}") == "up"
    assert set(daemon.ok("ps", "-a", "--format", "{{.Names}}").split()) == {"up", "made", "done"}
    assert daemon.ok("ps", "-a", "-f", "status=exited", "--format", "{{.Names}}") == "done"
    assert daemon.ok("ps", "-a", "-f", "exited=3", "--format", "{{.Names}}") == "done"
    assert daemon.ok("ps", "-a", "-f", "label=kind=b", "--format", "{{.Names}}") == "made"
    assert daemon.ok("ps", "-a", "-f", "name=^/up$", "--format", "{{.Names}}") == "up"
    assert "Exited (3)" in daemon.ok("ps", "-a", "-f", "name=done", "--format", "{{.Status}}")
    assert daemon.ok("ps", "-l", "--format", "{{.Names}}") == "done"


def test_logs_follow_tail_since_timestamps(daemon: Daemon) -> None:
    daemon.ok(
        "run",
        "--name",
        "talks",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2",
    )
    answer = daemon.docker("logs", "talks")
    assert (answer.stdout, answer.stderr) == ("".join(f"line {i}\n" for i in range(1, 6)), "bad\n")
    assert daemon.docker("logs", "--tail", "2", "talks").stdout == "line 5\n"
    stamped = daemon.docker("logs", "-t", "talks").stdout.splitlines()
    moments = [line.split()[0] for line in stamped]
    assert moments == sorted(set(moments))
    since = daemon.docker("logs", "--since", moments[3], "talks").stdout
    assert since == "line 4\nline 5\n"
    assert daemon.docker("logs", "--until", moments[1], "talks").stdout == "line 1\nline 2\n"


def test_logs_follow_to_the_end(daemon: Daemon) -> None:
    daemon.ok(
        "run",
        "-d",
        "--name",
        "followed",
        "busybox",
        "sh",
        "-c",
        "for i in $(seq 1 200); do echo $i; usleep 2000; done",
    )
    followed = daemon.ok("logs", "-f", "followed")
    assert [int(n) for n in followed.split()] == list(range(1, 201))


def test_exec(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "execs", "-e", "FROM=run", "busybox", "sleep", "1000")
    assert (
        daemon.ok("exec", "execs", "sh", "-c", "echo $FROM; hostname")
        == f"run\n{daemon.inspect('execs', '{{.Config.Hostname}}')}"
    )
    assert daemon.docker("exec", "-i", "execs", "cat", input="through\n").stdout == "through\n"
    assert daemon.docker("exec", "execs", "sh", "-c", "exit 5").returncode == 5
    missing = daemon.docker("exec", "execs", "no-such-program")
    assert missing.returncode == 127
    assert "executable file not found" in missing.stdout + missing.stderr
    assert daemon.ok(
        "exec", "-u", "99:98", "-w", "/tmp", "-e", "X=y", "execs", "sh", "-c", "id -u; id -g; pwd; echo $X"
    ).split() == ["99", "98", "/tmp", "y"]
    daemon.ok("pause", "execs")
    frozen = daemon.docker("exec", "execs", "true")
    assert frozen.returncode == 1
    assert "is paused" in frozen.stderr
    daemon.ok("unpause", "execs")
    daemon.ok("exec", "-d", "execs", "sh", "-c", "echo detached > /flag")
    eventually(lambda: daemon.docker("exec", "execs", "cat", "/flag").stdout == "detached\n")


def test_pause_stops_the_processes(daemon: Daemon) -> None:
    daemon.ok(
        "run", "-d", "--name", "frozen", "busybox", "sh", "-c", "while true; do echo x; usleep 1000; done"
    )
    daemon.ok("pause", "frozen")
    assert daemon.inspect("frozen", "{{.State.Status}}") == "paused"
    path = Path(daemon.inspect("frozen", "{{.LogPath}}"))
    size = path.stat().st_size
    again = daemon.docker("pause", "frozen")
    assert again.returncode == 1
    assert "already paused" in again.stderr
    assert path.stat().st_size == size
    daemon.ok("unpause", "frozen")
    eventually(lambda: path.stat().st_size > size, "the container goes on")
    daemon.ok("pause", "frozen")
    daemon.ok("kill", "frozen")
    eventually(lambda: daemon.inspect("frozen", "{{.State.Status}}") == "exited")


def test_top_and_stats(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--name", "busy", "busybox", "sh", "-c", "sleep 1234 & sleep 4321")
    shown = eventually(lambda: (s := daemon.ok("top", "busy")) and "4321" in s and s, "top shows both")
    assert "sleep 1234" in shown
    stats = json.loads(daemon.ok("stats", "--no-stream", "--format", "{{json .}}", "busy"))
    assert stats["Name"] == "busy"
    assert int(stats["PIDs"]) >= 2


def test_attach_gets_what_comes_after(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "-i", "--name", "attached", "busybox", "sh", "-c", "read x; echo got $x")
    answer = daemon.docker("attach", "attached", input="it\n")
    assert answer.stdout == "got it\n"


def test_events(daemon: Daemon) -> None:
    """Every action in its order, with the attributes that Docker sets."""
    with subprocess.Popen(
        [DOCKER, "events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"],
        env=daemon.client_environment, stdout=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        seen: list[str] = []
        assert watching.stdout is not None
        reader = threading.Thread(target=lambda: seen.extend(watching.stdout or ()))
        reader.start()
        eventually(
            lambda: (
                daemon.ok("create", "--name", "probe", "busybox", "true")
                and daemon.ok("rm", "probe")
                and seen
            )
        )
        daemon.ok("run", "--rm", "--name", "ev", "busybox", "true")
        eventually(lambda: any("destroy ev" in line for line in seen))
        watching.terminate()
        reader.join()
    actions = [line.split()[1] for line in seen if line.split()[-1] == "ev"]
    assert [a for a in actions if a != "attach"] == ["create", "start", "die", "destroy"]


def test_images(daemon: Daemon, tmp_path: Path) -> None:
    """import, images, tag, inspect, save, load, rmi."""
    archive = tmp_path / "fs.tar"
    archive.write_bytes(busybox_tar())
    identifier = daemon.ok(
        "import", "-c", "ENV A=b", "-c", 'CMD ["echo", "from image"]', str(archive), "mine:1"
    )
    assert identifier.startswith("sha256:")
    assert daemon.ok("run", "--rm", "mine:1") == "from image"
    daemon.ok("tag", "mine:1", "other/name:two")
    assert set(daemon.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "--no-trunc").split()) >= {
        "mine:1",
        "other/name:two",
    }
    assert daemon.ok("image", "inspect", "--format", "{{.Config.Env}}", "mine:1") == "[A=b]"
    saved = tmp_path / "saved.tar"
    daemon.ok("save", "-o", str(saved), "mine:1")
    assert "Untagged: mine:1" in daemon.ok("rmi", "mine:1")
    assert "Deleted: sha256:" in daemon.ok("rmi", "other/name:two")
    assert daemon.docker("image", "inspect", "mine:1").returncode == 1
    assert "Loaded image: mine:1" in daemon.ok("load", "-i", str(saved))
    assert daemon.ok("run", "--rm", "mine:1") == "from image"
    used = daemon.ok("create", "mine:1")
    refused = daemon.docker("rmi", "mine:1")
    assert refused.returncode == 1
    assert "conflict: unable to remove repository reference" in refused.stderr
    daemon.ok("rm", used)
    daemon.ok("rmi", "mine:1")


def test_an_oci_layout_is_loaded(daemon: Daemon, tmp_path: Path) -> None:
    """What skopeo writes as an OCI layout is loaded and runs."""
    saved, layout = tmp_path / "saved.tar", tmp_path / "layout"
    daemon.ok("save", "-o", str(saved), "busybox")
    subprocess.run(
        ["skopeo", "copy", "--insecure-policy", "-q", f"docker-archive:{saved}", f"oci:{layout}:elsewhere:9"],
        check=True,
        capture_output=True,
    )
    packed = tmp_path / "layout.tar"
    subprocess.run(["tar", "-C", str(layout), "-cf", str(packed), "."], check=True)
    daemon.ok("load", "-i", str(packed))
    assert daemon.ok("run", "--rm", "elsewhere:9", "echo", "from oci") == "from oci"
    daemon.ok("rmi", "elsewhere:9")


def test_volumes_and_binds(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("on the host\n")
    assert (
        daemon.ok("run", "--rm", "-v", f"{tmp_path}:/host:ro", "busybox", "cat", "/host/there")
        == "on the host"
    )
    assert (
        daemon.docker("run", "--rm", "-v", f"{tmp_path}:/host:ro", "busybox", "touch", "/host/x").returncode
        == 1
    )
    daemon.ok("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo v > /data/f")
    assert daemon.ok("run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/f") == "v"
    assert "size=1024k" in daemon.ok("run", "--rm", "--tmpfs", "/t:size=1m", "busybox", "mount")
    missing = daemon.docker(
        "run", "--rm", "--mount", "type=bind,source=/no/such,target=/x", "busybox", "true"
    )
    assert missing.returncode == 125
    assert "bind source path does not exist" in missing.stderr


def test_export_of_a_running_container(daemon: Daemon, tmp_path: Path) -> None:
    """The whole root file system, and nothing of what is mounted on it."""
    daemon.ok("run", "-d", "--name", "exported", "busybox", "sh", "-c", "echo mine > /file; sleep 1000")
    eventually(lambda: daemon.docker("exec", "exported", "cat", "/file").stdout == "mine\n")
    daemon.ok("export", "-o", str(tmp_path / "all.tar"), "exported")
    with tarfile.open(tmp_path / "all.tar") as archive:
        names = set(archive.getnames())
        content = archive.extractfile("file")
        assert content is not None and content.read() == b"mine\n"
    assert {"bin/busybox", "etc/passwd", "proc"} <= names
    assert not [name for name in names if name.startswith(("proc/", "sys/"))]


def test_info_and_version(daemon: Daemon) -> None:
    info = json.loads(daemon.ok("info", "--format", "{{json .}}"))
    assert info["Driver"] in ("overlay2", "vfs")
    assert "native" in info["Runtimes"]
    assert info["DefaultRuntime"] == "native"
    assert info["LoggingDriver"] == "json-file"
    assert json.loads(daemon.ok("version", "--format", "{{json .Server}}"))["Os"] == "linux"


def test_restart_policy(daemon: Daemon) -> None:
    """on-failure:2 runs three times; always comes back after a crash of its process, not after a stop."""
    daemon.ok(
        "run", "-d", "--name", "fails", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo ran; exit 1"
    )
    eventually(lambda: daemon.inspect("fails", "{{.State.Status}} {{.RestartCount}}") == "exited 2")
    assert daemon.ok("logs", "fails").split() == ["ran"] * 3
    daemon.ok("run", "-d", "--name", "back", "--restart", "always", "busybox", "sleep", "1000")
    pid = daemon.inspect("back", "{{.State.Pid}}")
    subprocess.run(["kill", "-9", pid], check=True)
    eventually(
        lambda: (
            daemon.inspect("back", "{{.State.Running}}") == "true"
            and daemon.inspect("back", "{{.State.Pid}}") not in ("0", pid)
        )
    )
    daemon.ok("stop", "-t", "0", "back")
    assert daemon.inspect("back", "{{.State.Status}}") == "exited"


def test_removal_races_answer_rightly(daemon: Daemon) -> None:
    """Eight clients create, run and remove at once: no error, nothing left."""

    def client(number: int) -> None:
        for turn in range(5):
            answer = daemon.docker("run", "--rm", "--name", f"r{number}-{turn}", "busybox", "echo", str(turn))
            outcomes.append((answer.returncode, answer.stdout.strip() == str(turn), answer.stderr))

    outcomes: list[tuple[int, bool, str]] = []
    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [(0, True, "")] * 40
    eventually(lambda: daemon.ok("ps", "-aq") == "")
