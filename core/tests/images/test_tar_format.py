"""The tar format as other programs write it, and as nobody should."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.linux import tar, tar_reading, tree
from wherry.linux.archive import unpack
from wherry.linux.packing import Packing
from wherry.testing.storage import tree_of


def unpacked(archive: bytes, target: Path) -> dict[str, tuple[object, ...]]:
    target.mkdir()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        unpack(io.BytesIO(archive), descriptor)
    finally:
        os.close(descriptor)
    found = tree_of(target)
    found.pop(".")
    return found


def content(archive: bytes) -> dict[str, tuple[tar.Entry, bytes]]:
    found = {}
    reader = tar_reading.read(io.BytesIO(archive))
    for entry in reader:
        chunks: list[bytes] = []

        def write(offset: int, chunk: bytes | memoryview, chunks: list[bytes] = chunks) -> None:
            chunks.append(bytes(chunk))

        reader.content(write)
        found[entry.name] = entry, b"".join(chunks)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with a bit of everything."""
    top = tmp_path / "source"
    (top / "d/e").mkdir(parents=True)
    (top / "d/file").write_bytes(b"content\n" * 1000)
    (top / "d/e/empty").write_bytes(b"")
    (top / "link").symlink_to("d/file")
    os.link(top / "d/file", top / "hard")
    os.mkfifo(top / "pipe")
    os.chown(top / "d/file", 1000, 1001)
    (top / "d/e").chmod(0o1777)
    with (top / "sparse").open("wb") as file:
        for place in range(1, 60, 3):
            file.seek(place * 100_000)
            file.write(b"data")
        file.truncate(10_000_000)
    os.utime(top / "hard", ns=(1, 1_500_000_000_000_000_000))
    return top


@pytest.mark.parametrize(
    "options",
    [
        "--format=v7", "--format=ustar", "--format=oldgnu", "--format=gnu", "--format=posix", "--format=gnu --sparse",
        "--format=oldgnu --sparse", "--format=posix --sparse --sparse-version=0.0",
        "--format=posix --sparse --sparse-version=0.1", "--format=posix --sparse --sparse-version=1.0",
        "--format=gnu --numeric-owner --owner=3000000000 --group=4000000000 --mtime=@-5",
        "--format=posix --owner=:3000000000 --mtime=@9999999999",
    ],
)  # fmt: skip
def test_what_gnu_tar_writes_is_read(source: Path, tmp_path: Path, options: str) -> None:
    """Every format of it gives the tree that tar itself would unpack."""
    if "v7" in options:
        (source / "pipe").unlink()  # that format has none
    words = ["tar", "-C", source, "-cf", tmp_path / "a.tar", *options.split(), "."]
    subprocess.run(words, check=True)
    (tmp_path / "theirs").mkdir()
    subprocess.run(
        ["tar", "-C", tmp_path / "theirs", "-xpf", tmp_path / "a.tar", "--numeric-owner"], check=True
    )
    theirs = tree_of(tmp_path / "theirs")
    theirs.pop(".")
    ours = unpacked((tmp_path / "a.tar").read_bytes(), tmp_path / "ours")
    assert ours == theirs
    assert (tmp_path / "ours/hard").stat().st_nlink == 2
    if "--sparse" in options:
        assert (tmp_path / "ours/sparse").stat().st_blocks * 512 < 1_000_000


