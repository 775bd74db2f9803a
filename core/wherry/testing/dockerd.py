"""A real dockerd to compare with, in a network, mount and pid namespace of its own: what it leaves behind ends with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wherry.testing.daemon import DOCKER
from wherry.testing.images import busybox_tar

_INSIDE: Final = """
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
"$@" &
wait $!
"""  # a shell that stays: the first of a pid namespace has to reap


@dataclass
class Dockerd:
    """Debian's dockerd below `root`, with the image busybox that our daemons have in tests."""

    root: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def cgroup(self) -> str:
        """The name of the cgroup, in each hierarchy, that its containers' are in."""
        return f"wherry-test-{self.root.name}-{os.getpid()}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.root}/docker.sock",
            "DOCKER_CONFIG": str(self.root / "client"),
        }

    def start(self) -> Dockerd:
        """Start it and give it the image. AssertionError with the end of its log if it does not answer."""
        program = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin")
        assert program is not None, "dockerd is not installed: make setup-test"
        self.root.mkdir(parents=True)
        (self.root / "daemon.json").write_text("{}")
        argv = [
            program, "--host", f"unix://{self.root}/docker.sock", "--data-root", str(self.root / "data"),
            "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid", "--storage-driver", "overlay2",
            "--cgroup-parent", f"/{self.cgroup}", "--config-file", str(self.root / "daemon.json"), "--log-level", "warn",
        ]  # fmt: skip
        with (self.root / "daemon.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL", "--",
                    "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
                    "sh", "-ec", _INSIDE, "sh", *argv,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while self.docker("version").returncode:
            tail = (self.root / "daemon.log").read_text(errors="replace")[-2000:]
            assert self.process.poll() is None and time.monotonic() < deadline, f"no dockerd: {tail}"
            time.sleep(0.05)
        subprocess.run(
            [DOCKER, "import", "-c", 'CMD ["sh"]', "-", "busybox"],
            input=busybox_tar(), check=True, env=self.environment, capture_output=True,
        )  # fmt: skip
        return self

    def docker(self, *argv: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        """Run the docker program against it."""
        keywords = {"capture_output": True, "text": True, "timeout": 60, **keywords}
        return subprocess.run(
            [DOCKER, *argv], check=False, env=self.environment, stdin=subprocess.DEVNULL, **keywords
        )

    def ok(self, *argv: str) -> str:
        """The docker program's output; fails unless it succeeded."""
        answer = self.docker(*argv)
        assert answer.returncode == 0, f"docker {' '.join(argv)} on dockerd: {answer.stderr}"
        return str(answer.stdout).strip()

    def close(self) -> None:
        """Remove its containers and end it, with all that lives in its namespaces; remove its cgroups and files."""
        if self.process is None:
            return
        if self.process.poll() is None and (names := self.docker("ps", "-aq").stdout.split()):
            self.docker("rm", "-f", "-v", *names)
        self.process.kill()
        self.process.wait()
        for top in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            for directory, _, _ in os.walk(top / self.cgroup, topdown=False):
                # Its last processes may be on their way out still.
                deadline = time.monotonic() + 10
                while not _removed(directory) and time.monotonic() < deadline:
                    time.sleep(0.01)
        shutil.rmtree(self.root, ignore_errors=True)


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
