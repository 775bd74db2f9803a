"""From what was asked for to mount points: who wins, what is refused and in which words, and what is made for it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wherry.errors import InvalidRequest, NotFound, Unsupported, WherryError
from wherry.spec.container import Config, ContainerView, HostConfig, MountPoint
from wherry.undo import Undo
from wherry.volumes import Volumes, text
from wherry.volumes.plan import Place, plan
from wherry.volumes.requests import warnings


def nobody(name: str) -> ContainerView:
    raise NotFound("container", name)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(volumes=Volumes(tmp_path / "volumes"), container=nobody, roots=(tmp_path,))


def asked(place: Place, config: dict[str, Any] | None = None, **host: Any) -> list[MountPoint]:
    """The plan for a HostConfig in the API's spelling."""
    with Undo() as undo:
        points = plan(msgspec.convert(config or {}, Config), msgspec.convert(host, HostConfig), place, undo)
        undo.keep()
    return points


def refusal(place: Place, **host: Any) -> str:
    with pytest.raises(WherryError) as caught:
        asked(place, **host)
    assert isinstance(caught.value, InvalidRequest | Unsupported)
    assert not place.volumes.all(), "a refused request made a volume"
    return str(caught.value)


def with_other(place: Place, *theirs: MountPoint) -> Place:
    """The same place with a container `other`, which has these mounts."""
    view = ContainerView(
        id="1", name="other", created="", path="", args=[], image_id="", image_name="",
        config=Config(), host_config=HostConfig(), mounts=list(theirs),
    )  # fmt: skip

    def container(name: str) -> ContainerView:
        return view if name == "other" else nobody(name)

    return dataclasses.replace(place, container=container)


def test_outer_targets_come_first(place: Place) -> None:
    """In whatever order they were given, as Docker sorts them: by depth."""
    points = asked(
        place,
        {"Volumes": {"/anonymous": {}}},
        Binds=["/etc:/a/b/c:ro", "deep:/a/b", "outer:/a"],
        Mounts=[{"Type": "tmpfs", "Target": "/a/b/c/d"}],
    )
    assert [p.destination for p in points] == ["/a", "/anonymous", "/a/b", "/a/b/c", "/a/b/c/d"]
    assert [p.type for p in points] == ["volume", "volume", "volume", "bind", "tmpfs"]
    assert [p.rw for p in points] == [True, True, True, False, True]


def test_what_inspect_shows_of_each_kind(place: Place) -> None:
    """The fields that dockerd 20.10 was seen to show."""

    def shown(**host: Any) -> tuple[Any, ...]:
        (point,) = asked(place, **host)
        return (
            point.type,
            point.name,
            point.source and Path(point.source).name,
            point.destination,
            point.driver,
            point.mode,
            point.rw,
            point.propagation,
        )

    assert shown(Binds=["/etc:/x"]) == ("bind", "", "etc", "/x", "", "", True, "rprivate")
    assert shown(Binds=["/etc/:/x/:ro,rslave"]) == ("bind", "", "etc", "/x", "", "ro,rslave", False, "rslave")
    assert shown(Binds=["named:/x"]) == ("volume", "named", "_data", "/x", "local", "z", True, "")
    assert shown(Binds=["named:/x:ro"]) == ("volume", "named", "_data", "/x", "local", "ro", False, "")
    mount = {"Type": "volume", "Source": "named", "Target": "/x", "ReadOnly": True}
    assert shown(Mounts=[mount]) == ("volume", "named", "_data", "/x", "local", "z", False, "")
    mount = {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 0o700}}
    assert shown(Mounts=[mount]) == ("tmpfs", "", "", "/x", "", "", True, "")
    assert asked(place, Tmpfs={"/x": "size=1m"}) == []


def test_later_wins(place: Place) -> None:
    """The image's volume, --volumes-from, then what was asked for; a --tmpfs takes the place of a volume of the image."""
    theirs = MountPoint(type="bind", source="/theirs", destination="/x", rw=True)
    place = with_other(place, theirs)
    image = {"Volumes": {"/x": {}}}
    assert [p.source for p in asked(place, image, VolumesFrom=["other"])] == ["/theirs"]
    assert [p.source for p in asked(place, image, VolumesFrom=["other"], Binds=["/mine:/x"])] == ["/mine"]
    assert asked(place, image, Tmpfs={"/x": ""}) == []
    assert not place.volumes.all()


