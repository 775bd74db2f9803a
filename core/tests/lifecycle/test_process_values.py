"""From configuration to a process: capabilities, limits, security options, sysctls, devices."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidRequest, NotFound
from wherry.lifecycle import capability_sets, device_nodes, labels, reach, security, sysctls, ulimits
from wherry.lifecycle.security import Security
from wherry.linux import limits, security_modules
from wherry.linux.capabilities import DEFAULT
from wherry.spec.command import Device, DeviceRule, Rlimit, Seccomp
from wherry.spec.container import DeviceMapping, DeviceRequest, HostConfig, Ulimit


# ---- capabilities
@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        ([], [], "CAP_CHOWN", "CAP_SYS_ADMIN"),
        (["sys_admin"], [], "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"),
        ([], ["CAP_CHOWN"], "CAP_KILL", "CAP_CHOWN"),
        (["ALL"], ["mknod"], "CAP_SYS_PTRACE", "CAP_MKNOD"),
        (["net_admin"], ["all"], "CAP_NET_ADMIN", "CAP_CHOWN"),
    ],
)
def test_capabilities(add: list[str], drop: list[str], has: str, lacks: str) -> None:
    kept = capability_sets.kept(False, add, drop)
    assert has in kept
    assert lacks not in kept


def test_default_and_unknown_capabilities() -> None:
    assert set(capability_sets.kept(False, None, None)) == set(DEFAULT)
    assert capability_sets.kept(True, ["chown"], ["ALL"]) == reach.available()
    with pytest.raises(InvalidRequest, match='invalid CapAdd: unknown capability: "CAP_NONSENSE"'):
        capability_sets.kept(False, ["nonsense"], None)
    with pytest.raises(InvalidRequest, match='invalid CapDrop: unknown capability: "CAP_NONSENSE"'):
        capability_sets.kept(True, None, ["nonsense"])


def test_what_the_engine_lacks_it_cannot_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """A capability that the engine does not have is refused to who adds it, and is in no other set."""
    monkeypatch.setattr(reach, "available", lambda: ("CAP_CHOWN", "CAP_KILL", "CAP_SYS_TIME"))
    with pytest.raises(InvalidRequest, match=r'not available in the current environment: "CAP_SYS_RESOURCE"'):
        capability_sets.kept(False, ["sys_resource"], None)
    assert capability_sets.kept(False, None, ["sys_resource"]) == ("CAP_CHOWN", "CAP_KILL")
    assert capability_sets.kept(False, ["ALL"], ["KILL"]) == ("CAP_CHOWN", "CAP_SYS_TIME")


# ---- limits
def by_name(found: tuple[Rlimit, ...]) -> dict[str, tuple[int, int]]:
    assert len({limit.name for limit in found}) == len(found)
    return {limit.name: (limit.soft, limit.hard) for limit in found}


def test_every_limit_is_decided() -> None:
    """None of the kernel's limits is left to be inherited, and the number of open files is a sane one."""
    found = by_name(ulimits.settle(None, ()))
    assert found.keys() == limits.NUMBERS.keys()
    assert found["nofile"] == (
        1024,
        min(524_288, hard) if (hard := reach.hard_limit("nofile")) >= 0 else 524_288,
    )
    assert found["core"][0] == 0


