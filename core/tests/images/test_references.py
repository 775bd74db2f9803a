"""Names of images, as docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidRequest
from wherry.images import reference

LONG = "a" * 64


@pytest.mark.parametrize(
    ("written", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.2", "docker.io/library/busybox:1.2", "busybox:1.2"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:2", "localhost:5000/app:2", "localhost:5000/app:2"),
        ("quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
        ("a__b/c.d/e--f:T_a.g-1", "docker.io/a__b/c.d/e--f:T_a.g-1", "a__b/c.d/e--f:T_a.g-1"),
        (f"app@sha256:{LONG}", f"docker.io/library/app@sha256:{LONG}", f"app@sha256:{LONG}"),
        (f"app:1@sha256:{LONG}", f"docker.io/library/app:1@sha256:{LONG}", f"app:1@sha256:{LONG}"),
    ],
)
def test_a_name_has_a_full_and_a_familiar_form(written: str, full: str, familiar: str) -> None:
    """Either form leads to the same image."""
    found = reference.parse(written).tagged()
    assert (str(found), found.familiar) == (full, familiar)
    assert reference.parse(full) == reference.parse(familiar) == found


@pytest.mark.parametrize(
    "written",
    [
        "", ":tag", "a:", "a:b:c", "a//b", "/a", "a/", "-a", "a-", "a___b", "a..b", "a b", "a:b c", "a:-b", "a@sha256:1",
        "a@", f"a@md5:{LONG}", "a\n", "ä", "a:ä", "host:port/a", "a" * 256, f"a:{'b' * 129}", LONG, "a\0b",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(written: str) -> None:
    """InvalidRequest, whatever it is."""
    with pytest.raises(InvalidRequest):
        reference.parse(written)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("a b", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        (LONG, f"invalid repository name ({LONG}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_the_words_are_dockers(written: str, words: str) -> None:
    """Clients match them."""
    with pytest.raises(InvalidRequest) as caught:
        reference.parse(written)
    assert str(caught.value) == words


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    """What is accepted can be written again in both forms."""
    try:
        found = reference.parse(text)
    except InvalidRequest:
        return
    assert reference.parse(str(found)) == found
    assert reference.parse(found.familiar) == found


@pytest.mark.parametrize(
    ("pattern", "name", "holds"),
    [
        ("busy*", "busybox", True), ("*", "team/app", False), ("*/*", "team/app", True), ("busybox", "busybox:1", True),
        ("*:1", "busybox:1", True), ("*:2", "busybox:1", False), ("b[a-z]sybox", "busybox", True), ("[", "a", False),
        ("busy?ox", "busybox", True), ("(a+)+$", "a", False),
    ],
)  # fmt: skip
def test_a_pattern_stops_at_slashes(pattern: str, name: str, holds: bool) -> None:
    """As `docker images --filter reference=…`."""
    assert reference.matches(pattern, reference.parse(name).tagged()) is holds
