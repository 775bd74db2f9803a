"""`cp` by the shapes of its paths: the docker program on our daemon, and our program, against docker on a real dockerd.

Equal are the exit code, the tree that is there afterwards with modes, owners and contents, and the words of an error.
"""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from wherry.testing.daemon import DOCKER, WHERRY, Daemon
from wherry.testing.dockerd import Dockerd

# (flags, path in the container, path here)
OUT: Final = """
        /t/file           new           |      /t/dir            new           |      /t/link-file      new
        /t/file           new/          |      /t/dir            new/          |      /t/link-dir       new
        /t/file           f             |      /t/dir            f             |      /t/link-dir/      d
        /t/file           d             |      /t/dir            d             |      /t/link-dir/.     d
        /t/file           d/            |      /t/dir/           d             |      /t/link-dir/.     new
        /t/file           ld            |      /t/dir/.          d             |      /t/broken         new
        /t/file           lf            |      /t/dir/.          new           |      /t/nope           new
        /t/file           broken        |      /t/dir            ld            |      /t/file/          new
        /t/file           missing/new   |      /t/dir            lf            |      /t/file/below     new
        /t/../t/file      .             |      /t/dir            broken        |      /t/pipe           new
        t/file            f/            |      /t/dir            taken         |      /t/file           taken2
    -L  /t/link-file      new           |  -L  /t/link-dir       d             |  -L  /t/link-file      d
    -L  /t/link-dir       new           |  -L  /t/chain          d             |  -L  /t/broken         new
        /t/dir/sub        d             |      /t/long           d             |      /t/linked         new
    -q  /t/file           new
"""

# (flags, path here, path in the container)
IN: Final = """
        file              new           |      dir               new           |      link-file         new
        file              new/          |      dir               new/          |      link-dir          new
        file              f             |      dir               f             |      link-dir/         d
        file              d             |      dir               d             |      link-dir/.        d
        file              d/            |      dir/              d             |      link-dir/         new
        file              ld            |      dir/.             d             |      broken            new
        file              lf            |      dir/.             new           |      nope              new
        file              broken        |      dir               ld            |      file/             new
        file              missing/new   |      dir               lf            |      ./file            d/../d
        file              taken2        |      dir               taken         |      empty             d
        file              f/            |      dir               broken        |      owned             d
    -L  link-file         new           |  -L  link-dir          d             |  -a  owned             d
    -L  link-dir          new           |  -L  broken            new           |      dir               ld/
        dir               .             |      special           new           |      linked            d
"""

PREPARE: Final = """
    mkdir d taken taken/dir taken2; echo old > f; echo old > d/old; ln -s d ld; ln -s f lf; ln -s gone broken
    echo old > d/taken; echo old > taken/dir/sub; mkdir taken2/file; chmod 750 d; touch -d "2001-01-01 00:00:00" d/old f
"""
SOURCES: Final = """
    umask 022; mkdir -p dir/sub empty special linked owned; echo file > file; echo a > dir/a; echo b > dir/sub/b
    ln -s a dir/l; ln -s /etc/hostname dir/abs; ln -s file link-file; ln -s dir link-dir; ln -s /none/where broken
    ln -s link-dir chain; chmod 4711 file; chmod 2770 dir/sub; mkfifo pipe special/pipe; echo 1 > linked/one
    ln linked/one linked/two; echo o > owned/mine; chown -R 1234:567 owned; mkdir -p long/$LONG; echo x > long/$LONG/$LONG
    touch -h -d "2002-02-02 00:00:00" file dir/a dir/sub/b dir/l dir/abs link-file link-dir linked/one owned/mine long/$LONG/$LONG
    touch -d "2002-02-03 00:00:00" dir/sub dir empty linked owned long/$LONG long
"""
LONG: Final = "n" * 120


@dataclass(frozen=True, slots=True)
class Case:
    """One command line of the table."""

    flags: str
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.flags} {self.source} {self.target}".strip()


def cases(table: str) -> list[Case]:
    rows = [words.split() for line in table.strip().splitlines() for words in line.split("|")]
    return [Case(*(["", *row] if len(row) == 2 else row)) for row in rows]


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    words: str
    tree: dict[str, tuple[object, ...]]

    @property
    def meaning(self) -> tuple[object, ...]:
        """Without the path that an error begins with: our program names the one that was asked for."""
        return self.code, self.words.rpartition(": ")[2], self.tree


@dataclass(frozen=True, slots=True)
class Client:
    """A program, and whose daemon it speaks with."""

    program: str
    environment: dict[str, str]

    def __call__(self, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.program, *argv], env=self.environment, cwd=cwd, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip


def prepare(directory: Path, script: str) -> None:
    directory.mkdir(parents=True)
    subprocess.run(["sh", "-ec", script], cwd=directory, check=True, env={**os.environ, "LONG": LONG})


