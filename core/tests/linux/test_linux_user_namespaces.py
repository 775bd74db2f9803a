"""User namespaces, and mounts that show other owners than are on the disk."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.linux import capabilities, mapped, namespaces, user_namespaces
from wherry.linux.credentials import making_files_as

UIDS = ((0, 200_000, 1000), (1000, 300_000, 10))
GIDS = ((0, 400_000, 65536),)
OWNER = (200_000, 400_000)


@pytest.fixture(scope="module")
def userns() -> Iterator[int]:
    (descriptor,) = user_namespaces.make(UIDS, GIDS)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    for name in ("top", "bottom", "own/upper", "own/work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "top" / "of-root").write_text("top")
    (tmp_path / "bottom" / "of-user").write_text("bottom")
    os.chown(tmp_path / "bottom" / "of-user", 1003, 7)
    (tmp_path / "bottom" / "unmapped").write_text("")
    os.chown(tmp_path / "bottom" / "unmapped", 5000, 0)
    (tmp_path / "bottom" / "deleted").write_text("")
    for directory in ("emptied", "replaced"):
        (tmp_path / "bottom" / directory / "inner").mkdir(parents=True)
    return tmp_path


@pytest.fixture(params=[None, False], ids=["as-this-kernel-can", "as-before-6.15"])
def root(
    layers: Path, userns: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """A writable overlay, readable by descriptor."""
    monkeypatch.setattr(mapped, "_detached_layers", request.param)
    fd = mapped.overlay(
        [layers / "top", layers / "bottom"],
        layers / "own" / "upper",
        layers / "own" / "work",
        ["index=off", "metacopy=off"],
        userns=userns,
        owner=OWNER,
    )
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    os.close(fd)
    yield opened
    os.close(opened)


def ids(name: str, *, dir_fd: int | None = None) -> tuple[int, int]:
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    return found.st_uid, found.st_gid


def test_new_namespaces_belong_to_it() -> None:
    """What is made along with a user namespace, or in it later, belongs to it, and the maps are those asked for."""
    user, net, ipc = user_namespaces.make(UIDS, GIDS, ("net", "ipc"))
    (uts,) = user_namespaces.make_within(user, ("uts",))
    try:
        for held in (net, ipc, uts):
            owner = user_namespaces.owner(held)
            assert namespaces.identity(owner) == namespaces.identity(user)
            os.close(owner)
    finally:
        for held in (user, net, ipc, uts):
            os.close(held)


def test_a_map_that_makes_no_sense_is_refused() -> None:
    """Two ranges that overlap are no map; nothing is left of the attempt."""
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Invalid argument"):
        user_namespaces.make(((0, 1000, 10), (5, 2000, 10)), GIDS)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_files_are_made_as_somebody(tmp_path: Path) -> None:
    """For the thread, until the end of the `with`, and with every capability that there was."""
    before = capabilities.of("thread-self", "Eff")
    with making_files_as(12, 34):
        (tmp_path / "file").write_text("")
        assert capabilities.of("thread-self", "Eff") == before
        other = threading.Thread(target=lambda: os.chown(tmp_path / "file", -1, 35))
        other.start()
        other.join()
    assert ids(str(tmp_path / "file")) == (12, 35)
    (tmp_path / "later").write_text("")
    assert ids(str(tmp_path / "later")) == (os.geteuid(), os.getegid())


def test_owners_are_shown_mapped(root: int) -> None:
    """Root, a user of a second range, and somebody who is not mapped at all."""
    assert ids(".", dir_fd=root) == OWNER
    assert ids("of-root", dir_fd=root) == OWNER
    assert ids("of-user", dir_fd=root) == (300_003, 400_007)
    assert ids("unmapped", dir_fd=root)[0] == int(Path("/proc/sys/kernel/overflowuid").read_text())


def test_what_is_written_lies_unmapped(root: int, layers: Path) -> None:
    """New files, copies, deletions, renames and new owners are on the disk with the ids that they have inside."""
    upper = layers / "own" / "upper"
    with making_files_as(*OWNER):
        os.mkdir("new", dir_fd=root)
        os.mknod("node", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=root)
    with making_files_as(300_003, 400_007):
        os.symlink("x", "link", dir_fd=root)
    fd = os.open("of-user", os.O_WRONLY | os.O_APPEND, dir_fd=root)
    os.write(fd, b" more")
    os.close(fd)
    os.chown("of-root", 300_001, 400_002, dir_fd=root)
    os.unlink("deleted", dir_fd=root)
    os.rmdir("emptied/inner", dir_fd=root)
    os.rmdir("replaced/inner", dir_fd=root)
    os.rmdir("replaced", dir_fd=root)
    with making_files_as(*OWNER):
        os.mkdir("replaced", dir_fd=root)
    found = {
        name: ids(str(upper / name)) for name in ("new", "node", "link", "of-user", "of-root", "deleted")
    }
    assert found == {
        "new": (0, 0),
        "node": (0, 0),
        "link": (1003, 7),
        "of-user": (1003, 7),
        "of-root": (1001, 2),
        "deleted": (0, 0),
    }
    assert (upper / "of-user").read_text() == "bottom more"
    assert stat.S_ISCHR((upper / "deleted").lstat().st_mode), "a whiteout"
    assert os.getxattr(upper / "replaced", "trusted.overlay.opaque") == b"y"
    assert ids(str(upper / "replaced")) == (0, 0)


def test_somebody_who_is_not_mapped_writes_nothing(root: int) -> None:
    """Not even root of the host: on the disk there is no id for him. Nor is his file anybody's to delete."""
    for act in (os.mkdir, os.unlink):
        with pytest.raises(OSError) as refused:
            act("unmapped" if act is os.unlink else "new", dir_fd=root)
        assert refused.value.errno == errno.EOVERFLOW


def test_nothing_is_left(layers: Path, userns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a mount that somebody sees, nor a descriptor; also not where a layer is missing, which is named."""
    before = sorted(os.listdir("/proc/self/fd"))
    for way in (None, False):
        monkeypatch.setattr(mapped, "_detached_layers", way)
        own = layers / "own"
        os.close(mapped.overlay([layers / "top"], own / "upper", own / "work", userns=userns, owner=OWNER))
        with pytest.raises(FileNotFoundError, match="missing"):
            mapped.overlay([layers / "missing"], None, None, userns=userns, owner=OWNER)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert str(layers) not in Path("/proc/self/mountinfo").read_text()


def test_a_bind_is_mapped(layers: Path, userns: int) -> None:
    """A directory or one file; of a file system that cannot, the kernel says so."""
    for path in (layers / "bottom", layers / "bottom" / "of-user"):
        fd = mapped.bind(path, userns)
        assert ids(
            "of-user" if path.is_dir() else f"/proc/self/fd/{fd}", dir_fd=fd if path.is_dir() else None
        ) != (1003, 7)
        os.close(fd)
    with pytest.raises(OSError) as refused:
        mapped.bind("/proc/sys", userns)
    assert refused.value.errno == errno.EINVAL
