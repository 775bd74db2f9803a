"""What `docker stats` is made of: the API's samples, and the same container on Debian's dockerd beside them."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import daemons, enclosure

from wherry.testing.cgroups import VERSION
from wherry.testing.daemon import Daemon, eventually

BUSY = ("sh", "-c", "dd if=/dev/zero of=/f bs=1M count=8 2>/dev/null; while :; do :; done")


def sample(address: Path, query: str) -> dict[str, Any]:
    """The first sample of the container `busy`."""
    client = http.client.HTTPConnection("localhost")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.settimeout(60)
    client.sock.connect(str(address))
    client.request("GET", f"/v1.41/containers/busy/stats?{query}")
    found = json.loads(client.getresponse().readline())
    client.close()
    assert isinstance(found, dict)
    return found


@pytest.fixture
def busy(daemon: Daemon) -> Path:
    """A daemon's socket with a container that works, limited to 64 MiB."""
    daemon.ok("run", "-d", "--name", "busy", "-m", "64m", "--pids-limit", "77", "busybox", *BUSY)
    return daemon.root / "sock"


def test_two_samples_make_a_share(busy: Path) -> None:
    """Without a stream, the sample before is there; both count up, and the machine's time with them."""
    found = sample(busy, "stream=false")
    now, before = found["cpu_stats"], found["precpu_stats"]
    assert now["cpu_usage"]["total_usage"] > before["cpu_usage"]["total_usage"] > 0
    assert now["system_cpu_usage"] > before["system_cpu_usage"] > 0
    assert now["online_cpus"] == before["online_cpus"] >= 1
    assert found["read"] > found["preread"] > "2000"


@pytest.mark.parametrize("query", ["stream=false&one-shot=true", "stream=true"])
def test_the_first_sample(busy: Path, query: str) -> None:
    """There is none before it, and it says so: zeros, and no time of the machine's to divide by."""
    found = sample(busy, query)
    assert found["preread"] == "0001-01-01T00:00:00Z"
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert "system_cpu_usage" not in found["precpu_stats"]
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_what_clients_subtract(busy: Path) -> None:
    """docker shows memory without the file pages that nobody uses: under the key of this version of cgroups."""
    found = sample(busy, "stream=false&one-shot=true")
    memory = found["memory_stats"]
    key = "total_inactive_file" if VERSION == 1 else "inactive_file"
    assert 0 <= memory["stats"][key] <= memory["usage"] <= memory["limit"] == 64 << 20
    assert (found["pids_stats"]["current"] >= 1, found["pids_stats"]["limit"]) == (True, 77)
    assert found["networks"]["eth0"].keys() == {
        f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")
    }


def test_nothing_of_the_host(daemon: Daemon) -> None:
    """In the host's network a container has no interfaces of its own; one that does not run has no numbers."""
    daemon.ok("run", "-d", "--name", "busy", "--network", "host", "busybox", "sleep", "1000")
    assert "networks" not in sample(daemon.root / "sock", "stream=false&one-shot=true")
    daemon.ok("kill", "busy")
    found = sample(daemon.root / "sock", "stream=false")
    assert (found["read"], found["memory_stats"]) == ("0001-01-01T00:00:00Z", {})


@pytest.fixture
def dockerd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[daemons.Dockerd]:
    for module in (daemons, enclosure):
        monkeypatch.setattr(module, "CGROUP", "wherry-test-dockerd")
    peer = daemons.Dockerd(name="dockerd", root=tmp_path / "dockerd")
    try:
        peer.begin()
    except daemons.PeerMissing as missing:
        if os.environ.get("WHERRY_NO_PEERS"):
            pytest.skip(str(missing))
        raise
    yield peer
    peer.clear()
    peer.close()
    eventually(
        lambda: enclosure.remove_cgroups() or not list(Path("/sys/fs/cgroup").glob("**/wherry-test-dockerd"))
    )


def shape(value: Any, path: str = "") -> dict[str, str]:
    """Every path in a JSON value → the type there."""
    if isinstance(value, dict):
        return {
            key: kind for name, each in value.items() for key, kind in shape(each, f"{path}.{name}").items()
        }
    return {path: type(value).__name__}


def test_the_shape_of_dockerds(busy: Path, dockerd: daemons.Dockerd) -> None:
    """Every field that dockerd has for such a container is there, of the same type. The kernel's other words are extra."""
    dockerd.docker("run", "-d", "--name", "busy", "-m", "64m", "--pids-limit", "77", "busybox", *BUSY)
    for query in ("stream=false", "stream=false&one-shot=true"):
        theirs, ours = shape(sample(dockerd.address, query)), shape(sample(busy, query))
        if VERSION == 2:  # dockerd leaves operations out there, and tables that it has not are null
            theirs, ours = ({k: v for k, v in each.items() if "blkio" not in k} for each in (theirs, ours))
        assert {path: ours.get(path) for path in theirs} == theirs
        extra = {path for path in ours.keys() - theirs.keys() if not path.startswith(".memory_stats")}
        assert extra == set()


def test_info_as_dockerds(daemon: Daemon, dockerd: daemons.Dockerd) -> None:
    """What this kernel can limit, both see alike."""
    words = "MemoryLimit SwapLimit CPUCfsPeriod CPUCfsQuota CPUShares CPUSet PidsLimit OomKillDisable CgroupVersion NCPU MemTotal"
    template = " ".join(f"{{{{.{word}}}}}" for word in words.split())
    assert daemon.ok("info", "--format", template) == dockerd.docker("info", "--format", template)