def words_of(stderr: bytes, *places: Path | str) -> str:
    """The last line of an error as it would be wherever the test ran."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    text = re.sub(
        r"^(wherry|docker): |Error processing tar file\(exit status 1\): ", "", lines[-1] if lines else ""
    )
    text = re.sub(r"^Error response from daemon: ", "", text)
    for place in places:
        text = text.replace(str(place), "")
    return re.sub(r"/\S+/merged/", "/", text)


def tree_here(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(top):
        for name in [*directories, *files]:
            path = Path(directory, name)
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content = path.read_text() if kind == stat.S_IFREG else ""
            content = os.readlink(path) if kind == stat.S_IFLNK else content
            time = int(status.st_mtime) if status.st_mtime < 1e9 + 1e8 else "now"
            owner = (status.st_uid, status.st_gid)
            found[str(path.relative_to(top))] = (oct(status.st_mode), owner, content, time, status.st_nlink)
    return found


def trees_inside(client: Client, container: str) -> dict[str, dict[str, tuple[object, ...]]]:
    archive = client("exec", container, "tar", "-C", "/in", "-c", ".").stdout
    found: dict[str, dict[str, tuple[object, ...]]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            number, _, path = member.name.removeprefix("./").partition("/")
            file = tar.extractfile(member) if member.isreg() else None
            content = (
                file.read().decode() if file else member.linkname.partition("/in/")[2] or member.linkname
            )
            if member.islnk():
                content = content.removeprefix("./").partition("/")[2]
            time = int(member.mtime) if member.mtime < 1e9 + 1e8 else "now"
            mark = (member.type, oct(member.mode), (member.uid, member.gid), content, time)
            found.setdefault(number, {})[path] = mark
    return found


def all_out(client: Client, run: Client, top: Path) -> dict[Case, Outcome]:
    def one(numbered: tuple[int, Case]) -> tuple[Case, Outcome]:
        number, case = numbered
        here = top / str(number)
        prepare(here, PREPARE)
        done = run("cp", *filter(None, [case.flags]), f"shapes:{case.source}", case.target, cwd=here)
        return case, Outcome(done.returncode, words_of(done.stderr, here), tree_here(here))

    made = client(
        "exec",
        "-e",
        f"LONG={LONG}",
        "shapes",
        "sh",
        "-ec",
        f"mkdir -p /t; cd /t; [ -e file ] || {{ {SOURCES} }}",
    )
    assert made.returncode == 0, made.stderr
    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(one, enumerate(cases(OUT))))


def all_in(client: Client, run: Client, top: Path, name: str) -> dict[Case, Outcome]:
    sources = top / "sources"
    if not sources.exists():
        prepare(sources, SOURCES)
    numbers = " ".join(f"{name}{number}" for number in range(len(cases(IN))))
    script = f"for n in {numbers}; do mkdir -p /in/$n; cd /in/$n; {PREPARE} done"
    made = client("exec", "shapes", "sh", "-ec", script)
    assert made.returncode == 0, made.stderr

    def one(numbered: tuple[int, Case]) -> tuple[Case, subprocess.CompletedProcess[bytes]]:
        number, case = numbered
        place = f"shapes:/in/{name}{number}/{case.target}"
        return case, run("cp", *filter(None, [case.flags]), case.source, place, cwd=sources)

    with ThreadPoolExecutor(4) as pool:
        done = dict(pool.map(one, enumerate(cases(IN))))
    trees = trees_inside(client, "shapes")
    return {
        case: Outcome(
            done[case].returncode,
            words_of(done[case].stderr, sources, f"/in/{name}{number}"),
            trees[f"{name}{number}"],
        )
        for number, case in enumerate(cases(IN))
    }


Outcomes = dict[str, dict[Case, Outcome]]


@pytest.fixture(scope="module")
def outcomes(
    shared_daemon: Daemon, shared_dockerd: Dockerd, session_root: Path
) -> Iterator[Callable[[str], Outcomes]]:
    """Every case of a table by all three, once."""
    theirs = Client(DOCKER, shared_dockerd.environment)
    ours = Client(DOCKER, shared_daemon.client_environment)
    program = Client(str(WHERRY), shared_daemon.client_environment)
    for client in (theirs, ours):
        made = client("run", "-d", "--name", "shapes", "busybox", "sleep", "1000")
        assert made.returncode == 0, made.stderr
    top = session_root / "shapes"
    cached: dict[str, Outcomes] = {}

    def get(table: str) -> Outcomes:
        if table not in cached:
            each = (("dockerd", theirs, theirs), ("wherry", ours, ours), ("program", ours, program))
            if table == "out":
                found = {name: all_out(client, run, top / name) for name, client, run in each}
            else:
                found = {name: all_in(client, run, top, name) for name, client, run in each}
            cached[table] = found
        return cached[table]

    yield get
    ours("rm", "-f", "shapes")


@pytest.mark.parametrize("case", cases(OUT), ids=str)
def test_out_of_a_container(outcomes: Callable[[str], Outcomes], case: Case) -> None:
    """A copy from a container ends as dockerd's, by docker's program and by ours."""
    found = outcomes("out")
    expected = found["dockerd"][case]
    assert found["wherry"][case] == expected
    assert found["program"][case].meaning == expected.meaning


@pytest.mark.parametrize("case", cases(IN), ids=str)
def test_into_a_container(outcomes: Callable[[str], Outcomes], case: Case) -> None:
    """A copy to a container ends as dockerd's, by docker's program and by ours."""
    found = outcomes("in")
    expected = found["dockerd"][case]
    assert found["wherry"][case] == expected
    assert found["program"][case].meaning == expected.meaning
