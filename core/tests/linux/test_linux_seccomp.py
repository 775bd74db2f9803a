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
    with pytest.raises(ValueError, match="profile"):
        seccomp.compile_profile(document, DEFAULT)


def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled profile is found again, in memory and by another process in its directory."""
    document = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'
    program = seccomp.compile_profile(document, (), tmp_path)
    monkeypatch.setattr(seccomp, "_compiled", {})
    monkeypatch.setattr(seccomp, "_compile", lambda *_: pytest.fail("compiled again"))
    assert seccomp.compile_profile(document, (), tmp_path) == program
    assert len(list(tmp_path.iterdir())) == 1
