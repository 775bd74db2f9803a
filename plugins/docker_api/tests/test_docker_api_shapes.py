"""The shape of answers: the keys of dockerd 28, its nulls, its empty lists and maps."""

from typing import Any

import pytest
from docker_api_memory import MemoryEngine
from docker_api_raw import Raw
from hypothesis import given
from hypothesis import strategies as st

from wherry_docker_api import words

INSPECT = """AppArmorProfile Args Config Created Driver ExecIDs GraphDriver HostConfig HostnamePath HostsPath Id Image LogPath
MountLabel Mounts Name NetworkSettings Path Platform ProcessLabel ResolvConfPath RestartCount State""".split()
CONFIG = """AttachStderr AttachStdin AttachStdout Cmd Domainname Entrypoint Env Hostname Image Labels OnBuild OpenStdin
StdinOnce Tty User Volumes WorkingDir""".split()
HOST_CONFIG = """AutoRemove Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeight
BlkioWeightDevice CapAdd CapDrop Cgroup CgroupParent CgroupnsMode ConsoleSize ContainerIDFile CpuCount CpuPercent CpuPeriod
CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus CpusetMems DeviceCgroupRules DeviceRequests Devices Dns
DnsOptions DnsSearch ExtraHosts GroupAdd IOMaximumBandwidth IOMaximumIOps IpcMode Isolation Links LogConfig MaskedPaths Memory
MemoryReservation MemorySwap MemorySwappiness NanoCpus NetworkMode OomKillDisable OomScoreAdj PidMode PidsLimit PortBindings
Privileged PublishAllPorts ReadonlyPaths ReadonlyRootfs RestartPolicy SecurityOpt ShmSize UTSMode Ulimits UsernsMode
VolumeDriver VolumesFrom""".split()
NETWORK_SETTINGS = """Bridge EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen HairpinMode IPAddress IPPrefixLen IPv6Gateway
LinkLocalIPv6Address LinkLocalIPv6PrefixLen MacAddress Networks Ports SandboxID SandboxKey SecondaryIPAddresses
SecondaryIPv6Addresses""".split()
ENDPOINT = """Aliases DNSNames DriverOpts EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen GwPriority IPAMConfig
IPAddress IPPrefixLen IPv6Gateway Links MacAddress NetworkID""".split()
SUMMARY = """Command Created HostConfig Id Image ImageID Labels Mounts Names NetworkSettings Ports State Status""".split()
STATE = "Dead Error ExitCode FinishedAt OOMKilled Paused Pid Restarting Running StartedAt Status".split()


@pytest.fixture
def shown(raw: Raw) -> Any:
    raw.ask("POST", "/containers/create?name=plain", {"Image": "busybox", "Cmd": ["echo", "two words"]})
    return raw.get("/containers/plain/json")


def test_inspect_has_dockers_keys(shown: Any) -> None:
    """No more, no fewer: clients tell a missing key from null."""
    assert sorted(shown) == INSPECT
    assert sorted(shown["Config"]) == CONFIG
    assert sorted(shown["HostConfig"]) == HOST_CONFIG
    assert sorted(shown["NetworkSettings"]) == NETWORK_SETTINGS
    assert sorted(shown["NetworkSettings"]["Networks"]["bridge"]) == ENDPOINT
    assert sorted(shown["State"]) == STATE


