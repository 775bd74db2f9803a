"""Who a process is: names looked up in the container's own /etc/passwd and /etc/group.

Source: moby/sys `user.GetExecUser`, whose words clients know.
"""

from __future__ import annotations

from dataclasses import dataclass

from wherry.errors import StartFailed
from wherry.linux import accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Numbers that a process runs with, and where its user is at home."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def look_up(root: int, user: str, more_groups: tuple[str, ...] = ()) -> Identity:
    """The identity for `name|uid[:group|gid]` in the container whose root directory is `root`.

    What is a number is an id, whatever entry is called like it: an image must not choose who `--user 1000` is. StartFailed
    names a user or group that is not there; a number needs no entry. The group itself is among the supplementary ones,
    first, so that setting another does not escape permissions that are denied to it.
    """
    name, _, group = user.partition(":")
    try:
        found = accounts.user(root, name)
        gid = accounts.group(root, group) if group else found.gid
        supplementary = accounts.groups_of(root, found.name) if found.name and not group else []
    except LookupError as error:
        raise StartFailed(f"unable to find {error.args[0]}") from None
    except ValueError as error:
        raise StartFailed(str(error)) from None
    try:
        supplementary += [accounts.group(root, each) for each in more_groups]
    except LookupError as error:
        raise StartFailed(f"Unable to find {error.args[0]}") from None
    except ValueError as error:
        raise StartFailed(str(error)) from None
    return Identity(
        uid=found.uid, gid=gid, groups=tuple(dict.fromkeys([gid, *supplementary])), home=found.home
    )
