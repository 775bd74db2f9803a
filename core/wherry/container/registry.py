"""Which containers there are: by id, by name, by an unambiguous beginning of an id.

Names live in the records; this index is rebuilt from them at every start.
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import Final

from wherry.container.container import Container
from wherry.errors import InvalidRequest, NameInUse, NotFound

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


class Containers:
    """The containers of an engine. Thread-safe; a reader sees a container whole or not at all."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()

    def all(self) -> list[Container]:
        """Every container, newest first."""
        return sorted(self._by_id.copy().values(), key=lambda c: c.record.created, reverse=True)

    def get(self, name: str) -> Container:
        """The container with this id, name (a leading slash is dropped) or unique beginning of an id."""
        wanted = name.removeprefix("/")
        found = self._by_id.get(wanted) or self._by_id.get(self._names.get(wanted, ""))
        if found is not None:
            return found
        parent, slash, alias = wanted.partition("/")
        if slash:  # as its parent calls it, by a link
            owner = self._by_id.get(self._names.get(parent, ""))
            found = self._by_id.get(owner.record.links.get(alias, "")) if owner is not None else None
            if found is not None:
                return found
        if wanted:
            matches = [c for key, c in self._by_id.copy().items() if key.startswith(wanted)]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise InvalidRequest(f"Multiple IDs found with provided prefix: {wanted}")
        raise NotFound("container", name)

    def reserve(self, name: str, container_id: str) -> str:
        """Take a name ("" makes one up) for a container; NameInUse, InvalidRequest."""
        wanted = name.removeprefix("/")
        if wanted and not NAME.match(wanted):
            raise InvalidRequest(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        with self._lock:
            while not wanted:
                made_up = f"{secrets.choice(_MOODS)}_{secrets.choice(_BOATS)}"
                made_up = made_up if made_up not in self._names else f"{made_up}{secrets.randbelow(10_000)}"
                wanted = made_up if made_up not in self._names else ""
            owner = self._names.setdefault(wanted, container_id)
        if owner != container_id:
            raise NameInUse(wanted, owner)
        return wanted

    def release(self, name: str, container_id: str) -> None:
        """Give a name back; quiet if it is not this container's."""
        with self._lock:
            if self._names.get(name) == container_id:
                del self._names[name]

    def add(self, container: Container) -> None:
        with self._lock:
            self._by_id[container.id] = container

    def drop(self, container: Container) -> None:
        with self._lock:
            self._by_id.pop(container.id, None)
        self.release(container.name, container.id)


_MOODS: Final = tuple(
    "able agile amber ample apt ardent balmy bold brave breezy bright brisk calm candid cheery clever cosy crisp daring deft eager "
    "early easy fair fleet fond frank fresh gentle glad golden grand happy hardy hearty honest humble jolly keen kind lively "
    "loyal lucid lucky mellow merry mild modest neat nimble noble patient plain plucky polite proud quick quiet rapid ready "
    "robust serene sharp silent sleek smart snug solid sound spry stable steady still stout strong sunny sure swift tidy trim "
    "true upbeat valiant vivid warm wise witty young zesty".split()
)
_BOATS: Final = tuple(
    "argosy barge bark brig canoe caravel carrack catboat clipper cog coracle corvette curragh cutter dhow dinghy dory drifter "
    "felucca ferry flyboat frigate galleon galley gig gondola hooker houseboat hoy ironclad jolly junk kayak ketch knarr launch "
    "lighter longship lugger outrigger packet pinnace pirogue pontoon proa punt raft sampan schooner scow shallop skiff sloop "
    "smack steamer tender towboat trawler trimaran tug umiak wherry whaler xebec yacht yawl".split()
)