def test_inspect_has_dockers_nulls(shown: Any) -> None:
    """null, [] and {} where dockerd has them."""
    config, host_config, network = shown["Config"], shown["HostConfig"], shown["NetworkSettings"]
    assert [config[key] for key in ("Entrypoint", "Volumes", "OnBuild")] == [None] * 3
    assert config["Labels"] == {}
    for key in ("Binds", "CapAdd", "VolumesFrom", "Links", "MemorySwappiness", "PidsLimit", "OomKillDisable"):
        assert host_config[key] is None
    assert (host_config["PortBindings"], host_config["BlkioWeightDevice"]) == ({}, [])
    assert host_config["ConsoleSize"] == [0, 0]
    assert host_config["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert network["Ports"] == {}
    assert network["SecondaryIPAddresses"] is None
    assert (shown["Mounts"], shown["ExecIDs"]) == ([], None)
    assert shown["State"]["StartedAt"] == shown["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"


def test_what_is_set_is_shown(raw: Raw) -> None:
    """Keys that Go leaves out when they are empty come when they are not."""
    body = {
        "Image": "busybox", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "SIGINT",
        "StopTimeout": 0, "Shell": ["/bin/sh"], "Healthcheck": {"Test": ["NONE"], "Interval": 5},
        "HostConfig": {
            "Sysctls": {"a": "b"}, "Init": False, "Tmpfs": {"/t": ""}, "Runtime": "lxc", "StorageOpt": {"size": "1"},
            "Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 5}}],
            "Annotations": {"a": "b"}, "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
        },
    }  # fmt: skip
    assert raw.ask("POST", "/containers/create?name=full", body).status == 201
    shown = raw.get("/containers/full/json?size=1")
    assert shown["Config"]["Healthcheck"] == {"Test": ["NONE"], "Interval": 5}
    assert shown["Config"]["StopTimeout"] == 0
    assert shown["Config"]["Volumes"] == {"/v": {}}
    assert shown["HostConfig"]["Mounts"] == [
        {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 5}}
    ]
    assert shown["HostConfig"]["Init"] is False
    assert shown["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert {"Sysctls", "Tmpfs", "Runtime", "StorageOpt", "Annotations"} <= set(shown["HostConfig"])
    assert (shown["SizeRw"], shown["SizeRootFs"]) == (12, 345)


def test_a_line_of_ps(raw: Raw, shown: Any) -> None:
    """Key set, quoting of the command, sizes only where they were asked for."""
    (line,) = raw.get("/containers/json?all=1")
    assert sorted(line) == SUMMARY
    assert line["Command"] == "echo 'two words'"
    assert line["Names"] == ["/plain"]
    assert (line["State"], line["Status"], line["Ports"]) == ("created", "Created", [])
    (line,) = raw.get("/containers/json?all=1&size=1")
    assert (line["SizeRw"], line["SizeRootFs"]) == (12, 345)
    assert raw.get("/containers/json") == []


def test_images_follow_the_version_asked_for(raw: Raw, engine: MemoryEngine) -> None:
    """What older versions had is still there for those who speak them."""
    new, old = raw.get("/v1.51/images/busybox/json"), raw.get("/v1.43/images/busybox/json")
    assert set(old) - set(new) == {"VirtualSize", "Container", "ContainerConfig"}
    assert sorted(new["Config"]) == "Cmd Entrypoint Env Labels OnBuild User Volumes WorkingDir".split()
    assert set(new["Config"]) < set(old["Config"])
    assert old["Config"]["Hostname"] == ""
    (line,) = raw.get("/v1.51/images/json")
    assert sorted(line) == (
        "Containers Created Id Labels ParentId RepoDigests RepoTags SharedSize Size".split()
    )
    assert (line["RepoTags"], line["RepoDigests"], line["Labels"]) == (["busybox:latest"], [], None)
    assert raw.get("/v1.42/images/json")[0]["RepoDigests"] == ["<none>@<none>"]


def test_a_network(raw: Raw) -> None:
    """Key set; the list names no members, inspect does."""
    (line,) = raw.get("/networks")
    assert sorted(line) == sorted(
        "Name Id Created Scope Driver EnableIPv4 EnableIPv6 IPAM Internal Attachable Ingress ConfigFrom ConfigOnly "
        "Containers Options Labels".split()
    )
    assert line["IPAM"]["Config"] == [{"Subnet": "172.30.0.0/16", "Gateway": "172.30.0.1"}]


def test_other_answers(raw: Raw) -> None:
    """Small ones, whole."""
    assert raw.get("/volumes") == {"Volumes": [], "Warnings": None}
    assert raw.get("/plugins") == []
    assert raw.ask("POST", "/containers/prune").json == {"ContainersDeleted": None, "SpaceReclaimed": 0}
    assert raw.ask("POST", "/volumes/prune").json == {"VolumesDeleted": None, "SpaceReclaimed": 0}
    assert raw.get("/wherry/drivers?check=1") == [
        {"kind": "exec", "name": "memory", "state": "in use", "checked": True}
    ]
    assert set(raw.get("/v1.41/system/df")) - set(raw.get("/system/df")) == {"BuilderSize"}
    version = raw.get("/version")
    assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.51", "1.24")
    assert version["Components"][0]["Name"] == "Engine"


def test_older_versions_mean_what_they_meant(raw: Raw, engine: MemoryEngine) -> None:
    """Saying nothing meant something else once."""
    body = {"Image": "busybox", "HostConfig": {"AutoRemove": True, "ConsoleSize": [1, 2], "PidsLimit": -1}}
    for version in ("1.24", "1.39", "1.51"):
        assert raw.ask("POST", f"/v{version}/containers/create", body).status == 201
    oldest, old, new = (each.host_config for each in engine.requests)
    assert (oldest.auto_remove, old.auto_remove, new.auto_remove) == (False, True, True)
    assert (old.ipc_mode, new.ipc_mode) == ("shareable", "")
    assert (old.console_size, new.console_size) == (None, [1, 2])
    assert new.pids_limit is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.5, "Less than a second"), (1.9, "1 second"), (59, "59 seconds"), (60, "About a minute"),
        (119, "About a minute"), (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"), (5399, "About an hour"),
        (5400, "2 hours"), (47.4 * 3600, "47 hours"), (48 * 3600, "2 days"), (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations_are_dockers(seconds: float, said: str) -> None:
    """go-units' words, at their borders."""
    assert words.duration(seconds) == said


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_a_time_comes_back(time_ns: int) -> None:
    """RFC 3339 there and back, to the microsecond that a float has."""
    assert abs(words.seconds(words.stamp(time_ns)) - time_ns / 1e9) < 1e-5