@pytest.mark.parametrize(
    ("source", "rw"),
    [
        ("other", [True, False]), ("other:rw", [True, False]), ("other:z", [True, False]),
        ("other:ro", [False, False]), ("other:ro,Z", [False, False]),
    ],
)  # fmt: skip
def test_volumes_of_another(place: Place, source: str, rw: list[bool]) -> None:
    """Binds and volumes come along, read only where either says so; a tmpfs does not."""
    place = with_other(
        place,
        MountPoint(type="bind", source="/a", destination="/a", mode="z", propagation="rslave"),
        MountPoint(
            type="volume", name="v", source="/v", destination="/v", driver="local", mode="ro", rw=False
        ),
        MountPoint(type="tmpfs", destination="/t"),
    )
    points = asked(place, VolumesFrom=[source])
    assert [(p.destination, p.mode, p.propagation) for p in points] == [("/a", "", "rslave"), ("/v", "", "")]
    assert [p.rw for p in points] == rw


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("", "invalid volume specification: ''"),
        (":/a", "invalid volume specification: ':/a'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: "
                 "destination can't be '/'"),
        ("/a://", "destination can't be '/'"),
        ("/a:/b/..", "destination can't be '/'"),
        ("/a:/b:zz", "invalid mode: zz"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:ro,ro", "invalid mode: ro,ro"),
        ("/a:/b:z,Z", "invalid mode: z,Z"),
        ("/a:/b:shared,slave", "invalid mode: shared,slave"),
        ("/a:/b:ro,", "invalid mode: ro,"),
        ("a:/c", "create a: volume name is too short, names should be at least two alphanumeric characters"),
        ("a/b:/c", 'create a/b: "a/b" includes invalid characters for a local volume name'),
        ("../x:/c", "includes invalid characters"),
        ("v:/b:rshared", 'for type "volume": field BindOptions must not be specified'),
        ("/a:/b:nocopy", 'for type "bind": field VolumeOptions must not be specified'),
        ("/a\0:/b", "NUL"),
        ("/a:/b\0", "NUL"),
    ],
)  # fmt: skip
def test_bad_binds(place: Place, bind: str, words: str) -> None:
    assert words in refusal(place, Binds=[bind])


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({}, 'invalid mount config for type "": field Target must not be empty'),
        ({"Type": "bogus", "Target": "/x"}, 'invalid mount config for type "bogus": mount type unknown'),
        ({"Type": "bind", "Target": "x"}, "invalid mount path: 'x' mount path must be absolute"),
        ({"Type": "bind", "Target": "/x"}, "field Source must not be empty"),
        ({"Type": "bind", "Target": "/x", "Source": "y"}, "invalid mount path: 'y' mount path must be absolute"),
        ({"Type": "bind", "Target": "/x", "Source": "/no/such"},
         'invalid mount config for type "bind": bind source path does not exist: /no/such'),
        ({"Type": "bind", "Target": "/x", "Source": "/" + "a" * 5000}, "bind source path does not exist"),
        ({"Type": "bind", "Target": "/x", "Source": "/etc", "BindOptions": {"Propagation": "bogus"}},
         "invalid propagation mode: bogus"),
        ({"Type": "bind", "Target": "/x", "Source": "/etc", "VolumeOptions": {"NoCopy": True}},
         "field VolumeOptions must not be specified"),
        ({"Type": "bind", "Target": "/x", "Source": "/etc", "BindOptions": {"ReadOnlyNonRecursive": True}},
         "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive"),
        ({"Type": "bind", "Target": "/x", "Source": "/etc", "BindOptions": {"ReadOnlyForceRecursive": True}},
         "mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        ({"Type": "bind", "Target": "/x", "Source": "/etc", "ReadOnly": True,
          "BindOptions": {"ReadOnlyForceRecursive": True, "ReadOnlyNonRecursive": True}}, "mount options conflict"),
        ({"Type": "volume", "Target": "/x", "BindOptions": {"Propagation": "shared"}},
         "field BindOptions must not be specified"),
        ({"Type": "volume", "Target": "/x", "ReadOnly": True},
         "must not set ReadOnly mode when using anonymous volumes"),
        ({"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}},
         "must not set Subpath when using anonymous volumes"),
        ({"Type": "volume", "Target": "/x", "Source": "v", "VolumeOptions": {"Subpath": "../a"}},
         "subpath must be a relative path within the volume"),
        ({"Type": "volume", "Target": "/x", "Source": "v", "VolumeOptions": {"Subpath": "a/../../b"}},
         "subpath must be a relative path within the volume"),
        ({"Type": "volume", "Target": "/x", "Source": "v", "VolumeOptions": {"Subpath": "/a"}},
         "subpath must be a relative path within the volume"),
        ({"Type": "volume", "Target": "/x", "Source": "v", "VolumeOptions": {"DriverConfig": {"Name": "bogus"}}},
         'plugin "bogus" not found'),
        ({"Type": "volume", "Target": "/x", "Source": "v",
          "VolumeOptions": {"DriverConfig": {"Options": {"device": "tmpfs"}}}}, "options of a volume (device)"),
        ({"Type": "tmpfs", "Target": "/x", "Source": "/etc"}, "field Source must not be specified"),
        ({"Type": "tmpfs", "Target": "/x", "BindOptions": {}}, ""),
        ({"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["suid"]]}}, "invalid option: suid"),
        ({"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["exec", "1"]]}}, "invalid option: exec=1"),
        ({"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [[]]}}, "invalid option array length"),
    ],
)  # fmt: skip
def test_bad_mounts(place: Place, mount: dict[str, Any], words: str) -> None:
    assert words in refusal(place, Mounts=[mount])


@pytest.mark.parametrize(
    "host",
    [
        {"Binds": ["/etc:/x", "/usr:/x/"]},
        {"Binds": ["/etc:/x"], "Mounts": [{"Type": "tmpfs", "Target": "/x"}]},
        {"Binds": ["/etc:/x"], "Tmpfs": {"/x": ""}},
        {"Mounts": [{"Type": "tmpfs", "Target": "/x"}], "Tmpfs": {"//x/.": ""}},
    ],
)
def test_one_target_twice_is_refused(place: Place, host: dict[str, Any]) -> None:
    assert refusal(place, **host) == "Duplicate mount point: /x"


@pytest.mark.parametrize("source", ["", "nobody", "other:rslave", "other:nocopy", "other:bogus"])
def test_bad_volumes_from(place: Place, source: str) -> None:
    refusal(with_other(place), VolumesFrom=[source])


def test_binds_around_the_engine_follow_the_host(place: Place, tmp_path: Path) -> None:
    """A bind of what holds the engine's directories, or of what is in them, is a slave; Docker's words where it may not be."""
    for source in ("/", str(tmp_path.parent), str(tmp_path), str(tmp_path / "volumes" / "x")):
        assert [p.propagation for p in asked(place, Binds=[f"{source}:/x"])] == ["rslave"]
        assert [p.propagation for p in asked(place, Binds=[f"{source}:/x:rshared"])] == ["rshared"]
        said = refusal(place, Binds=[f"{source}:/x:rprivate"])
        assert 'must use either propagation mode "rslave" or "rshared"' in said
    assert [p.propagation for p in asked(place, Binds=[f"{tmp_path}-beside:/x"])] == ["rprivate"]


def test_how_deep_read_only_goes_where_nobody_says(place: Place) -> None:
    """All the way since API 1.44, the top only before; what was said counts."""
    before = dataclasses.replace(place, read_only_recursive=False)

    def shallow(where: Place, options: dict[str, Any] | None) -> bool:
        mount = {"Type": "bind", "Source": "/etc", "Target": "/x", "ReadOnly": True, "BindOptions": options}
        (point,) = asked(where, Mounts=[mount])
        assert point.request is not None
        return bool(point.request.bind_options and point.request.bind_options.read_only_non_recursive)

    assert not shallow(place, None)
    assert shallow(before, None)
    assert shallow(place, {"ReadOnlyNonRecursive": True})
    assert not shallow(before, {"ReadOnlyForceRecursive": True})


def test_what_is_undone_takes_its_anonymous_volumes_along(place: Place) -> None:
    """A create that fails leaves none of them; a named one stays, somebody may have begun to use it."""
    with Undo() as undo:
        plan(Config(volumes={"/a": {}}), HostConfig(binds=["named:/b", "/c"]), place, undo)
        assert len(place.volumes.all()) == 3
    assert [volume.name for volume in place.volumes.all()] == ["named"]


def test_a_file_is_warned_of(place: Place, tmp_path: Path) -> None:
    """Only of regular files: nobody saves a socket."""
    (tmp_path / "file").touch()
    points = asked(place, Binds=[f"{tmp_path}/file:/f", f"{tmp_path}:/d", "/dev/null:/n", "/no/such:/m"])
    (warning,) = warnings(points)
    assert warning.startswith(f"{tmp_path}/file is a file")


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    yield Volumes(tmp_path / "volumes")


def test_links_in_a_volume_lead_nowhere_out_of_it(volumes: Volumes) -> None:
    """A subpath is what it is inside of the volume: what its containers left there leads to no file of the host."""
    top = volumes.path(volumes.ensure("vol").name)
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "inner").symlink_to("sub/deep")
    for name, target in (("absolute", "/etc"), ("up", "../../.."), ("hidden", "sub/../../../..")):
        (top / name).symlink_to(target)
    for subpath in ("sub/deep", "inner", "sub/../sub"):
        os.close(volumes.open("vol", subpath))
    for subpath in ("absolute", "absolute/passwd", "up", "hidden", "sub/none"):
        with pytest.raises(InvalidRequest, match=f"cannot access path {subpath} of volume vol"):
            volumes.open("vol", subpath)


def test_text_and_mount_mean_the_same() -> None:
    request, mode = text.bind("/a:/b:ro,Z,slave")
    assert (request.type, request.source, request.target, request.read_only, mode) == (
        "bind", "/a", "/b", True, "ro,Z,slave",
    )  # fmt: skip
    assert request.bind_options is not None
    assert request.bind_options.create_mountpoint and request.bind_options.propagation == "slave"
    request, _ = text.bind("v:/b:nocopy", "local")
    assert request.volume_options is not None and request.volume_options.no_copy
    request, _ = text.bind("/only")
    assert (request.type, request.source, request.target) == ("volume", "", "/only")
