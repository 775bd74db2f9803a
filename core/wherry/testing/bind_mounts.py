"""What an exec driver is held to in mounting: part of `ExecDriverContract`.

Sources come as detached mounts; where they go, what of the host they show later, and who may write below them is the
driver's task.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.errors import StartFailed
from wherry.linux import mounts
from wherry.spec.command import Mount
from wherry.testing.containers import MOUNTS, PlayedKeeper, lines


class MountsContract:
    """`ExecDriverContract` inherits it, and has the fixtures that it needs."""

    @pytest.fixture
    def nested(self, tmp_path: Path) -> Iterator[Path]:
        """A shared mount of the host, with a file `top`, and a shared one on `sub` in it, with a file `deep`."""
        top = tmp_path / "nested"
        top.mkdir()
        try:
            for place, name in ((top, "top"), (top / "sub", "deep")):
                place.mkdir(exist_ok=True)
                mounts.mount("test", place, "tmpfs")
                mounts.make_shared(place)
                (place / name).touch()
            yield top
        finally:
            subprocess.run(["umount", "-R", top], check=True)

    def shown(self, keeper: PlayedKeeper, source: Path, script: str, **options: object) -> list[str]:
        """What a shell says that has `source` mounted on /x."""
        fd = mounts.clone_tree(source, recursive=True)
        wanted = Mount(kind="bind", target="/x", descriptor=fd, **options)  # type: ignore[arg-type]
        try:
            return list(lines(keeper.shell(script, mounts=(*MOUNTS, wanted)).stdout))
        finally:
            os.close(fd)

    def test_read_only_to_its_depths(self, keeper: PlayedKeeper, nested: Path) -> None:
        """`read_only` is about the mount, `recursive_read_only` about all below it; the host's stay writable."""
        script = "for d in /x /x/sub; do touch $d/new 2>/dev/null && echo $d; done"
        assert self.shown(keeper, nested, script) == ["/x", "/x/sub"]
        assert self.shown(keeper, nested, script, read_only=True) == ["/x/sub"]
        assert self.shown(keeper, nested, script, read_only=True, recursive_read_only=True) == []
        (nested / "sub" / "host").touch()

    @pytest.mark.parametrize(
        ("word", "top", "below"),
        [
            ("", "", ""), ("rprivate", "", ""), ("private", "", "master"), ("slave", "master", "master"),
            ("rslave", "master", "master"), ("shared", "shared", "shared"), ("rshared", "shared", "shared"),
        ],
    )  # fmt: skip
    def test_propagation(self, keeper: PlayedKeeper, nested: Path, word: str, top: str, below: str) -> None:
        """What is mounted below is the host's peer only where that was asked for: else nothing done there happens on the host."""
        script = "while read -r a b c d target e kind rest; do case $target in /x*) echo $target $kind;; esac; done"
        seen = self.shown(keeper, nested, f"{script} < /proc/self/mountinfo", propagation=word)
        found = {line.split()[0]: line.split()[1].partition(":")[0].strip("-") for line in seen}
        assert found == {"/x": top, "/x/sub": below}

    @pytest.mark.parametrize(
        "target", ["/proc/foo", "/proc/sys/kernel", "/proc/self/attr", "/link/sys", "/proc"]
    )
    def test_little_lies_in_proc(self, keeper: PlayedKeeper, tmp_path: Path, target: str) -> None:
        """Programs trust what they read there: a directory cannot be mounted on it nor below, by whatever way."""

        def prepare(root: Path) -> None:
            (root / "link").symlink_to("proc")

        fd = mounts.bind(tmp_path)
        wanted = Mount(kind="bind", target=target, source="/source", descriptor=fd)
        usual = tuple(mount for mount in MOUNTS if mount.target != target)
        try:
            with pytest.raises(StartFailed, match=r"/source.*/proc"):
                keeper.run("true", root=keeper.rootfs(prepare), mounts=(*usual, wanted))
        finally:
            os.close(fd)

    @pytest.mark.parametrize("name", ["proc", "sys"])
    def test_no_link_leads_to_another_proc(self, keeper: PlayedKeeper, name: str) -> None:
        """An image with a link in its place does not start: what protects it would protect something else."""

        def prepare(root: Path) -> None:
            (root / name).symlink_to("tmp")

        with pytest.raises(StartFailed, match="ordinary directory"):
            keeper.run("true", root=keeper.rootfs(prepare))

    def test_tmpfs_has_the_mode_of_what_it_hides(self, keeper: PlayedKeeper) -> None:
        """Unless a mode is given; where there was nothing it is everybody's, as tmp is."""
        wanted = tuple(
            Mount(kind="tmpfs", target=target, data=data)
            for target, data in (("/root", ""), ("/new", ""), ("/home", "mode=711"))
        )
        result = keeper.shell("stat -c %a /root /new /home", mounts=(*MOUNTS, *wanted))
        assert list(lines(result.stdout)) == ["755", "1777", "711"], result
