"""Seccomp profiles in Docker's format, as the kernel would run them: asked by raw numbers."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from wherry.linux import bpf, seccomp
from wherry.linux.capabilities import DEFAULT, NAMES

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="asks by numbers of x86-64")

ERRNO = 0x00050000
READ, MKDIR, CLONE, PTRACE, MOUNT, PERSONALITY, CLONE3, NEW, X32 = (
    0,
    83,
    56,
    101,
    165,
    135,
    435,
    600,
    0x40000000,
)


@pytest.mark.parametrize(
    ("held", "number", "arguments", "answer"),
    [
        pytest.param(DEFAULT, READ, (), seccomp.ALLOW, id="read"),
        pytest.param(DEFAULT, MOUNT, (), ERRNO | errno.EPERM, id="mount"),
        pytest.param(NAMES, MOUNT, (), seccomp.ALLOW, id="mount-as-admin"),
        pytest.param(DEFAULT, CLONE, (0x3D0F00,), seccomp.ALLOW, id="a-thread"),
        pytest.param(DEFAULT, CLONE, (0x10000000,), ERRNO | errno.EPERM, id="a-user-namespace"),
        pytest.param(DEFAULT, CLONE3, (), ERRNO | errno.ENOSYS, id="clone3"),
        pytest.param(NAMES, CLONE3, (), seccomp.ALLOW, id="clone3-as-admin"),
        pytest.param(DEFAULT, PERSONALITY, (0x20008,), seccomp.ALLOW, id="a-personality"),
        pytest.param(DEFAULT, PERSONALITY, (0x40000,), ERRNO | errno.EPERM, id="another-personality"),
        pytest.param(DEFAULT, NEW, (), ERRNO | errno.ENOSYS, id="newer-than-the-profile"),
        pytest.param(DEFAULT, X32 + NEW, (), ERRNO | errno.ENOSYS, id="newer-for-x32"),
        pytest.param(DEFAULT, X32 + READ, (), seccomp.ALLOW, id="read-for-x32"),
    ],
)
def test_default_profile(held: tuple[str, ...], number: int, arguments: tuple[int, ...], answer: int) -> None:
    """What the default profile says; what is newer than it does not exist, so that programs fall back."""
    program = seccomp.compile_profile(seccomp.default_profile(), held)
    assert bpf.run(program, number, arguments) == answer


I386, CLONE3_I386, MOUNT_I386, FCHMODAT2 = 0x40000003, 435, 21, 452


@pytest.mark.parametrize(
    ("number", "architecture", "answer"),
    [
        pytest.param(MOUNT_I386, I386, ERRNO | errno.EPERM, id="i386-mount"),
        pytest.param(CLONE3_I386, I386, ERRNO | errno.ENOSYS, id="i386-clone3"),
        pytest.param(NEW, I386, ERRNO | errno.ENOSYS, id="i386-newer"),
        pytest.param(FCHMODAT2, I386, seccomp.ALLOW, id="i386-fchmodat2"),
        pytest.param(FCHMODAT2, 0, seccomp.ALLOW, id="fchmodat2"),
        pytest.param(X32 + FCHMODAT2, 0, seccomp.ALLOW, id="x32-fchmodat2"),
        pytest.param(READ, 0xC00000B7, 0, id="another-architecture-is-killed"),
    ],
)
def test_other_architectures(number: int, architecture: int, answer: int) -> None:
    """i386 and x32 have their own numbers; calls newer than this machine's libseccomp answer as the profile says."""
    program = seccomp.compile_profile(seccomp.default_profile(), DEFAULT)
    assert bpf.run(program, number, (), architecture) == answer


def test_what_libseccomp_does_not_know_is_denied_all_the_same() -> None:
    """A permissive profile that names a new system call denies it on every architecture, whatever libseccomp knows."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["file_setattr"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
            {"names": ["file_setattr"], "action": "SCMP_ACT_ALLOW"},
        ],
    }
    program = seccomp.compile_profile(json.dumps(profile), ())
    for number, architecture in ((469, 0), (X32 + 469, 0), (469, I386)):
        assert bpf.run(program, number, (), architecture) == ERRNO | 7
    assert bpf.run(program, 470) == seccomp.ALLOW
    profile["syscalls"] = [
        {
            "name": "file_setattr",
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
        }
    ]
    try:
        program = seccomp.compile_profile(json.dumps(profile), ())
    except ValueError as error:
        assert "file_setattr, which this machine's libseccomp does not know" in str(error)
    else:
        assert bpf.run(program, 469, (1,)) == ERRNO | errno.EPERM


def test_who_traces_knows_the_future() -> None:
    """Where calls are traced by default, new ones are as well."""
    program = seccomp.compile_profile('{"defaultAction": "SCMP_ACT_TRACE"}', ())
    assert bpf.run(program, NEW) == 0x7FF00000 | errno.EPERM


def test_permissive_profiles_know_the_future() -> None:
    """A profile that allows by default allows what it has never heard of."""
    document = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO"}],
        }
    )
    program = seccomp.compile_profile(document, ())
    assert bpf.run(program, MKDIR) == ERRNO | errno.EPERM
    assert bpf.run(program, NEW) == seccomp.ALLOW


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"includes": {"arches": ["amd64"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.0"}}, True),
        ({"includes": {"minKernel": "99.0"}}, False),
    ],
)
def test_conditions(rule: dict[str, object], holds: bool) -> None:
    """A rule holds only where its conditions do."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, **rule}],
    }
    program = seccomp.compile_profile(json.dumps(profile), ["CAP_CHOWN"])
    assert bpf.run(program, MKDIR) == (ERRNO | 5 if holds else seccomp.ALLOW)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"defaultAction": "SCMP_ACT_SING"}',
        '{"defaultAction": "SCMP_ACT_NOTIFY"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_KILL"}',
        '{"defaultAction": ["SCMP_ACT_ALLOW"]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X68"]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],'
        ' "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "names": ["write"],'
        ' "action": "SCMP_ACT_ERRNO"}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",'
        ' "errnoRet": 4096}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",'
        ' "includes": {"minKernel": "new"}}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",'
        ' "includes": {"caps": [7]}}]}',
        json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {
                        "names": ["read"],
                        "action": "SCMP_ACT_ERRNO",
                        "args": [
                            {"index": 0, "value": number << 33, "op": "SCMP_CMP_EQ"} for number in range(2500)
                        ],
                    }
                ],
            }
        ),
        '{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "x"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 7}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [7]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [7], "action": "SCMP_ACT_ERRNO"}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",'
        ' "args": [{"index": 9, "op": "SCMP_CMP_EQ"}]}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",'
        ' "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}]}',
        " " * 3_000_000,
    ],
)
def test_nonsense_is_refused(document: str) -> None:
    """What is no profile is refused with a sentence, whatever it is."""
    for attempt in (seccomp.compile_profile, seccomp.check):
        with pytest.raises(ValueError, match="profile"):
            attempt(document, DEFAULT)


def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled profile is found again, in memory and by another process in its directory."""
    document = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'
    program = seccomp.compile_profile(document, (), tmp_path)
    monkeypatch.setattr(seccomp, "_compiled", {})
    monkeypatch.setattr(seccomp, "_compile", lambda *_: pytest.fail("compiled again"))
    assert seccomp.compile_profile(document, (), tmp_path) == program
    assert len(list(tmp_path.iterdir())) == 1
