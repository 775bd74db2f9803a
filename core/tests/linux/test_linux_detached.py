"""Detached mounts: one superblock however many copies, trees put together where nobody sees it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.container.root import Root
from wherry.linux import detached, mounts, namespaces, paths


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    for name in ("lower", "upper", "work", "volume"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "file").write_text("below")
    (tmp_path / "lower" / "run").mkdir()
    (tmp_path / "lower" / "var").mkdir()
    (tmp_path / "lower" / "var" / "run").symlink_to("/run")
    (tmp_path / "lower" / "out").symlink_to("/../../../../tmp")
    (tmp_path / "volume" / "inside").write_text("volume")
    return tmp_path


def mount(layers: Path) -> int:
    """Mounted a second time while the first lives, `index=on` refuses."""
    return mounts.overlay([layers / "lower"], layers / "upper", layers / "work", ["index=on"])


@pytest.fixture(params=["as it is", "before 6.15"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Older kernels copy no mount that is detached; there the copying is done in a thread's own namespace."""
    if request.param == "before 6.15":
        real, here = mounts.clone_tree, threading.current_thread()

        def refused(path_or_fd: Path | int, recursive: bool = False) -> int:
            if isinstance(path_or_fd, int) and threading.current_thread() is here:
                raise OSError(errno.EINVAL, "detached")
            return real(path_or_fd, recursive)

        monkeypatch.setattr(mounts, "clone_tree", refused)
    return str(request.param)


def read(root: int, path: str) -> str:
    descriptor = paths.open_in_root(root, path, os.O_RDONLY)
    with os.fdopen(descriptor) as file:
        return file.read()


def names(root: int) -> set[str]:
    return set(os.listdir(f"/proc/self/fd/{root}"))


def test_copies_are_one_superblock(layers: Path, kernel: str) -> None:
    """What is written through one copy is read through the others, and the seed gives copies again and again."""
    seed = mount(layers)
    copies = []
    for number in range(3):
        copy, seed = detached.copied(seed)
        os.close(os.open(f"made{number}", os.O_WRONLY | os.O_CREAT, dir_fd=copy))
        copies.append(copy)
    assert all({"made0", "made1", "made2"} < names(copy) for copy in [*copies, seed])
    for descriptor in [*copies, seed]:
        os.close(descriptor)
    os.close(mount(layers))  # all of it is gone


def test_an_attached_mount_is_copied_out_of_its_namespace(layers: Path) -> None:
    """From the namespace of another process, by a path in that; what is not there, or of the wrong kind, is None."""
    script = f"mount -t tmpfs t {layers}/lower/run && echo x > {layers}/lower/run/in && echo ok && exec cat"
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"ok\n"
        space = namespaces.open_namespace(other.pid, "mnt")
        top = str(layers / "lower")
        (layers / "lower" / "bin").symlink_to("run")
        (layers / "lower" / "astray").symlink_to("/bin")
        taken = detached.taken_from(space, f"{top}/astray", kind=detached.TMPFS_MAGIC)
        assert taken is None, "links lead from the namespace's root"
        taken = detached.taken_from(space, f"{top}/run", kind=detached.TMPFS_MAGIC)
        assert taken is not None and read(taken, "in") == "x\n"
        assert detached.taken_from(space, f"{top}/nothing") is None
        assert detached.taken_from(space, f"{top}/file/below") is None
        assert detached.taken_from(space, str(layers), kind=0x1234) is None
        other.communicate(b"")
    assert read(taken, "in") == "x\n"
    os.close(taken)
    os.close(space)
    assert os.listdir(layers / "lower" / "run") == []


def test_a_tree_is_put_together_unseen(layers: Path, kernel: str) -> None:
    """Targets are resolved inside the tree and made where missing; nothing is mounted anywhere that a process sees."""
    before = Path("/proc/self/mountinfo").read_text()
    mountable = [mounts.clone_tree(layers / "volume") for _ in range(3)]
    mountable.append(mounts.clone_tree(layers / "lower" / "file"))
    targets = ["/var/run/y", "/out/escaped", "/a/b/c", "/etc/hosts"]
    parts = [
        detached.Part(mount=fd, target=target, is_directory=target != "/etc/hosts")
        for fd, target in zip(mountable, targets, strict=True)
    ]
    root = mount(layers)
    tree = detached.assembled(root, parts, read_only=True)
    for descriptor in [root, *mountable]:
        os.close(descriptor)
    assert Path("/proc/self/mountinfo").read_text() == before
    for path in ("/run/y/inside", "/var/run/y/inside", "/tmp/escaped/inside", "/a/b/c/inside"):
        assert read(tree, path) == "volume"
    assert read(tree, "/etc/hosts") == "below"
    assert not Path("/tmp/escaped").exists()
    with pytest.raises(OSError) as refused:
        paths.open_in_root(tree, "/new", os.O_WRONLY | os.O_CREAT, 0o600)
    assert refused.value.errno == errno.EROFS
    os.close(paths.open_in_root(tree, "/run/y/new", os.O_WRONLY | os.O_CREAT, 0o600))
    assert (layers / "volume" / "new").exists()
    os.close(tree)


def test_devices_in_a_tree_cannot_be_opened(layers: Path) -> None:
    """Not even by root: the tree is mounted nodev."""
    os.mknod(layers / "lower" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    root = mount(layers)
    tree = detached.assembled(root, [])
    os.close(root)
    with pytest.raises(PermissionError):
        paths.open_in_root(tree, "/null", os.O_RDONLY)
    os.close(tree)


@pytest.fixture
def root() -> Iterator[Root]:
    made = Root()
    yield made
    made.close()


def test_a_root_is_mounted_once(layers: Path, kernel: str, root: Root) -> None:
    """For a copy, a run that begins while that goes on, and a copy after that run: the tripwire never goes off."""
    first = root.borrow(lambda: mount(layers))
    run, seed = root.begin_run(lambda: mount(layers))
    os.close(os.open("by-run", os.O_WRONLY | os.O_CREAT, dir_fd=run))
    second = root.borrow(lambda: mount(layers))
    assert "by-run" in names(first) & names(second)
    os.close(run)
    os.close(seed)
    root.end_run()
    root.end_run()
    third = root.borrow(lambda: mount(layers))
    for descriptor in (first, second, third):
        os.close(descriptor)
        root.give_back()
    again = root.borrow(lambda: mount(layers))  # the last one has let go of it: now it can be mounted
    os.close(again)
    root.give_back()


def test_a_mount_that_fails_leaves_the_root_as_it_was(layers: Path, root: Root) -> None:
    def fail() -> int:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        root.borrow(fail)
    os.close(root.borrow(lambda: mount(layers)))
    root.give_back()
