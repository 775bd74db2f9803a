"""Debian's kernel for the machine: fetched from the archive and unpacked into a cache, never installed on this host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .trouble import Trouble

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wherry-machine"
WANTED: Final = re.compile(r"linux-image-(6\.1\.\d+-(\d+)-amd64)")
"""The kernel of Debian 12, the oldest that wherry supports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """An unpacked kernel package."""

    release: str  # what `uname -r` says: 6.1.0-50-amd64
    tree: Path  # boot/ and lib/modules/ of the package

    @property
    def image(self) -> Path:
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.tree / "lib" / "modules" / self.release

    def with_needs(self, names: tuple[str, ...]) -> list[Path]:
        """Files of the modules `names` and of all that they need, in an order in which they load."""
        needs: dict[str, list[str]] = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            needs[path] = others.split()
        paths = {Path(path).stem.replace("-", "_"): path for path in needs}
        ordered: list[str] = []
        for name in names:
            if name not in paths:
                raise Trouble(f"the kernel {self.release} has no module {name}")
            # depmod lists what a module needs with the deepest need last.
            ordered += reversed([paths[name], *needs[paths[name]]])
        return [self.modules / path for path in dict.fromkeys(ordered)]


def newest() -> Kernel:
    """The archive's newest 6.1 kernel, from the cache if it is there; the cached one where no archive can be asked."""
    package = _package()
    if package is None:
        cached = sorted(CACHE.glob("linux-image-*_*/"), key=lambda path: path.stat().st_mtime)
        if not cached:
            raise Trouble(
                "apt knows no package linux-image-6.1.*-amd64 and none is in the cache; "
                "add Debian 12 (bookworm) to apt's sources and run apt-get update"
            )
        tree = cached[-1]
    else:
        tree = CACHE / package
        if not tree.exists():
            _fetch(package, tree)
    found = WANTED.match(tree.name)
    assert found is not None
    return Kernel(release=found[1], tree=tree)


def _package() -> str | None:
    """`linux-image-RELEASE_VERSION` of the newest kernel that apt knows of."""
    if shutil.which("apt-cache") is None:
        return None
    names = _output("apt-cache", "pkgnames", "linux-image-6.1.").split()
    found = [match for match in map(WANTED.fullmatch, names) if match]
    if not found:
        return None
    name = max(found, key=lambda match: int(match[2]))[0]
    candidate = re.search(r"^  Candidate: (\S+)$", _output("apt-cache", "policy", name), re.MULTILINE)
    return f"{name}_{candidate[1]}" if candidate and candidate[1] != "(none)" else None


def _fetch(package: str, tree: Path) -> None:
    """Make `tree` of the package, whole or not at all, and remove what the cache held of older ones."""
    name, _, version = package.partition("_")
    print(f"Fetching {name} {version} (about 70 MB, once) …", flush=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="unfinished-") as temporary:
        here = Path(temporary)
        # Unsandboxed: apt's own user may not write where we keep our cache.
        _run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", f"{name}={version}", cwd=here)
        (archive,) = here.glob("*.deb")
        _run("dpkg", "-x", str(archive), str(here / "tree"))
        release = name.removeprefix("linux-image-")
        _run("depmod", "-b", str(here / "tree"), release)
        try:
            (here / "tree").rename(tree)
        except OSError:
            # Somebody else fetched the same meanwhile, and may be using it.
            if not tree.exists():
                raise
    for old in CACHE.glob("linux-image-*"):
        if old != tree:
            shutil.rmtree(old, ignore_errors=True)


def _run(*argv: str, cwd: Path | None = None) -> None:
    try:
        subprocess.run(argv, check=True, cwd=cwd)
    except subprocess.CalledProcessError as error:
        raise Trouble(f"{' '.join(argv)} ended with {error.returncode}") from error


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout
