"""Each field of the API about a container's process, and about execs, set by the real `docker` program and seen inside.

The resources of a container, its mounts and its networks have tables of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from wherry.linux import capabilities
from wherry.linux.capabilities import DEFAULT
from wherry.spec.container import Config, HostConfig
from wherry.testing.daemon import Daemon, eventually

HELD: Final = capabilities.of("self", "Prm")
"""What a daemon that is started here has, and can give."""
NONE: Final = "0" * 16

SHOWN_ELSEWHERE: Final = {
    "ContainerIDFile": "written by the client",
    "Isolation": "of Windows",
    "ArgsEscaped": "of Windows",
    "OnBuild": "read when an image is built",
    "Shell": "read when an image is built",
}
"""Fields that no process shows."""


def mask(*names: str) -> str:
    return f"{capabilities.mask(names) & HELD:016x}"


def caps(effective: str, bounding: str | None = None) -> str:
    """What CAPS prints of a process with these sets; nothing is ever inheritable or ambient."""
    whole = effective if bounding is None else bounding
    return f"Inh {NONE} Prm {effective} Eff {effective} Bnd {whole} Amb {NONE}"


CAPS: Final = "echo $(sed -n 's/^Cap\\(...\\):/\\1/p' /proc/self/status)"
GUARDS: Final = "echo $(sed -n 's/^\\(NoNewPrivs\\|Seccomp\\)://p' /proc/self/status)"
GROUPS: Final = "echo $(id -u) $(id -g) $(sed -n 's/^Groups://p' /proc/self/status)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to set a field: `flags` for `docker run`, and what a script in the container then prints."""

    field: str
    flags: tuple[str, ...]
    script: str
    expected: str


def row(field: str, flags: str, script: str, expected: str) -> Row:
    return Row(field=field, flags=tuple(flags.split()), script=script, expected=expected)


def limit(field: str, flags: str, script: str, expected: str) -> Row:
    return row(field, flags, f"echo $(grep '{script}' /proc/self/limits)", expected)


DENY_MKDIR: Final = json.dumps(
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    },
    separators=(",", ":"),
)
ALL: Final = f"{HELD:016x}"

ROWS: Final = (
    row("CapAdd", "", CAPS, caps(mask(*DEFAULT))),
    row("CapAdd", "--cap-add NET_ADMIN", CAPS, caps(mask(*DEFAULT, "CAP_NET_ADMIN"))),
    row("CapAdd", "--cap-add cap_sys_time --cap-add SYS_PTRACE", CAPS, caps(mask(*DEFAULT, "CAP_SYS_TIME", "CAP_SYS_PTRACE"))),
    row("CapAdd", "--cap-add ALL", CAPS, caps(ALL)),
    row("CapAdd", "--cap-add ALL --cap-drop MKNOD", CAPS, caps(f"{HELD & ~(1 << 27):016x}")),
    row("CapAdd", "--cap-add NET_ADMIN -u 1000", CAPS, caps(NONE, mask(*DEFAULT, "CAP_NET_ADMIN"))),
    row("CapDrop", "--cap-drop CHOWN", CAPS, caps(mask(*(set(DEFAULT) - {"CAP_CHOWN"})))),
    row("CapDrop", "--cap-drop ALL", CAPS, caps(NONE)),
    row("CapDrop", "--cap-drop ALL --cap-add KILL", CAPS, caps(mask("CAP_KILL"))),
    row("CapDrop", "--cap-drop ALL", "chown 1 /tmp 2>&1", "chown: /tmp: Operation not permitted"),
    row("Privileged", "--privileged", CAPS, caps(ALL)),
    row("Privileged", "--privileged -u user", CAPS, caps(NONE, ALL)),
    row("Privileged", "--privileged", GUARDS, "0 0"),
    row("Privileged", "--privileged", "grep -c ' /proc/' /proc/self/mountinfo", "0"),
    row("Privileged", "--privileged", "awk '$2 == \"/sys\" {print $4}' /proc/mounts | cut -d, -f1", "rw"),
    row("Privileged", "--privileged", "awk '$2 ~ \"/sys/fs/cgroup\" {print $4}' /proc/mounts | cut -d, -f1 | sort -u", "rw"),
    row("Privileged", "--privileged", "mount -t tmpfs none /mnt && echo mounted", "mounted"),
    row("Privileged", "", "mount -t tmpfs none /mnt 2>&1", "mount: permission denied (are you root?)"),
    row("SecurityOpt", "", GUARDS, "0 2"),
    row("SecurityOpt", "--security-opt seccomp=unconfined", GUARDS, "0 0"),
    row("SecurityOpt", "--security-opt seccomp=builtin", GUARDS, "0 2"),
    row("SecurityOpt", "--security-opt no-new-privileges", GUARDS, "1 2"),
    row("SecurityOpt", "--security-opt no-new-privileges:true", GUARDS, "1 2"),
    row("SecurityOpt", "--security-opt no-new-privileges=false", GUARDS, "0 2"),
    row("SecurityOpt", "--security-opt no-new-privileges --security-opt seccomp=unconfined", GUARDS, "1 0"),
    row("SecurityOpt", "--security-opt apparmor=unconfined --security-opt label=disable", GUARDS, "0 2"),
    row("SecurityOpt", "", "grep -c ' /proc/sys ' /proc/self/mountinfo", "1"),
    row("SecurityOpt", "--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/self/mountinfo", "0"),
    row("SecurityOpt", "", "awk '$2 ~ \"/sys/fs/cgroup\" {print $4}' /proc/mounts | cut -d, -f1 | sort -u", "ro"),
    row("SecurityOpt", "--security-opt writable-cgroups=true",
        "awk '$2 ~ \"/sys/fs/cgroup\" {print $4}' /proc/mounts | cut -d, -f1 | sort -u", "rw"),
    row("GroupAdd", "", GROUPS, "0 0 0"),
    row("GroupAdd", "--group-add audio --group-add 4242 --group-add 29", GROUPS, "0 0 0 29 4242"),
    row("GroupAdd", "--group-add staff -u user", GROUPS, "1000 1000 29 50 100 1000"),
    limit("Ulimits", "", "open files", "Max open files 1024 {nofile} files"),
    limit("Ulimits", "--ulimit nofile=100:200", "open files", "Max open files 100 200 files"),
    limit("Ulimits", "--ulimit core=-1", "core file", "Max core file size unlimited unlimited bytes"),
    limit("Ulimits", "", "core file", "Max core file size 0 unlimited bytes"),
    limit("Ulimits", "--ulimit cpu=77", "cpu time", "Max cpu time 77 77 seconds"),
    limit("Ulimits", "--ulimit data=100000000", "data size", "Max data size 100000000 100000000 bytes"),
    limit("Ulimits", "--ulimit fsize=5000:6000", "Max file size", "Max file size 5000 6000 bytes"),
    limit("Ulimits", "--ulimit locks=9", "file locks", "Max file locks 9 9 locks"),
    limit("Ulimits", "--ulimit memlock=65536", "locked", "Max locked memory 65536 65536 bytes"),
    limit("Ulimits", "", "locked", "Max locked memory 8388608 8388608 bytes"),
    limit("Ulimits", "--ulimit msgqueue=4096", "msgqueue", "Max msgqueue size 4096 4096 bytes"),
    limit("Ulimits", "--ulimit nice=0", "nice", "Max nice priority 0 0"),
    limit("Ulimits", "--ulimit nproc=300:400", "processes", "Max processes 300 400 processes"),
    limit("Ulimits", "--ulimit rss=12345", "resident", "Max resident set 12345 12345 bytes"),
    limit("Ulimits", "--ulimit rtprio=0", "realtime priority", "Max realtime priority 0 0"),
    limit("Ulimits", "--ulimit rttime=500000", "realtime timeout", "Max realtime timeout 500000 500000 us"),
    limit("Ulimits", "--ulimit sigpending=88", "pending", "Max pending signals 88 88 signals"),
    limit("Ulimits", "--ulimit stack=4194304", "stack", "Max stack size 4194304 4194304 bytes"),
    row("OomScoreAdj", "", "cat /proc/self/oom_score_adj", "0"),
    row("OomScoreAdj", "--oom-score-adj 345", "cat /proc/self/oom_score_adj", "345"),
    row("Init", "--init", "echo $$ $(tr '\\0' ' ' </proc/1/cmdline | cut -d' ' -f-4)", "2 /sbin/docker-init -- sh -c"),
    row("Init", "", "echo $$", "1"),
    row("Sysctls", "--sysctl net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward", "1"),
    row("Sysctls", "--sysctl net.ipv4.ip_unprivileged_port_start=99", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "99"),
    row("Sysctls", "", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    row("Sysctls", "--sysctl kernel.msgmax=4321 --sysctl kernel.shm_rmid_forced=1",
        "echo $(cat /proc/sys/kernel/msgmax /proc/sys/kernel/shm_rmid_forced)", "4321 1"),
    row("Sysctls", "--sysctl fs.mqueue.msg_max=7", "cat /proc/sys/fs/mqueue/msg_max", "7"),
    row("Devices", "--device /dev/full", "stat -c '%n %a %t %T' /dev/full", "/dev/full 666 1 7"),
    row("Devices", "--device /dev/full:/dev/deep/er:r", "stat -c '%n %a %t %T' /dev/deep/er", "/dev/deep/er 666 1 7"),
    row("Devices", "--device /dev/full:/other/place", "echo x 2>&1 >/other/place", "sh: write error: No space left on device"),
    row("Runtime", "--runtime native", "echo $$", "1"),
    row("User", "-u user", GROUPS + " $HOME", "1000 1000 29 100 1000 /home/user"),
    row("User", "-u 1000:0", GROUPS, "1000 0 0"),
    row("User", "-u :staff", GROUPS, "0 50 50"),
    row("User", "-u 4321:8765", GROUPS + " $HOME", "4321 8765 8765 /"),
    row("WorkingDir", "-w /new/deep", "pwd; stat -c '%u:%g %a' . ..", "/new/deep\n0:0 755\n0:0 755"),
    row("WorkingDir", "-w /new -u user", "pwd; stat -c '%u:%g %a' .", "/new\n0:0 755"),
    row("WorkingDir", "", "pwd", "/"),
    row("Env", "-e A=b=c -e PATH=/bin -e EMPTY=", "env | grep -v HOSTNAME | sort",
        "A=b=c\nEMPTY=\nHOME=/root\nPATH=/bin\nPWD=/\nSHLVL=1"),
    row("Env", "-e HOME=/x", "echo $HOME $PATH", "/x /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    row("Tty", "-t", "tty; echo $TERM", "/dev/pts/0\nxterm"),
)  # fmt: skip


@pytest.mark.parametrize("each", ROWS, ids=lambda each: f"{each.field} {' '.join(each.flags)}".strip())
def test_field(daemon: Daemon, each: Row) -> None:
    """Set through docker, it is what the process has."""
    answer = daemon.docker("run", "--rm", *each.flags, "busybox", "sh", "-c", each.script)
    expected = (
        each.expected.format(nofile=min(524_288, open_files()))
        if "{nofile}" in each.expected
        else each.expected
    )
    assert (answer.stdout.replace("\r\n", "\n").strip(), answer.stderr) == (expected, "")


def open_files() -> int:
    """The hard limit that this machine lets a container have."""
    import resource

    if HELD >> capabilities.BITS["CAP_SYS_RESOURCE"] & 1:
        return int(Path("/proc/sys/fs/nr_open").read_text())
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


TESTED_ALONE: Final = {"DeviceRequests", "ConsoleSize", "StopSignal", "StopTimeout"}


def test_every_field_is_in_the_table() -> None:
    """Whatever the API defines about a process is tested here, or listed with the reason why no process shows it."""
    fields = {*Config.__struct_encode_fields__, *HostConfig.__struct_encode_fields__}
    ours = {
        "CapAdd", "CapDrop", "ConsoleSize", "ContainerIDFile", "DeviceRequests", "Devices", "Env", "GroupAdd", "Init",
        "Isolation", "OomScoreAdj", "Privileged", "Runtime", "SecurityOpt", "StopSignal", "StopTimeout", "Sysctls",
        "Tty", "Ulimits", "User", "WorkingDir", "ArgsEscaped", "OnBuild", "Shell",
    }  # fmt: skip
    assert ours <= fields
    assert {each.field for each in ROWS} | TESTED_ALONE | set(SHOWN_ELSEWHERE) == ours


# ---- What is refused ---------------------------------------------------------------------------------------------
REFUSED: Final = [
    ({"CapAdd": ["NONSENSE"]}, 'invalid CapAdd: unknown capability: "CAP_NONSENSE"'),
    ({"CapDrop": ["CAP_X"]}, 'invalid CapDrop: unknown capability: "CAP_X"'),
    ({"SecurityOpt": ["nonsense"]}, 'invalid --security-opt 1: "nonsense"'),
    ({"SecurityOpt": ["what=ever"]}, 'invalid --security-opt 2: "what=ever"'),
    ({"SecurityOpt": ["no-new-privileges=perhaps"]}, 'invalid --security-opt 2: "no-new-privileges=perhaps"'),
    ({"SecurityOpt": ["label=nonsense"]}, 'bad label option "nonsense"'),
    ({"SecurityOpt": ["seccomp=/etc/passwd"]}, "Decoding seccomp profile failed"),
    ({"SecurityOpt": ["seccomp={}"]}, "Decoding seccomp profile failed"),
    ({"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_NOTIFY"}']}, "SCMP_ACT_NOTIFY"),
    ({"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_PDP11"]}']}, "SCMP_ARCH_PDP11"),
    ({"Sysctls": {"kernel.core_pattern": "|/evil"}}, 'sysctl "kernel.core_pattern" is not in a separate kernel namespace'),
    ({"Sysctls": {"net/../kernel/core_pattern": "x"}}, "is not in a separate kernel namespace"),
    ({"Sysctls": {"kernel.hostname": "x"}}, "conflicts with the OCI"),
    ({"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "host"},
     'sysctl "net.core.somaxconn" not allowed in host network namespace'),
    ({"Sysctls": {"kernel.msgmax": "1"}, "IpcMode": "host"}, 'sysctl "kernel.msgmax" is not allowed in the hosts ipc namespace'),
    ({"Sysctls": {"kernel.domainname": "x"}, "UTSMode": "host"}, "is not in a separate kernel namespace"),
    ({"Ulimits": [{"Name": "luck", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: luck"),
    ({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, "must be less than or equal to hard limit"),
    ({"OomScoreAdj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
    ({"OomScoreAdj": -1001}, "Invalid value -1001, range for oom score adj is [-1000, 1000]"),
    ({"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "x"}]}, "x is not an absolute path"),
    ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "z"}]}, "invalid device mode: z"),
    ({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu", "nvidia"], ["x"]]}]},
     'could not select device driver "" with capabilities: [[gpu nvidia] [x]]'),
    ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/device=x"]}]}, 'could not select device driver "cdi"'),
    ({"Runtime": "nonesuch"}, 'no exec driver "nonesuch"'),
    ({"ConsoleSize": [1]}, "ConsoleSize"),
    ({"ConsoleSize": [1, 70000]}, "ConsoleSize"),
    ({"GroupAdd": ["a\0b"]}, "holds a NUL"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("host_config", "why"), REFUSED, ids=[json.dumps(config)[:60] for config, _ in REFUSED]
)
def test_refused(daemon: Daemon, host_config: dict[str, Any], why: str) -> None:
    """In Docker's words, as the client's fault, when the container is created: nothing is half-done."""
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host_config}
    status, answer = daemon.api("POST", "/v1.51/containers/create", body)
    assert status == 400, answer
    assert why in answer["message"]
    assert daemon.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"Env": ["=x"]}, "invalid environment variable"),
        ({"Env": ["A=b\0c"]}, "invalid environment variable"),
        ({"Cmd": ["a\0b"]}, "holds a NUL"),
        ({"User": "a\0b"}, "holds a NUL"),
        ({"WorkingDir": "rel"}, "the working directory 'rel' is invalid, it needs to be an absolute path"),
        ({"StopSignal": "SIGNOPE"}, "invalid signal: SIGNOPE"),
        ({"StopSignal": "65"}, "invalid signal: 65"),
    ],
)
def test_refused_configuration(daemon: Daemon, config: dict[str, Any], why: str) -> None:
    status, answer = daemon.api(
        "POST", "/v1.51/containers/create", {"Image": "busybox", "Cmd": ["true"], **config}
    )
    assert status == 400, answer
    assert why in answer["message"]


@pytest.mark.parametrize(
    ("flags", "why", "code"),
    [
        ("-u nobody-here", "unable to find user nobody-here: no matching entries in passwd file", 125),
        ("-u :nogroup-here", "unable to find group nogroup-here: no matching entries in group file", 125),
        (
            "--group-add nogroup-here",
            "Unable to find group nogroup-here: no matching entries in group file",
            125,
        ),
        ("-u 2147483648", "uids and gids must be in range 0-2147483647", 125),
        ("-w /etc/passwd", "Cannot mkdir: /etc/passwd is not a directory", 125),
        ("--device /etc/passwd", 'adding custom device "/etc/passwd": not a device node', 125),
        ("--sysctl net.no.such=1", "net.no.such", 125),
        ("--gpus all", 'could not select device driver "" with capabilities: [[gpu]]', 125),
    ],
)
def test_a_start_that_cannot_be(daemon: Daemon, flags: str, why: str, code: int) -> None:
    """What only the container's own files or the moment can tell is told at the start, by name."""
    answer = daemon.docker("run", "--rm", *flags.split(), "busybox", "true")
    assert answer.returncode == code, answer.stderr
    assert why in answer.stderr
    eventually(lambda: daemon.ok("ps", "-aq") == "", "nothing is left")


def test_modules_that_this_kernel_lacks(daemon: Daemon) -> None:
    """A profile of AppArmor, or a label of SELinux, is not quietly forgotten where the kernel has no such module."""
    for option, module, path in (
        (
            "apparmor=mine",
            "AppArmor is not enabled in this kernel",
            "/sys/module/apparmor/parameters/enabled",
        ),
        ("label=type:mine_t", "SELinux is not enabled in this kernel", "/sys/fs/selinux/enforce"),
    ):
        answer = daemon.docker("create", "--security-opt", option, "busybox")
        assert Path(path).exists() or module in answer.stderr


def test_what_the_engine_has_not_it_does_not_give(daemon: Daemon) -> None:
    """Without CAP_SYS_RESOURCE: limits and the oom score are cut, with a warning; the capability itself is refused."""
    if HELD >> capabilities.BITS["CAP_SYS_RESOURCE"] & 1:
        name = daemon.ok(
            "run",
            "-d",
            "--ulimit",
            "nofile=1048576:1048576",
            "--oom-score-adj",
            "-500",
            "busybox",
            "sleep",
            "1000",
        )
        pid = daemon.inspect(name, "{{.State.Pid}}")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "-500\n"
        return
    most = open_files()
    answer = daemon.docker(
        "run", "--rm", "--ulimit", f"nofile={most + 1}:{most + 2}", "--oom-score-adj", "-500",
        "busybox", "sh", "-c", "ulimit -n; cat /proc/self/oom_score_adj",
    )  # fmt: skip
    assert answer.stdout.split() == [str(most), "0"]
    assert f"the container has {most}:{most}" in answer.stderr
    assert "oom_score_adj -500 is lower than this engine can give; the container has 0" in answer.stderr
    answer = daemon.docker("create", "--cap-add", "SYS_RESOURCE", "busybox")
    assert 'not available in the current environment: "CAP_SYS_RESOURCE"' in answer.stderr


def test_what_the_daemon_says_of_all(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """default-ulimit, seccomp-profile and no-new-privileges hold where a container does not say otherwise."""
    profile = tmp_path / "profile.json"
    profile.write_text(DENY_MKDIR)
    daemon = make_daemon(
        "--default-ulimit", "nofile=333:444", "--default-ulimit", "core=7:8",
        "--seccomp-profile", str(profile), "--no-new-privileges",
    ).start()  # fmt: skip
    daemon.image()
    script = f"{GUARDS}; ulimit -Sn; ulimit -Hn; mkdir /x 2>&1"
    shown = daemon.ok(
        "run", "--rm", "--ulimit", "nofile=55:66", "busybox", "sh", "-c", f"{script}; ulimit -Hc"
    )
    # ENOSPC is what the profile answers; the core limit is in blocks of 512 bytes.
    assert shown.splitlines()[:4] == [
        "1 2",
        "55",
        "66",
        "mkdir: can't create directory '/x': No space left on device",
    ]
    shown = daemon.ok(
        "run", "--rm", "--security-opt", "no-new-privileges=false", "--security-opt", "seccomp=builtin",
        "busybox", "sh", "-c", f"{script}; rmdir /x",
    )  # fmt: skip
    assert shown.splitlines() == ["0 2", "333", "444"]
    assert daemon.ok("run", "--rm", "--privileged", "busybox", "sh", "-c", GUARDS) == "1 0"
    options = daemon.ok("info", "--format", "{{json .SecurityOptions}}")
    assert f"name=seccomp,profile={profile}" in options
    assert "name=no-new-privileges" in options


@pytest.mark.parametrize("content", ["{", '{"defaultAction":"SCMP_ACT_NOTIFY"}', None])
def test_a_daemon_with_a_bad_profile_does_not_start(
    make_daemon: Callable[..., Daemon], tmp_path: Path, content: str | None
) -> None:
    """A profile that is none, or not there, is said at once; nobody runs with less protection than configured."""
    profile = tmp_path / "profile.json"
    if content is not None:
        profile.write_text(content)
    daemon = make_daemon("--seccomp-profile", str(profile))
    with pytest.raises(AssertionError, match="the daemon ended"):
        daemon.start()
    assert f'the seccomp profile "{profile}"' in daemon.log
    assert "Traceback" not in daemon.log