def test_limits_of_container_over_daemon_over_usual() -> None:
    found = by_name(
        ulimits.settle(
            [Ulimit(name="nofile", soft=1, hard=2)],
            [Rlimit(name="nofile", soft=5, hard=5), Rlimit(name="fsize", soft=7, hard=9)],
        )
    )
    assert (found["nofile"], found["fsize"], found["stack"]) == ((1, 2), (7, 9), (8 << 20, -1))


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Ulimit(name="bogus"), "invalid ulimit type: bogus"),
        (Ulimit(name="as", soft=1, hard=1), "invalid ulimit type: as"),
        (Ulimit(name="nofile", soft=3, hard=2), "soft limit 3"),
        (Ulimit(name="nofile", soft=-1, hard=2), "soft limit -1"),
        (Ulimit(name="nofile", soft=-2, hard=-2), "nothing is less"),
    ],
)
def test_bad_limits(limit: Ulimit, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        ulimits.check([limit])


def test_limits_out_of_reach_are_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine cannot give is cut to what it can; the user hears of it only for limits of his own."""
    monkeypatch.setattr(reach, "hard_limit", lambda name: 100 if name == "nofile" else -1)
    monkeypatch.setattr(ulimits, "_settled", ulimits._settled.__wrapped__)
    assert (
        ulimits.check([Ulimit(name="nofile", soft=50, hard=100), Ulimit(name="core", soft=-1, hard=-1)]) == []
    )
    assert ulimits.check([Ulimit(name="nofile", soft=200, hard=-1)]) == [
        "ulimit nofile: unlimited is more than this engine can give; the container has 100:100"
    ]
    assert by_name(ulimits.settle([Ulimit(name="nofile", soft=50, hard=200)], ()))["nofile"] == (50, 100)
    assert by_name(ulimits.settle(None, ()))["nofile"] == (100, 100)


# ---- security options
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], Security()),
        (["no-new-privileges"], Security(no_new_privileges=True)),
        (["no-new-privileges=true"], Security(no_new_privileges=True)),
        (["no-new-privileges:true"], Security(no_new_privileges=True)),
        (["no-new-privileges=1", "no-new-privileges=F"], Security()),
        (["seccomp=unconfined"], Security(seccomp=Seccomp(mode="unconfined"))),
        (["seccomp:unconfined"], Security(seccomp=Seccomp(mode="unconfined"))),
        (["seccomp=unconfined", "seccomp=builtin"], Security()),
        (["seccomp={}"], Security(seccomp=Seccomp(mode="custom", document="{}"))),
        (["apparmor=unconfined"], Security(apparmor="unconfined")),
        (["apparmor=my:profile"], Security(apparmor="my:profile")),
        (["label=disable", "label=user:x"], Security(labels=("disable", "user:x"))),
        (["label:role:x"], Security(labels=("role:x",))),
        (["systempaths=unconfined"], Security(system_paths=False)),
        (["writable-cgroups=true"], Security(writable_cgroups=True)),
        (["writable-cgroups=false"], Security()),
    ],
)
def test_security_options(options: list[str], expected: Security) -> None:
    assert security.parse(options, privileged=False, usual=Security()) == expected


@pytest.mark.parametrize(
    "option",
    ["", "x", "nonsense=1", "no-new-privileges=maybe", "no-new-privileges=", "seccomp", "systempaths=x",
     "systempaths", "writable-cgroups=2", "writable-cgroups", "apparmor=", "credentialspec=file://x"],
)  # fmt: skip
def test_unknown_security_options(option: str) -> None:
    with pytest.raises(InvalidRequest, match=r"invalid --security-opt [12]: "):
        security.parse([option], privileged=False, usual=Security())


def test_the_daemons_options_are_under_the_containers() -> None:
    """What a container says counts; privileged is unfiltered whatever is usual, unless it names a profile."""
    usual = Security(seccomp=Seccomp(mode="custom", document="usual"), no_new_privileges=True)
    parse = security.parse
    assert parse(None, privileged=False, usual=usual) == usual
    assert parse(["no-new-privileges=false"], privileged=False, usual=usual).no_new_privileges is False
    assert parse(["seccomp=builtin"], privileged=False, usual=usual).seccomp == Seccomp()
    assert parse(None, privileged=True, usual=usual).seccomp.mode == "unconfined"
    assert parse(["seccomp=own"], privileged=True, usual=usual).seccomp == Seccomp(
        mode="custom", document="own"
    )


def test_a_bad_profile_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"Decoding seccomp profile failed: .*SCMP_ACT_NOTIFY"):
        security.check(
            Security(seccomp=Seccomp(mode="custom", document='{"defaultAction":"SCMP_ACT_NOTIFY"}')), DEFAULT
        )


@pytest.mark.parametrize("option", ["", "nonsense", "type:", "color:red", ":x"])
def test_bad_labels(option: str) -> None:
    with pytest.raises(InvalidRequest, match="bad label option"):
        labels.check([option])


def test_modules_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile or a label where the kernel has no such module is refused, and it is said what is missing."""
    monkeypatch.setattr(security_modules, "has_apparmor", lambda: False)
    monkeypatch.setattr(security_modules, "has_selinux", lambda: False)
    security.check(Security(apparmor="unconfined", labels=("disable",)), DEFAULT)
    with pytest.raises(InvalidRequest, match='AppArmor is not enabled in this kernel: the profile "mine"'):
        security.check(Security(apparmor="mine"), DEFAULT)
    with pytest.raises(
        InvalidRequest, match='label option "type:mine_t": SELinux is not enabled in this kernel'
    ):
        security.check(Security(labels=("type:mine_t",)), DEFAULT)


def test_labels_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy's label for containers, with the parts that were asked for in place."""
    monkeypatch.setattr(security_modules, "has_selinux", lambda: True)
    (tmp_path / "targeted" / "contexts").mkdir(parents=True)
    (tmp_path / "config").write_text("# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
    (tmp_path / "targeted" / "contexts" / "lxc_contexts").write_text(
        'process = "system_u:system_r:container_t:s0"\nfile = "system_u:object_r:container_file_t:s0"\n'
    )
    usual = security_modules.container_context(tmp_path)
    assert usual == "system_u:system_r:container_t:s0"
    assert security_modules.container_context(tmp_path / "nowhere") == ""
    labels.check(["type:spc_t", "level:s0:c1,c2"])
    assert labels.label(["type:spc_t", "level:s0:c1,c2"], usual) == "system_u:system_r:spc_t:s0:c1,c2"
    assert labels.label(["type:spc_t", "disable"], usual) == labels.label([], usual) == ""
    with pytest.raises(InvalidRequest, match="give label=user:… as well"):
        labels.label(["type:spc_t"], "")
    with pytest.raises(InvalidRequest, match="does not label the files"):
        labels.check(["filetype:x"])


# ---- sysctls
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.ipv4.ip_forward", ""),
        ("net/ipv4/conf/eth0.5/forwarding", ""),
        ("kernel.msgmax", ""),
        ("kernel.shm_rmid_forced", ""),
        ("fs.mqueue.msg_max", ""),
        ("kernel.domainname", ""),
        ("kernel.hostname", "conflicts with the OCI"),
        ("kernel.core_pattern", "is not in a separate kernel namespace"),
        ("kernel/core_pattern", "is not in a separate kernel namespace"),
        ("net/../kernel/core_pattern", "is not in a separate kernel namespace"),
        ("net.//.kernel.core_pattern", "is not in a separate kernel namespace"),
        ("vm.overcommit_memory", "is not in a separate kernel namespace"),
        ("fs.file-max", "is not in a separate kernel namespace"),
        ("network", "is not in a separate kernel namespace"),
        ("", "is not in a separate kernel namespace"),
    ],
)
def test_sysctls_of_own_namespaces(name: str, words: str) -> None:
    """Only parameters of namespaces may be set, however they are spelled."""
    if not words:
        sysctls.check([name], network=True, ipc=True, uts=True)
        return
    with pytest.raises(InvalidRequest, match=words):
        sysctls.check([name], network=True, ipc=True, uts=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.ipv4.ip_forward", 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'),
        ("kernel.msgmax", 'sysctl "kernel.msgmax" is not allowed in the hosts ipc namespace'),
        ("kernel.domainname", "is not in a separate kernel namespace"),
    ],
)
def test_sysctls_of_the_host(name: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        sysctls.check([name], network=False, ipc=False, uts=False)


@given(st.text(st.sampled_from("net./.k\0x"), max_size=12))
def test_no_name_leads_out(name: str) -> None:
    """Whatever a sysctl is called, its path stays below /proc/sys, and its usual name means the same path."""
    from wherry.linux.sysctls import dotted, path

    try:
        found = path(name)
    except ValueError:
        return
    assert os.path.normpath(f"/proc/sys/{found}") == f"/proc/sys/{found}"
    assert path(dotted(name)) == found


# ---- devices
def nodes(*mappings: DeviceMapping, privileged: bool = False) -> dict[str, Device]:
    found, _ = device_nodes.devices(HostConfig(devices=list(mappings), privileged=privileged))
    return {device.path: device for device in found}


def test_devices(tmp_path: Path) -> None:
    """A device by its name or by a link; a directory of devices, in depth and without what is none."""
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "way").symlink_to("tree")
    os.mknod(tmp_path / "tree" / "zero", stat.S_IFCHR | 0o640, os.makedev(1, 5))
    os.mknod(tmp_path / "tree" / "deep" / "loop", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    (tmp_path / "tree" / "again").symlink_to("zero")
    (tmp_path / "tree" / "file").write_text("no device")
    os.mkfifo(tmp_path / "tree" / "pipe")
    found = nodes(
        DeviceMapping(path_on_host=str(tmp_path / "link"), path_in_container="/dev/x"),
        DeviceMapping(path_on_host=str(tmp_path / "way"), path_in_container="/dev/tree/"),
    )
    assert (found["/dev/x"].major, found["/dev/x"].minor) == (1, 3)
    assert {path for path in found if "tree" in path} == {"/dev/tree/zero", "/dev/tree/deep/loop"}
    assert (found["/dev/tree/deep/loop"].kind, found["/dev/tree/zero"].mode) == ("b", 0o640)
    assert nodes(DeviceMapping(path_on_host="/dev/full"))["/dev/full"].minor == 7


@pytest.mark.parametrize(
    ("path", "reason"), [("/etc/passwd", "not a device node"), ("/no/such", "no such file or directory"),
                         ("/etc", "not a device node")],
)  # fmt: skip
def test_what_is_no_device(path: str, reason: str) -> None:
    words = f'error gathering device information while adding custom device "{path}": {reason}'
    with pytest.raises(NotFound, match=words):
        nodes(DeviceMapping(path_on_host=path))


def test_privileged_has_the_hosts_devices() -> None:
    """All nodes of the host, no link twice, none of those that a container has of its own; and what it maps besides."""
    found = nodes(DeviceMapping(path_on_host="/dev/null", path_in_container="/dev/mine"), privileged=True)
    assert {"/dev/null", "/dev/mine"} <= found.keys()
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) or path == "/dev/console" for path in found)
    assert not any(os.path.islink(path) for path in found)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HostConfig(devices=[DeviceMapping(path_on_host="dev/x")]), "not an absolute path"),
        (HostConfig(devices=[DeviceMapping(path_on_host="/dev/x", path_in_container="y")]), "not an absolute path"),
        (HostConfig(devices=[DeviceMapping(path_on_host="/dev/x", cgroup_permissions="rx")]),
         "invalid device mode: rx"),
        (HostConfig(device_cgroup_rules=["x 1:2 rwm"]), "invalid device cgroup rule format: 'x 1:2 rwm'"),
        (HostConfig(device_cgroup_rules=["c 1:99999999999 r"]), "invalid device cgroup rule format"),
        (HostConfig(device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])]),
         r'could not select device driver "" with capabilities: \[\[gpu\]\]'),
        (HostConfig(device_requests=[DeviceRequest(driver="cdi", device_i_ds=["x"])]),
         r'could not select device driver "cdi" with capabilities: \[\]'),
    ],
)  # fmt: skip
def test_refused_devices(host: HostConfig, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        device_nodes.check(host)


def test_a_rule_for_both_kinds_is_not_one_for_all() -> None:
    """`a` with numbers is a rule for each kind: the kernel would take it for "all devices"."""
    assert device_nodes.parse_rule("a 1:* r") == (
        DeviceRule(allow=True, kind="c", major=1, access="r"),
        DeviceRule(allow=True, kind="b", major=1, access="r"),
    )
    assert device_nodes.parse_rule("b 7:0 wm") == (
        DeviceRule(allow=True, kind="b", major=7, minor=0, access="wm"),
    )
