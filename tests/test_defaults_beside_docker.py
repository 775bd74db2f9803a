"""What a container finds itself with, beside what Debian's dockerd gives it: same image, same flags, same run of the tests.

`OURS` and `THEIRS` list where we differ on purpose; anything else that differs fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

import pytest
from bench.daemons import Dockerd
from bench.enclosure import remove_cgroups

from wherry.testing.daemon import Daemon

PROBE: Final = r"""
echo "pwd $(pwd)"; echo "umask $(umask)"
grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status | tr -d ' ' | tr '\t' ' '
echo "oom_score_adj $(cat /proc/self/oom_score_adj)"
for s in net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start kernel/domainname; do
  echo "sysctl $s $(cat /proc/sys/$s)"; done
env | sed 's/^/env /'
ls -ln /dev | awk 'NR > 1 && $1 ~ /^[bcdl]/ { name = $0; sub(/.* [0-9]+:[0-9]+ /, "", name);
  print "dev", $1, $3, $4, ($1 ~ /^[bc]/ ? $5 $6 : ""), name }'
sed 's/^/mount /' /proc/self/mountinfo
ulimit -a | sed 's/^/limit /'
cat /proc/self/cgroup | sed 's/^/cgroup /'
for f in /proc/kcore /proc/keys /proc/timer_list /sys/firmware /proc/sys/kernel/core_pattern; do
  echo "write $f $( (echo >>$f) 2>&1 | sed 's/.*: //')"; done
"""

# Not --privileged: where the machine lacks a capability, as CAP_SYS_RESOURCE here, dockerd gives none.
FLAGS: Final = {
    "default": (),
    "terminal": ("-t",),
    "user": ("--user", "1000:1000"),
    "read-only": ("--read-only",),
    "host network": ("--network", "host"),
    "no network": ("--network", "none"),
    "host pids": ("--pid", "host"),
}

# Where we differ on purpose: what a line looks like → why. Whatever else differs fails.
OURS: Final = {
    r"limit open files .* 1024": "a soft limit of our own, not the daemon's: programs that close every descriptor take no minutes",
    r"mount /proc/interrupts .*": "masked by newer Dockers, too: moby 27",
    r"mount (/sys|/proc/\w+|/sys/firmware) \w+ \w+ \S* \S*\bro rw": "the mount is read-only, not its file system",
    r"mount /sys/fs/cgroup tmpfs cgroup .*\bro mode=755,rw": "read-only as a whole",
}
THEIRS: Final = {
    r"limit open files .*": "what dockerd was started with",
    r"mount (/sys|/proc/\w+|/sys/firmware) \w+ \w+ \S* \S*\bro ro": "the mount is read-only, not its file system",
    r"mount /sys/fs/cgroup tmpfs tmpfs .*\brw mode=755,rw": "read-only as a whole",
    r"mount /sys/fs/cgroup/systemd .*": "a hierarchy without controllers limits nothing: it is not shown",
}


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    if os.environ.get("WHERRY_NO_PEERS") == "1":
        pytest.skip("WHERRY_NO_PEERS: there is no dockerd to compare with")
    peer = Dockerd(name="dockerd", root=tmp_path_factory.mktemp("dockerd") / "root")
    try:
        peer.begin()
        yield peer
        peer.clear()
    finally:
        peer.close()
        remove_cgroups()


def seen(output: str) -> set[str]:
    """What was printed, without what is a container's own: ids, numbers of devices, sizes."""
    lines = set()
    for line in output.replace("\r", "").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "mount":
            before, _, after = rest.partition(" - ")
            words = before.split()
            system, source, options = after.split(" ", 2)
            root = "" if system in ("ext4", "overlay", "xfs", "tmpfs", "btrfs") else words[3]
            kept = sorted(
                o for o in options.split(",")
                if not re.match(r"lowerdir|upperdir|workdir|size|nr_inodes|inode64|redirect|index|xino|uuid|metacopy", o)
            )  # fmt: skip
            source = "" if system in ("ext4", "overlay") else source
            root = "" if system == "cgroup" else root
            flags = ",".join(sorted(words[5].split(",")))
            lines.add(f"mount {words[4]} {system} {source} {root} {flags} {','.join(kept)}")
        elif kind == "env" and rest.startswith("HOSTNAME="):
            lines.add(f"env HOSTNAME={re.sub('[0-9a-f]{12}', 'ID', rest[9:])}")
        elif kind == "cgroup":
            lines.add(re.sub(r"[0-9a-f]{64}", "ID", line))
        else:
            lines.add(line)
    return lines


def compare(ours: str, theirs: str) -> None:
    """Equal, but for what is meant to differ."""
    left, right = seen(ours), seen(theirs)
    unexplained = [f"ours: {line}" for line in sorted(left - right) if not known(line, OURS)]
    unexplained += [f"theirs: {line}" for line in sorted(right - left) if not known(line, THEIRS)]
    assert unexplained == []


def known(line: str, table: dict[str, str]) -> bool:
    return any(re.fullmatch(pattern, line) for pattern in table)


@pytest.mark.parametrize("flags", [pytest.param(f, id=name) for name, f in FLAGS.items()])
def test_run(daemon: Daemon, dockerd: Dockerd, flags: tuple[str, ...]) -> None:
    """Capabilities, seccomp, ids, groups, devices, links, mounts, environment, sysctls, limits, umask, cgroups: the same
    as Docker's. (It has the host's cgroup namespace on version 1 where nobody asks; both are asked for a private one.)"""
    argv = ("run", "--rm", "--cgroupns", "private", *flags, "busybox", "sh", "-c", PROBE)
    compare(daemon.ok(*argv), dockerd.docker(*argv))


@pytest.mark.parametrize("flags", [(), ("--user", "1000:29"), ("--env", "A=b", "--workdir", "/tmp")], ids=str)
def test_exec(daemon: Daemon, dockerd: Dockerd, flags: tuple[str, ...]) -> None:
    """What an exec finds itself with."""
    argv = ("run", "-d", "--cgroupns", "private", "busybox", "sleep", "1000")
    ours, theirs = daemon.ok(*argv), dockerd.docker(*argv)
    compare(
        daemon.ok("exec", *flags, ours, "sh", "-c", PROBE),
        dockerd.docker("exec", *flags, theirs, "sh", "-c", PROBE),
    )
