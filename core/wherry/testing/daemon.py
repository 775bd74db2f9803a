"""Real daemons for tests: each in a network namespace, roots and a cgroup subtree of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.linux import cgroups
from wherry.testing.images import busybox_tar

WHERRY = Path(sys.executable).with_name("wherry")
DOCKERS = [path for path in ("/usr/local/bin/docker", "/usr/bin/docker") if Path(path).exists()]
DOCKER = DOCKERS[0] if DOCKERS else "docker"


def eventually(condition: Callable[[], Any], what: str = "the condition", timeout: float = 20.0) -> Any:
    """Poll until `condition()` is true and answer it; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not hold within {timeout} s"
        time.sleep(0.01)


_LOOPBACK_UP = "ip link set lo up && echo up && exec sleep infinity"
_ETC_COVERED = "mount -t overlay overlay -o lowerdir=/etc,upperdir=$0/upper,workdir=$0/work /etc"


@dataclass
class NetworkNamespace:
    """A network namespace with its loopback up, kept by a process that sleeps."""

    holder: subprocess.Popen[bytes]
    etc: Path | None = None
    """What programs inside see and write below /etc instead of the host's; then their mounts are their own, too."""

    @classmethod
    def make(cls, etc: Mapping[str, str] | None = None) -> NetworkNamespace:
        """With `etc`, programs inside see these files of /etc (name → text) over the host's."""
        if etc is None:
            argv, directory = ["unshare", "-n", "sh", "-c", _LOOPBACK_UP], None
        else:
            directory = Path(tempfile.mkdtemp(prefix="wherry-test-etc-", dir="/var/tmp"))
            for name in ("upper", "work"):
                (directory / name).mkdir()
            for name, text in etc.items():
                (directory / "upper" / name).write_text(text)
            script = f"{_ETC_COVERED} && {_LOOPBACK_UP}"
            argv = ["unshare", "-n", "-m", "--propagation", "slave", "sh", "-c", script, str(directory)]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert holder.stdout is not None and holder.stdout.readline() == b"up\n"
        return cls(holder, directory)

    @property
    def prefix(self) -> list[str]:
        """What to put before a command to run it inside."""
        kinds = ("net",) if self.etc is None else ("net", "mnt")
        names = {"net": "net", "mnt": "mount"}
        return ["nsenter", *(f"--{names[kind]}=/proc/{self.holder.pid}/ns/{kind}" for kind in kinds)]

    def run(self, *argv: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        keywords = {"capture_output": True, "text": True, "timeout": 30, **keywords}
        return subprocess.run([*self.prefix, *argv], check=False, **keywords)

    def fetch(self, url: str, timeout: float = 3.0) -> str:
        """The body at `url` as a program inside sees it; "" if there is none."""
        script = (
            "import sys, urllib.request as r\n"
            "o = r.build_opener(r.ProxyHandler({}))\n"
            "try: print(o.open(sys.argv[1], timeout=float(sys.argv[2])).read().decode(), end='')\n"
            "except OSError: pass"
        )
        return str(self.run(sys.executable, "-c", script, url, str(timeout)).stdout)

    def mount_table(self) -> str:
        """What is mounted for those inside; for all, once it is closed: another daemon may have had it as well."""
        alive = self.holder.poll() is None
        return Path(f"/proc/{self.holder.pid if alive else 'self'}/mountinfo").read_text()

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()
        if self.etc is not None:
            shutil.rmtree(self.etc, ignore_errors=True)


@dataclass
class Daemon:
    """A wherry daemon on its own roots, to be started, killed and started again."""

    root: Path
    net: NetworkNamespace
    flags: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    program: Path = WHERRY

    @property
    def bridge(self) -> str:
        """A name for the bridge that stays the same from start to start."""
        return f"wt{zlib.crc32(str(self.root).encode()):08x}"

    @property
    def host(self) -> str:
        return f"unix://{self.root}/sock"

    @property
    def log(self) -> str:
        return (self.root / "daemon.log").read_text()

    @property
    def engine_id(self) -> str:
        return (self.root / "data" / "engine-id").read_text().strip()

    def start(self, *flags: str) -> Daemon:
        """Start it and wait until it answers."""
        with (self.root / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.net.prefix, str(self.program), "daemon",
                    "-H", self.host,
                    "--data-root", str(self.root / "data"),
                    "--exec-root", str(self.root / "exec"),
                    "--pidfile", str(self.root / "pid"),
                    "--bridge", self.bridge,
                    *self.flags, *flags,
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self.environment},
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while self.docker("version", "--format", "{{.Server.Version}}").returncode:
            assert self.process.poll() is None, f"the daemon ended: {self.log[-4000:]}"
            assert time.monotonic() < deadline, f"the daemon does not answer: {self.log[-4000:]}"
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    @property
    def pid(self) -> int:
        """The daemon's own pid (nsenter executes it, so it is the child's)."""
        assert self.process is not None
        return self.process.pid

    def docker(self, *argv: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        """Run the docker program against it."""
        keywords = {"capture_output": True, "text": True, "timeout": 60, **keywords}
        if "input" not in keywords and "stdin" not in keywords:
            keywords["stdin"] = subprocess.DEVNULL
        return subprocess.run([DOCKER, *argv], check=False, env=self.client_environment, **keywords)

    def wherry(self, *argv: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        """Run the wherry program against it."""
        keywords = {"capture_output": True, "text": True, "timeout": 60, **keywords}
        return subprocess.run([str(WHERRY), *argv], check=False, env=self.client_environment, **keywords)

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request of the API as no client has it: (status, decoded answer). `path` begins with the version."""
        client = http.client.HTTPConnection("localhost", timeout=60)
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.settimeout(60)
        with contextlib.closing(client):
            client.sock.connect(str(self.root / "sock"))
            content = None if body is None else json.dumps(body)
            client.request(method, path, content, {"Content-Type": "application/json"})
            answer = client.getresponse()
            text = answer.read().decode()
        return answer.status, json.loads(text) if text.strip() else None

    @property
    def client_environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.root / "client")}

    def ok(self, *argv: str, **keywords: Any) -> str:
        """The docker program's output; fails unless it succeeded."""
        answer = self.docker(*argv, **keywords)
        assert answer.returncode == 0, f"docker {' '.join(argv)}: {answer.stderr}\n{self.log[-3000:]}"
        return str(answer.stdout).strip()

    def inside(self, flags: Sequence[str], script: str, image: str = "busybox") -> str:
        """What a shell in a container with these flags of `docker run` says, errors too; that the container starts."""
        return self.ok(
            "run", "--rm", "--network", "none", *flags, image, "sh", "-c", f"exec 2>&1; {script}; true"
        )

    def inside_by_api(self, script: str, version: str = "1.44", **host_config: Any) -> str:
        """As `inside`, by a client that speaks this version of the API and sends these members of a HostConfig."""
        import docker  # type: ignore[import-untyped]  # of the tests' needs, not of this package's

        client = docker.APIClient(self.host, version=version)
        try:
            config = {
                "Image": "busybox",
                "Cmd": ["sh", "-c", f"exec 2>&1; {script}; true"],
                "HostConfig": {"NetworkMode": "none", **host_config},
            }
            made = client.create_container_from_config(config)["Id"]
            client.start(made)
            client.wait(made)
            return str(client.logs(made).decode().strip())
        finally:
            client.close()

    def image(self, name: str = "busybox") -> None:
        """Make the image that tests run."""
        subprocess.run(
            [DOCKER, "import", "-c", 'CMD ["sh"]', "-", name],
            input=busybox_tar(), check=True, env=self.client_environment, capture_output=True,
        )  # fmt: skip

    def inspect(self, name: str, template: str) -> str:
        return self.ok("inspect", "--format", template, name)

    def close(self) -> None:
        """Remove every container, end the daemon, and check that nothing of it is left."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                names = self.docker("ps", "-aq").stdout.split()
                if names:
                    self.docker("rm", "-f", "-v", *names)
            self.stop()
        elif self.process is not None:
            self._end_containers()

    def _end_containers(self) -> None:
        """A test that failed while its daemon was dead leaves containers that run for ever: end them, and so their keepers."""
        if not (self.root / "data" / "engine-id").exists():
            return  # it never began
        parent = f"/wherry-{self.engine_id}/containers"
        for name in cgroups.children(parent):
            group = cgroups.at(f"{parent}/{name}")
            group.kill()
            group.remove()


def leftovers(daemon: Daemon) -> list[str]:
    """Kernel objects and processes of a daemon that still exist; empty when it has cleaned up."""
    found = [
        line.split()[4]
        for line in daemon.net.mount_table().splitlines()
        if line.split()[4].startswith(str(daemon.root))
    ]
    engine_id = daemon.engine_id
    for top in Path("/sys/fs/cgroup").iterdir():
        for path in (top, *(top.iterdir() if top.is_dir() else ())):
            if path.name == f"wherry-{engine_id}" and any((path / "containers").glob("*/")):
                found += [str(p) for p in (path / "containers").iterdir() if p.is_dir()]
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(daemon.root) in words:
                    found.append(f"process {process.name}: {words}")
    return found