def test_what_is_written_gnu_tar_reads(source: Path, tmp_path: Path) -> None:
    """With long names, big numbers, and extended attributes."""
    deep = source / ("x" * 120) / ("y" * 200)
    deep.mkdir(parents=True)
    (deep / "file").symlink_to("t" * 300)
    os.chown(source / "d", 3_000_000_000, 4_000_000_000)
    os.setxattr(source / "d/file", "user.a", b"\0\n=\xff")
    for each in [*source.rglob("*")]:
        os.utime(each, ns=(1_000_000_000, 1_500_000_000), follow_symlinks=False)
    buffer = io.BytesIO()
    packing = Packing(buffer)
    descriptor = os.open(source, os.O_RDONLY)
    for found in tree.walk(descriptor):
        packing.add(found.path, found)
    os.close(descriptor)
    packing.finish()
    (tmp_path / "theirs").mkdir()
    subprocess.run(
        ["tar", "-C", tmp_path / "theirs", "--xattrs", "--numeric-owner", "-xpf", "-"], input=buffer.getvalue(), check=True
    )  # fmt: skip

    def without_fractions(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
        return {
            path: (about[0], about[1], int(str(about[2])) // 10**9, *about[3:])
            for path, about in found.items()
            if path != "."
        }

    expected = without_fractions(tree_of(source))
    assert without_fractions(tree_of(tmp_path / "theirs")) == expected
    assert without_fractions(unpacked(buffer.getvalue(), tmp_path / "ours")) == expected


def header(**fields: bytes) -> bytes:
    """A ustar header of a file, with fields overwritten, and a right checksum."""
    places = {
        "name": 0, "mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "type": 156, "link": 157,
        "magic": 257, "major": 329, "minor": 337, "sparse": 386, "extended": 482, "realsize": 483,
    }  # fmt: skip
    block = bytearray(512)
    defaults = {
        "name": b"file",
        "mode": b"0000644\0",
        "size": b"00000000000\0",
        "type": b"0",
        "magic": b"ustar\00000",
    }
    for key, value in (defaults | fields).items():
        block[places[key] : places[key] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(*records: tuple[str, str]) -> bytes:
    body = b""
    for key, value in records:
        text = f" {key}={value}\n".encode()
        length = len(text)
        while length != len(str(length)) + len(text):
            length = len(str(length)) + len(text)
        body += f"{length}".encode() + text
    return header(type=b"x", size=b"%011o\0" % len(body)) + body + bytes(-len(body) % 512)


SPARSE = ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1000")


@pytest.mark.parametrize(
    "archive",
    [
        header(size=b"\xff" * 12),
        header(size=b"\x80" + b"\xff" * 11),
        header(size=b"77777777777\0"),
        header(size=b"nonsense"),
        header(mode=b"9999999\0"),
        header(uid=b"\xff" * 8),
        header(type=b"x", size=b"77777777777\0"),
        header(type=b"L", size=b"\xff" * 12),
        header(type=b"x", size=b"%011o\0" % 10) + b"99 a=b\n\0\0\0" + bytes(502),
        header(type=b"x", size=b"%011o\0" % 10) + b"-1 a=b\n\0\0\0" + bytes(502),
        header(type=b"x", size=b"%011o\0" % 10) + b"7 aaaa\n\0\0\0" + bytes(502),
        pax(("size", "-1")) + header(),
        pax(("size", "99999999999999999999")) + header(),
        pax(("size", "1e3")) + header(),
        pax(("mtime", "inf")) + header(),
        pax(("path", "a\0b")) + header(),
        pax(("GNU.sparse.size", "10"), ("GNU.sparse.offset", "5"), ("GNU.sparse.numbytes", "10")) + header(),
        pax(("GNU.sparse.size", "10"), ("GNU.sparse.map", "5,2,4,2")) + header(size=b"00000000004\0") + bytes(512),
        pax(("GNU.sparse.size", "10"), ("GNU.sparse.map", "5")) + header(),
        pax(("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,3")) + header(),
        pax(*SPARSE) + header(size=b"00000000003\0") + b"1\n0" + bytes(509),
        pax(*SPARSE) + header(size=b"00000001000\0") + b"9999999\n" + bytes(504),
        pax(*SPARSE) + header(size=b"00000004000\0") + b"x" * 2048,
        pax(*SPARSE) + header(size=b"00000001000\0") + b"1\n900\n900\n".ljust(512, b"\0"),
        header(type=b"S", magic=b"ustar  \0", sparse=b"00000000000\0" + b"00000000005\0", realsize=b"00000000001\0"),
        header(type=b"S", magic=b"ustar  \0", extended=b"\1", realsize=b"00000000001\0"),
        header(type=b"D"),
        header()[:300],
        header()[:-1] + b"x",
    ],
)  # fmt: skip
def test_a_header_is_not_believed(archive: bytes) -> None:
    """Sizes, numbers, records and maps that make no sense: BadArchive, in one line, and at once."""
    with pytest.raises(tar.BadArchive) as caught:
        content(archive)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_small_oddities_are_understood() -> None:
    """What old and careless writers do."""
    assert list(content(b"")) == []
    assert list(content(header())) == ["file"], "no closing blocks"
    assert list(content(header() + bytes(512))) == ["file"], "one closing block"
    assert list(content(header() + bytes(1024) + b"noise after the end")) == ["file"]
    assert content(header(name=b"d/", type=b"\0"))["d/"][0].mode & 0o170000 == 0o040000
    assert list(content(header(type=b"V", name=b"label") + header())) == ["file"]
    assert list(content(header(type=b"g", size=b"00000000003\0") + b"abc".ljust(512, b"\0") + header())) == [
        "file"
    ]
    assert content(pax(("mtime", "-1.5")) + header())["file"][0].mtime_ns == -1_500_000_000
    assert content(header(size=b"\x80" + bytes(10) + b"\3") + b"abc".ljust(512, b"\0"))["file"][1] == b"abc"


@settings(max_examples=300, deadline=None, database=None)
@given(data=st.data())
def test_noise_in_an_archive_is_a_fault_of_the_archive(data: st.DataObject) -> None:
    """Any bytes changed anywhere: it is unpacked or refused, and nothing else happens."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=data.draw(st.sampled_from([1, 2]))) as archive:
        for name, kind in (
            ("d", tarfile.DIRTYPE),
            ("d/" + "f" * 150, tarfile.REGTYPE),
            ("l", tarfile.SYMTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "d" if kind == tarfile.SYMTYPE else ""
            info.pax_headers = {"SCHILY.xattr.user.x": "y"}
            body = b"body" * 200 if kind == tarfile.REGTYPE else b""
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    noisy = bytearray(buffer.getvalue()[:8192])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(noisy) - 1))
        block = place // 512 * 512
        noisy[place] = data.draw(st.integers(0, 255))
        # With a right checksum, so that the change is looked at.
        if noisy[block + 257 : block + 262] == b"ustar":
            noisy[block + 148 : block + 156] = b" " * 8
            noisy[block + 148 : block + 156] = b"%06o\0 " % sum(noisy[block : block + 512])
    with tempfile.TemporaryDirectory() as place:
        try:
            unpacked(bytes(noisy), Path(place) / "target")
        except tar.BadArchive:
            pass
        assert os.listdir(place) == ["target"]
