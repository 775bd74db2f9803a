"""What every storage driver promises, as tests: `class TestMine(StorageDriverContract)` with a fixture `driver`.

    class TestMine(StorageDriverContract):
        @pytest.fixture
        def driver(self, tmp_path: Path) -> MyStorage:
            return MyStorage(root=tmp_path / "mine")

The layers are mounted for real, as detached mounts that nothing else sees (this needs root).
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import Conflict, InvalidRequest, NotFound
from wherry.linux import mounts, tree
from wherry.spec.storage import Overlay, Rootfs

BASE, TOP, OTHER, CONTAINER = "ba5e" * 16, "70b0" * 16, "07e5" * 16, "c0de" * 16
_TIME = 1_600_000_000


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive for `archive`: a file, unless `type` says what else; any field of TarInfo may be set."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o644, _TIME
    for key, value in fields.items():
        setattr(info, key, value)
    info.size = len(content)
    return info, content


def directory(name: str, mode: int = 0o755, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def link(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target, **fields)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def archive(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    """An archive of members, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer


@contextmanager
def mounted(rootfs: Rootfs) -> Iterator[Path]:
    """The root file system as a path, mounted where nobody else sees it."""
    if isinstance(rootfs, Overlay):
        descriptor = mounts.overlay(rootfs.lowers, rootfs.upper, rootfs.work, rootfs.options)
    else:
        descriptor = mounts.clone_tree(rootfs.path)
        if rootfs.read_only:
            mounts.mount_setattr(descriptor, add=mounts.MOUNT_ATTR_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def tree_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything that makes up a tree: path → (type and mode, owner, time, content or target or device, xattrs)."""
    found: dict[str, tuple[Any, ...]] = {}
    paths = [root]
    for path in paths:
        about = path.lstat() if path != root else path.stat()
        content: Any = None
        if stat.S_ISDIR(about.st_mode):
            paths += sorted(path.iterdir())
        elif stat.S_ISREG(about.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(about.st_mode):
            content = os.readlink(path)
        elif stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode):
            content = about.st_rdev
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=path == root)
            for key in os.listxattr(path, follow_symlinks=path == root)
            if key.startswith("user.")
        }
        owner = (about.st_uid, about.st_gid)
        relative = str(path.relative_to(root))
        found[relative] = (about.st_mode, owner, about.st_mtime_ns, content, tuple(sorted(xattrs.items())))
    return found


class StorageDriverContract:
    """Held against a `driver`: an instance with an empty root. Hooks are called as plain methods."""

    @pytest.fixture
    def driver(self, tmp_path: Path) -> Any:
        raise NotImplementedError("a contract's subclass gives the driver")

    @pytest.fixture
    def again(self, driver: Any) -> Callable[[], Any]:
        """The driver of the next process on the same root. Override it if the driver's class takes more than `root`."""
        return lambda: type(driver)(root=driver._root)

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Iterator[Path]:
        """A directory beside the driver's root, in which nothing may change."""
        place = tmp_path / "outside"
        place.mkdir()
        (place / "victim").write_bytes(b"untouched")
        yield place
        assert [entry.name for entry in place.iterdir()] == ["victim"]
        assert (place / "victim").read_bytes() == b"untouched"
        assert (place / "victim").stat().st_nlink == 1

    def fill(
        self, driver: Any, layer: str, parent: str | None, *members: tuple[tarfile.TarInfo, bytes]
    ) -> int:
        driver.create(layer=layer, parent=parent)
        size = driver.apply(layer=layer, archive=archive(*members)).size
        assert isinstance(size, int)
        return size

    def seen(self, driver: Any, layer: str) -> dict[str, tuple[Any, ...]]:
        with mounted(driver.rootfs(layer=layer, writable=False)) as root:
            return tree_of(root)

    # -- layers come and go

    def test_a_layer_is_owned_from_create_to_remove(self, driver: Any) -> None:
        """`owned()` lists whole layers, sorted."""
        driver.create(layer=TOP, parent=None)
        driver.create(layer=BASE, parent=None)
        assert driver.owned() == sorted([BASE, TOP])
        driver.remove(layer=TOP)
        assert driver.owned() == [BASE]

    def test_a_layer_is_made_once(self, driver: Any) -> None:
        """Creating a layer that is there is a conflict, and changes nothing."""
        self.fill(driver, BASE, None, member("file", b"1"))
        with pytest.raises(Conflict):
            driver.create(layer=BASE, parent=None)
        assert "file" in self.seen(driver, BASE)
        assert driver.owned() == [BASE]

    def test_removing_what_is_gone_is_success(self, driver: Any) -> None:
        """Removal may be repeated."""
        driver.remove(layer=BASE)
        driver.create(layer=BASE, parent=None)
        driver.remove(layer=BASE)
        driver.remove(layer=BASE)
        driver.create(layer=BASE, parent=None)
        assert set(self.seen(driver, BASE)) == {"."}

    def test_an_unknown_layer_is_not_found(self, driver: Any) -> None:
        """Every hook that needs a layer says NotFound("layer", id)."""
        asks: list[Callable[[], object]] = [
            lambda: driver.rootfs(layer=BASE, writable=True),
            lambda: driver.changes(layer=BASE),
            lambda: driver.diff(layer=BASE, archive=io.BytesIO()),
            lambda: driver.apply(layer=BASE, archive=archive()),
            lambda: driver.usage(layer=BASE),
            lambda: driver.sync(layer=BASE),
            lambda: driver.create(layer=TOP, parent=BASE),
        ]
        for ask in asks:
            with pytest.raises(NotFound) as caught:
                ask()
            assert (caught.value.kind, caught.value.name) == ("layer", BASE)
        assert driver.owned() == []

    def test_layers_outlive_the_process(self, driver: Any, again: Callable[[], Any]) -> None:
        """The next driver on the same root has the same layers with the same parents."""
        self.fill(driver, BASE, None, member("below", b"1"))
        self.fill(driver, TOP, BASE, member("above", b"2"))
        driver.sync(layer=TOP)
        next_driver = again()
        assert next_driver.recover() == []
        assert next_driver.owned() == sorted([BASE, TOP])
        assert {"below", "above"} < set(self.seen(next_driver, TOP))
        assert [change.path for change in next_driver.changes(layer=TOP)] == ["/above"]

    def test_status_has_text_facts(self, driver: Any) -> None:
        """`status()` answers texts for `docker info`."""
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in driver.status().items())

    # -- what a layer keeps

    def test_everything_about_a_file_is_kept(self, driver: Any) -> None:
        """Content, owner, mode, time, xattrs, links of both kinds, devices, pipes."""
        size = self.fill(
            driver, BASE, None,
            directory("./", mode=0o750, uid=7, gid=8),
            directory("d", mode=0o1777, uid=1000, gid=1001),
            member("d/file", b"content", mode=0o4755, uid=1000, gid=4_000_000_000,
                   pax_headers={"SCHILY.xattr.user.colour": "blue", "mtime": "1600000000.123456789"}),
            hard_link("again", "d/file"),
            link("link", "/d/../nowhere", uid=5),
            member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            member("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660),
            member("pipe", type=tarfile.FIFOTYPE, mode=0o600),
            member("empty"),
        )  # fmt: skip
        assert size == len(b"content")
        assert driver.usage(layer=BASE) >= size
        found = self.seen(driver, BASE)
        assert stat.S_IMODE(found["."][0]) == 0o750 and found["."][1] == (7, 8)
        assert stat.S_IMODE(found["d"][0]) == 0o1777 and found["d"][1] == (1000, 1001)
        assert found["d"][2] == _TIME * 10**9
        file = (
            stat.S_IFREG | 0o4755, (1000, 4_000_000_000), _TIME * 10**9 + 123456789, b"content",
            (("user.colour", b"blue"),),
        )  # fmt: skip
        assert found["d/file"] == found["again"] == file
        assert found["link"][0] == stat.S_IFLNK | 0o777 and found["link"][1] == (5, 0)
        assert found["link"][3] == "/d/../nowhere"
        assert found["null"][0] == stat.S_IFCHR | 0o666 and found["null"][3] == os.makedev(1, 3)
        assert found["disk"][0] == stat.S_IFBLK | 0o660 and found["disk"][3] == os.makedev(8, 1)
        assert found["pipe"][0] == stat.S_IFIFO | 0o600
        with mounted(driver.rootfs(layer=BASE, writable=False)) as root:
            assert (root / "d/file").stat().st_ino == (root / "again").stat().st_ino

    def test_capabilities_of_a_file_are_kept(self, driver: Any) -> None:
        """security.capability comes back through `diff`, byte for byte."""
        capability = bytes.fromhex("0100000200200000000000000000000000000000")
        text = capability.decode("utf-8", "surrogateescape")
        self.fill(
            driver,
            BASE,
            None,
            member("ping", b"x", uid=3, pax_headers={"SCHILY.xattr.security.capability": text}),
        )
        with mounted(driver.rootfs(layer=BASE, writable=False)) as root:
            assert os.getxattr(root / "ping", "security.capability") == capability
        assert (
            self.difference(driver, BASE).getmember("ping").pax_headers["SCHILY.xattr.security.capability"]
            == text
        )

    def test_the_root_looks_as_the_image_says(self, driver: Any) -> None:
        """A container's root has the mode and owner of its image's; without a word in the image it is root's and 0755."""
        driver.create(layer=OTHER, parent=None)
        driver.create(layer=CONTAINER, parent=OTHER)
        with mounted(driver.rootfs(layer=CONTAINER, writable=True)) as root:
            about = root.stat()
            assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (0o755, 0, 0)
        self.fill(driver, BASE, None, directory("./", mode=0o711, uid=12, gid=34))
        self.fill(driver, TOP, BASE, member("x"))
        driver.remove(layer=CONTAINER)
        driver.create(layer=CONTAINER, parent=TOP)
        with mounted(driver.rootfs(layer=CONTAINER, writable=True)) as root:
            about = root.stat()
            assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (0o711, 12, 34)

    def test_a_later_entry_replaces_an_earlier_one(self, driver: Any) -> None:
        """A name may come twice, as anything; a directory that comes twice keeps what is in it."""
        self.fill(
            driver, BASE, None,
            member("a", b"old"), member("a", b"new"),
            directory("b"), member("b/inner", b"1"), member("b", b"a file now"),
            member("c", b"1"), directory("c"), member("c/inner", b"2"),
            directory("d", mode=0o700), member("d/inner", b"3"), directory("d", mode=0o711),
            link("e", "a"), member("e", b"no link"),
            member("f", b"1"), hard_link("g", "f"), member("f", b"2"), hard_link("f2", "f"),
        )  # fmt: skip
        found = self.seen(driver, BASE)
        assert {path: about[3] for path, about in found.items() if about[3] is not None} == {
            "a": b"new", "b": b"a file now", "c/inner": b"2", "d/inner": b"3", "e": b"no link", "f": b"2", "f2": b"2",
            "g": b"1",
        }  # fmt: skip
        assert stat.S_IMODE(found["d"][0]) == 0o711

    @pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
    def test_long_and_odd_names_are_kept(self, driver: Any, format: int) -> None:
        """Long paths, long targets, names that are no UTF-8, names with a line break."""
        deep = "/".join(["d" * 200] * 10)
        odd = [f"{deep}/{'f' * 255}", "caf\udce9", "line\nbreak", "ünï", " ", "-rf", "a\\b"]
        driver.create(layer=BASE, parent=None)
        members = [*(member(name, b"1") for name in odd), link("link", "t" * 1000)]
        driver.apply(layer=BASE, archive=archive(*members, format=format))
        found = self.seen(driver, BASE)
        assert all(found[name][3] == b"1" for name in odd)
        assert found["link"][3] == "t" * 1000

    def test_an_archive_without_directories_is_unpacked(self, driver: Any) -> None:
        """Parents that the archive does not name are root's and 0755; those below the layer stay as they are there."""
        self.fill(
            driver, BASE, None, directory("tmp", mode=0o1777), directory("home/me", mode=0o700, uid=1000)
        )
        self.fill(driver, TOP, BASE, member("tmp/file"), member("home/me/file"), member("new/deep/file"))
        found = self.seen(driver, TOP)
        assert stat.S_IMODE(found["tmp"][0]) == 0o1777
        assert stat.S_IMODE(found["home/me"][0]) == 0o700 and found["home/me"][1] == (1000, 0)
        assert stat.S_IMODE(found["new/deep"][0]) == 0o755 and found["new/deep"][1] == (0, 0)

    # -- what a layer deletes

    def test_whiteouts_delete_what_is_below(self, driver: Any) -> None:
        """`.wh.x` hides a file or a directory of the layers below; `.wh..wh..opq` all that a directory holds."""
        self.fill(
            driver, BASE, None, member("file"), member("d/one"), member("d/two"), member("opaque/old"),
            member("opaque/kept"), member("replaced/old"), member("again/old"),
        )  # fmt: skip
        self.fill(
            driver, TOP, BASE,
            member(".wh.file"), member("d/.wh.one"), member("opaque/.wh..wh..opq"), member("opaque/kept", b"new"),
            member(".wh.replaced"), directory("replaced"), member("replaced/new"),
            member(".wh.again"), member("again/new"),
            member(".wh.never-was"), member(".wh..wh.plnk"),
        )  # fmt: skip
        found = self.seen(driver, TOP)
        assert set(found) == {
            ".", "d", "d/two", "opaque", "opaque/kept", "replaced", "replaced/new", "again", "again/new"
        }  # fmt: skip
        assert found["opaque/kept"][3] == b"new"
        assert "file" in self.seen(driver, BASE)

    def test_an_opaque_mark_spares_the_layer_itself(self, driver: Any) -> None:
        """The mark may come after what the layer puts into the directory."""
        self.fill(driver, BASE, None, member("d/old"), member("d/sub/old"))
        self.fill(
            driver, TOP, BASE, directory("d"), member("d/sub/new"), member("d/new"), member("d/.wh..wh..opq")
        )
        assert {"d/new", "d/sub/new"} <= set(self.seen(driver, TOP))
        assert "d/old" not in self.seen(driver, TOP)

    def test_layers_stack(self, driver: Any) -> None:
        """What one layer deletes, the next may make again; the topmost word holds."""
        self.fill(driver, BASE, None, member("a", b"1"), member("b", b"1"), member("c/d", b"1"))
        self.fill(driver, TOP, BASE, member(".wh.a"), member("b", b"2"), member(".wh.c"))
        self.fill(driver, OTHER, TOP, member("a", b"3"), member("c/e", b"3"))
        found = self.seen(driver, OTHER)
        assert {path: about[3] for path, about in found.items() if about[3] is not None} == {
            "a": b"3", "b": b"2", "c/e": b"3"
        }  # fmt: skip

    # -- hostile archives

    @pytest.mark.parametrize(
        ("name", "members"),
        [
            ("../escape", [member("../escape")]),
            ("a/../../escape", [member("a/../../escape")]),
            ("d/..", [directory("d/..", mode=0o777)]),
            ("link", [hard_link("link", "../outside/victim")]),
            ("missing", [hard_link("missing", "nothing")]),
            ("directory", [directory("d"), hard_link("directory", "d")]),
            ("file/below", [member("file"), member("file/below")]),
            ("n" * 256, [member("n" * 256)]),
            ("long", [member("long/" * 2000)]),
            (".", [member("./.", type=tarfile.SYMTYPE, linkname="/etc")]),
            (".wh.", [member(".wh.")]),
            (".wh...", [member("d/.wh...")]),
            ("dangling/x", [link("dangling", "/nowhere"), member("dangling/x")]),
            ("loop/x", [link("loop", "loop"), member("loop/x")]),
            ("empty", [link("empty", "")]),
            ("owner", [member("owner", pax_headers={"uid": "4294967295"})]),
            ("owner", [member("owner", pax_headers={"uid": "99999999999"})]),
            ("device", [member("device", type=b"D")]),
        ],
        ids=lambda value: value[:20] if isinstance(value, str) else "",
    )
    def test_a_hostile_archive_is_refused(
        self, driver: Any, outside: Path, name: str, members: list[tuple[tarfile.TarInfo, bytes]]
    ) -> None:
        """InvalidRequest names the entry; nothing is written outside of the layer; the layer can be removed."""
        driver.create(layer=BASE, parent=None)
        with pytest.raises(InvalidRequest) as caught:
            driver.apply(layer=BASE, archive=archive(*members))
        assert name[:20] in str(caught.value)
        assert "\n" not in str(caught.value)
        driver.remove(layer=BASE)
        assert driver.owned() == []

    def test_links_lead_nowhere_outside(self, driver: Any, outside: Path) -> None:
        """A link out of the layer, and then a file through it: it lands inside, as it would for a program in there."""
        up = "/".join([".."] * 40)
        self.fill(
            driver, BASE, None,
            link("up", f"{up}{outside}"), link("absolute", str(outside)),
            directory(str(outside)[1:]),
            member("up/one", b"x"), member("absolute/two", b"x"), member(f"{outside}/three", b"x"),
            hard_link("stolen", "up/one"), link("self", "/proc/self/root"), directory("proc/self/root"),
            member("self/four", b"x"),
            link("victim", f"{outside}/victim"), member("victim", b"overwritten?"),
        )  # fmt: skip
        found = self.seen(driver, BASE)
        inside = str(outside)[1:]
        assert {f"{inside}/one", f"{inside}/two", f"{inside}/three", "proc/self/root/four", "stolen"} <= set(
            found
        )

    @pytest.mark.parametrize("cut", [100, 511, 513, 700, 1024 + 300], ids=lambda at: f"cut at {at}")
    def test_a_cut_archive_is_refused(self, driver: Any, cut: int) -> None:
        """An archive that ends in the middle of something is said to."""
        whole = archive(member("first", b"x" * 600), member("second", b"y")).getvalue()
        driver.create(layer=BASE, parent=None)
        with pytest.raises(InvalidRequest):
            driver.apply(layer=BASE, archive=io.BytesIO(whole[:cut]))

    def test_what_is_no_archive_is_refused(self, driver: Any) -> None:
        """Noise is not unpacked."""
        driver.create(layer=BASE, parent=None)
        for noise in (b"\x7fELF" * 1000, b"a" * 10240, b"\0" * 100, os.urandom(5000)):
            with pytest.raises(InvalidRequest):
                driver.apply(layer=BASE, archive=io.BytesIO(noise))

    def test_an_overlay_of_our_own_cannot_be_forged(self, driver: Any) -> None:
        """Attributes by which the kernel's overlay would look elsewhere do not pass."""
        evil = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y",
                "SCHILY.xattr.user.overlay.opaque": "y"}  # fmt: skip
        self.fill(driver, BASE, None, member("d/below"))
        self.fill(driver, TOP, BASE, directory("d", pax_headers=evil), member("d/above"))
        assert {"d/below", "d/above"} <= set(self.seen(driver, TOP))

    # -- what a container changes

    def work(self, root: Path) -> None:
        """What a container does to the layer that `prepared` made."""
        (root / "modified").write_bytes(b"longer than before")
        (root / "deleted").unlink()
        (root / "dir/added").write_bytes(b"added")
        (root / "dir/sub/x").unlink()
        (root / "gone/inner").unlink()
        (root / "gone").rmdir()
        (root / "again/inner").unlink()
        (root / "again").rmdir()
        (root / "again").mkdir()
        (root / "again/other").write_bytes(b"")
        (root / "file-to-dir").unlink()
        (root / "file-to-dir").mkdir()
        (root / "owned").chmod(0o600)
        os.chown(root / "owned", 9, 9)
        (root / "link").symlink_to("dir")
        os.link(root / "dir/added", root / "hard")
        os.mkfifo(root / "pipe")
        (root / "new/deep").mkdir(parents=True)
        (root / "new/deep/file").write_bytes(b"deep")

    def prepared(self, driver: Any) -> None:
        self.fill(
            driver, BASE, None,
            member("same", b"same"), member("modified", b"short"), member("deleted"), member("dir/kept", b"kept"),
            member("dir/sub/x"), member("gone/inner"), member("again/inner"), member("file-to-dir"),
            member("owned", b"mine"), member("untouched/deep/file"),
        )  # fmt: skip
        driver.create(layer=CONTAINER, parent=BASE)
        with mounted(driver.rootfs(layer=CONTAINER, writable=True)) as root:
            self.work(root)

    EXPECTED = (
        ("/again", "modified"), ("/again/inner", "deleted"), ("/again/other", "added"), ("/deleted", "deleted"),
        ("/dir", "modified"), ("/dir/added", "added"), ("/dir/sub", "modified"), ("/dir/sub/x", "deleted"),
        ("/file-to-dir", "modified"), ("/gone", "deleted"), ("/hard", "added"), ("/link", "added"),
        ("/modified", "modified"), ("/new", "added"), ("/new/deep", "added"), ("/new/deep/file", "added"),
        ("/owned", "modified"), ("/pipe", "added"),
    )  # fmt: skip

    def test_changes_are_told(self, driver: Any) -> None:
        """Added, modified and deleted paths, sorted, with the directories in which something changed."""
        self.prepared(driver)
        assert [(change.path, change.kind) for change in driver.changes(layer=CONTAINER)] == list(
            self.EXPECTED
        )

    def test_a_fresh_layer_changes_nothing(self, driver: Any) -> None:
        """No changes, an empty archive, nothing used."""
        self.fill(driver, BASE, None, member("file", b"x"), directory("d"))
        driver.create(layer=CONTAINER, parent=BASE)
        assert driver.changes(layer=CONTAINER) == []
        assert driver.usage(layer=CONTAINER) == 0
        assert self.difference(driver, CONTAINER).getnames() == []

    def difference(self, driver: Any, layer: str) -> tarfile.TarFile:
        buffer = io.BytesIO()
        driver.diff(layer=layer, archive=buffer)
        buffer.seek(0)
        return tarfile.open(fileobj=buffer)

    def test_a_diff_makes_the_same_layer_elsewhere(self, driver: Any) -> None:
        """`diff` of one layer, applied to another on the same parent, gives the same root file system."""
        self.prepared(driver)
        buffer = io.BytesIO()
        driver.diff(layer=CONTAINER, archive=buffer)
        buffer.seek(0)
        driver.create(layer=TOP, parent=BASE)
        driver.apply(layer=TOP, archive=buffer)
        one, other = self.seen(driver, CONTAINER), self.seen(driver, TOP)
        whole = {path: (about[0], about[1], about[3], about[4]) for path, about in one.items()}
        assert whole == {path: (about[0], about[1], about[3], about[4]) for path, about in other.items()}

    def test_a_diff_is_reproducible(self, driver: Any) -> None:
        """The same layer gives the same bytes, and an archive that others read."""
        self.prepared(driver)
        buffers = [io.BytesIO(), io.BytesIO()]
        for buffer in buffers:
            driver.diff(layer=CONTAINER, archive=buffer)
        assert buffers[0].getvalue() == buffers[1].getvalue()
        names = self.difference(driver, CONTAINER).getnames()
        assert {".wh.deleted", ".wh.gone", "again/.wh.inner", "dir/sub/.wh.x", "new/deep/file"} <= set(names)
        assert not [name for name in names if name.startswith("untouched") or name == "same"]
        links = {info.name: info.linkname for info in self.difference(driver, CONTAINER) if info.islnk()}
        assert links in ({"hard": "dir/added"}, {"dir/added": "hard"})

    def test_the_layer_below_never_changes(self, driver: Any) -> None:
        """A container writes to its own layer only."""
        self.fill(driver, BASE, None, member("file", b"1"), directory("d"))
        before = self.seen(driver, BASE)
        driver.create(layer=CONTAINER, parent=BASE)
        with mounted(driver.rootfs(layer=CONTAINER, writable=True)) as root:
            (root / "file").write_bytes(b"2")
            (root / "d/new").write_bytes(b"")
        assert self.seen(driver, BASE) == before

    def test_a_read_only_root_is_read_only(self, driver: Any) -> None:
        """`writable=False` can be written by nobody."""
        self.fill(driver, BASE, None, member("file", b"1"))
        with mounted(driver.rootfs(layer=BASE, writable=False)) as root, pytest.raises(OSError):
            (root / "file").write_bytes(b"2")

    def test_a_name_that_looks_like_a_whiteout_deletes_nothing(self, driver: Any) -> None:
        """A container's own file `.wh.x` is left out of the archive, where it would mean something else."""
        self.fill(driver, BASE, None, member("x", b"1"))
        driver.create(layer=CONTAINER, parent=BASE)
        with mounted(driver.rootfs(layer=CONTAINER, writable=True)) as root:
            (root / ".wh.x").write_bytes(b"")
        assert ".wh.x" not in self.difference(driver, CONTAINER).getnames()

    def test_a_tree_of_any_depth_can_be_removed(self, driver: Any, tmp_path: Path) -> None:
        """A container may nest directories deeper than a path is long: `changes` says so, and they can be removed."""
        top = os.open(tmp_path, os.O_RDONLY)
        try:
            driver.create(layer=BASE, parent=None)
            with mounted(driver.rootfs(layer=BASE, writable=True)) as root:
                descriptor = os.open(root, os.O_RDONLY)
                for _ in range(3000):
                    os.mkdir("ab", dir_fd=descriptor)
                    inner = os.open("ab", os.O_RDONLY, dir_fd=descriptor)
                    os.close(descriptor)
                    descriptor = inner
                os.close(descriptor)
            with pytest.raises(InvalidRequest):
                driver.changes(layer=BASE)
            driver.remove(layer=BASE)
            assert driver.owned() == []
            end = time.monotonic() + 30
            while _entries(top) > 20:
                assert time.monotonic() < end, "the tree is still on the disk"
                time.sleep(0.01)
        finally:
            # pytest deletes recursively, and would stumble over what is left.
            for name in os.listdir(top):
                tree.remove(top, name)
            os.close(top)


def _entries(top: int) -> int:
    """How many files are below a directory; many while something is too deep to be named."""
    try:
        return sum(1 for _ in tree.walk(top))
    except OSError:
        return 1_000_000
