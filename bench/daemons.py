"""The two daemons that are compared, each with its own roots, namespaces and socket, and one client for both."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.enclosure import CGROUP, Enclosure
from wherry.testing.images import busybox_tar

CLIENT: Final = shutil.which("docker") or "docker"
PATIENCE: Final = 60.0
"""Seconds that a daemon gets to answer for the first time."""


class PeerMissing(Exception):
    """A program that we compare with is not installed."""


@dataclass(kw_only=True)
class Daemon:
    """A daemon that speaks Docker's API, running."""

    name: str
    root: Path
    enclosure: Enclosure | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> Path:
        return self.root / "docker.sock"

    def argv(self) -> list[str]:
        raise NotImplementedError

    def begin(self) -> float:
        """Start it, wait until it answers, and give it the image; answers the seconds until it answered."""
        self.root.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.address}",
            "DOCKER_CONFIG": str(self.root / "client"),
        }
        started = time.perf_counter()
        with (self.root / "daemon.log").open("w") as log:
            self.enclosure = Enclosure.start(self.argv(), output=log)
        while not self._answers():
            if self.enclosure.process.poll() is not None or time.perf_counter() - started > PATIENCE:
                raise RuntimeError(f"{self.name} does not answer; the end of its log:\n{self.tail()}")
            time.sleep(0.005)
        ready = time.perf_counter() - started
        self.docker("import", "--change", 'CMD ["sh"]', "-", "busybox", data=busybox_tar())
        return ready

    def _answers(self) -> bool:
        # One request on the socket itself, so that polling costs neither side much.
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(self.address))
                client.sendall(b"GET /_ping HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                return b" 200 " in client.recv(4096)
        except OSError:
            return False

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join((self.root / "daemon.log").read_text(errors="replace").splitlines()[-20:])

    def docker(self, *argv: str, data: bytes | None = None) -> str:
        """Run the client; RuntimeError with its words if it fails."""
        done = subprocess.run(
            [CLIENT, *argv],
            env=self.environment,
            input=data or b"",
            capture_output=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"docker {' '.join(argv[:3])} on {self.name}: {done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout.decode().strip()

    def timed(self, *argv: str) -> float:
        """Seconds that the client took."""
        started = time.perf_counter()
        self.docker(*argv)
        return time.perf_counter() - started

    def clear(self) -> None:
        """Remove every container."""
        if names := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", "-v", *names)

    def close(self) -> None:
        if self.enclosure is not None:
            self.enclosure.close()


class Wherry(Daemon):
    """This tree's daemon."""

    def argv(self) -> list[str]:
        return [
            str(Path(sys.executable).with_name("wherry")), "daemon",
            "--host", f"unix://{self.address}",
            "--data-root", str(self.root / "data"),
            "--exec-root", "/run/wherry-bench",
            "--pidfile", "/run/wherry-bench.pid",
            "--bridge", "wherry-bench0",
            "--cgroup-parent", f"/{CGROUP}/wherry",
            "--log-level", "warning",
        ]  # fmt: skip


class Dockerd(Daemon):
    """Debian's dockerd with a containerd of its own. Its storage driver is overlay2, as ours."""

    def argv(self) -> list[str]:
        program = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise PeerMissing("dockerd is not installed: apt-get install docker.io (`make setup-test`)")
        return [
            program,
            "--host", f"unix://{self.address}",
            "--data-root", str(self.root / "data"),
            "--exec-root", "/run/dockerd-bench",
            "--pidfile", "/run/dockerd-bench.pid",
            "--storage-driver", "overlay2",
            "--cgroup-parent", f"/{CGROUP}/dockerd",
            "--config-file", str(self._empty_configuration()),
            "--log-level", "warn",
        ]  # fmt: skip

    def _empty_configuration(self) -> Path:
        path = self.root / "daemon.json"
        path.write_text("{}")
        return path
