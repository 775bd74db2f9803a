"""What docker's flags mean in the API's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli import parse
from wherry.errors import InvalidRequest


def binding(port: str = "", address: str = "") -> dict[str, str]:
    return {"HostIp": address, "HostPort": port}


PORTS = {
    "80": {"80/tcp": [binding()]},
    "8080:80": {"80/tcp": [binding("8080")]},
    "8080:80/udp": {"80/udp": [binding("8080")]},
    "8080:80/TCP": {"80/tcp": [binding("8080")]},
    "127.0.0.1:8080:80": {"80/tcp": [binding("8080", "127.0.0.1")]},
    "127.0.0.1::80": {"80/tcp": [binding("", "127.0.0.1")]},
    "[::1]:8080:80": {"80/tcp": [binding("8080", "::1")]},
    "8080-8081:80-81": {"80/tcp": [binding("8080")], "81/tcp": [binding("8081")]},
    "8000-9000:80": {"80/tcp": [binding("8000-9000")]},
}


@pytest.mark.parametrize("text", PORTS)
def test_published_ports(text: str) -> None:
    exposed, bindings = parse.ports([text], [])
    assert bindings == PORTS[text]
    assert exposed == {key: {} for key in PORTS[text]}


@pytest.mark.parametrize(
    "text", ["", "x", "80:x", "0", "70000", "1-2:1-3", "a:b:c:d", "[::1:80:80", "9-8", "-1"]
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse.ports([text], [])


@given(st.text(alphabet="0123456789:-/[].abtcpud", max_size=24))
def test_any_text_is_ports_or_a_refusal(text: str) -> None:
    try:
        _, bindings = parse.ports([text], [])
    except InvalidRequest:
        return
    assert all(1 <= int(key.partition("/")[0]) <= 65535 for key in bindings)


def test_exposed_ports_are_not_published() -> None:
    assert parse.ports([], ["80-81/udp"]) == ({"80/udp": {}, "81/udp": {}}, {})


MOUNTS: dict[str, dict[str, Any]] = {
    "type=bind,source=/a,target=/b,readonly": {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True},
    "type=bind,src=/a,dst=/b,ro=false": {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": False},
    "target=/b": {"Type": "volume", "Target": "/b"},
    "type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1770": {
        "Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770},
    },
    "type=bind,source=/a,target=/b,bind-propagation=rshared,bind-recursive=readonly": {
        "Type": "bind", "Source": "/a", "Target": "/b",
        "BindOptions": {"Propagation": "rshared", "ReadOnlyForceRecursive": True},
    },
    'type=volume,source=v,target=/b,"volume-opt=o=size=1m,uid=5",volume-nocopy': {
        "Type": "volume", "Source": "v", "Target": "/b",
        "VolumeOptions": {"DriverConfig": {"Options": {"o": "size=1m,uid=5"}}, "NoCopy": True},
    },
}  # fmt: skip


@pytest.mark.parametrize("text", MOUNTS)
def test_mounts(text: str) -> None:
    assert parse.mount(text) == MOUNTS[text]


@pytest.mark.parametrize(
    "text", ["", "type=bind,source=/a", "type=bind,nonsense=1,target=/b", "target=/b,ro=maybe"]
)
def test_what_is_no_mount(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--mount|invalid value"):
        parse.mount(text)


def test_volumes_are_binds_or_anonymous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    binds, anonymous = parse.volumes(["/data", "/a:/b:ro", "./x:/c", "~/y:/d", "named:/e"])
    assert binds == ["/a:/b:ro", f"{tmp_path}/x:/c", "/home/me/y:/d", "named:/e"]
    assert anonymous == {"/data": {}}


def test_variables_come_from_files_flags_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=1\n  B=two words\nHERE\nGONE\n")
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("GONE", raising=False)
    assert parse.environment([str(file)], ["A=3"]) == ["A=1", "B=two words", "HERE=yes", "A=3"]


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:r", ("/dev/a", "/dev/a", "r")),
        ("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw")),
    ],
)
def test_devices(text: str, device: tuple[str, str, str]) -> None:
    assert tuple(parse.device(text).values()) == device


@pytest.mark.parametrize(
    ("text", "policy"), [("no", ("no", 0)), ("always", ("always", 0)), ("on-failure:3", ("on-failure", 3))]
)
def test_restart_policies(text: str, policy: tuple[str, int]) -> None:
    assert tuple(parse.restart(text).values()) == policy


@pytest.mark.parametrize("text", ["always:3", "on-failure:x"])
def test_what_is_no_restart_policy(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse.restart(text)


def test_a_seccomp_profile_is_read_here(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{\n "defaultAction": "SCMP_ACT_ALLOW"\n}')
    assert parse.security(f"seccomp={profile}") == 'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}'
    assert parse.security("seccomp=unconfined") == "seccomp=unconfined"
    assert parse.security("no-new-privileges") == "no-new-privileges"
    with pytest.raises(InvalidRequest, match="opening seccomp profile"):
        parse.security("seccomp=/nowhere.json")


@pytest.mark.parametrize(("text", "nanoseconds"), [("", 0), ("1.5", 1_500_000_000), (".1", 100_000_000)])
def test_cpus(text: str, nanoseconds: int) -> None:
    assert parse.cpus(text) == nanoseconds
