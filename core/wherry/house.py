"""`House`: the rooms of one engine, and what they share. Built by `wherry.engine`, handed to every verb of the lifecycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from wherry.cgroups.support import Support
from wherry.config import Settings
from wherry.container.container import Container
from wherry.container.exec_table import Execs
from wherry.container.registry import Containers
from wherry.discovery import Catalogue
from wherry.errors import WherryError
from wherry.events import Events
from wherry.host_files import HostFiles
from wherry.images import Images
from wherry.keeper.client import Keepers
from wherry.logs.cache import LOCAL
from wherry.network.networks import Networks
from wherry.plugins import Driver
from wherry.spec.command import Seccomp
from wherry.spec.extension import Caller, Request
from wherry.timers import Timers
from wherry.userns.spaces import UserNamespaces
from wherry.volumes import Volumes


@dataclass(kw_only=True)
class House:
    """Everything that a verb may need. Fixed after the engine has started."""

    settings: Settings
    data_root: Path
    exec_root: Path
    engine_id: str
    boot_id: str
    cgroup_parent: str
    """Below it containers have their cgroups, unless they name another parent."""
    cgroup_root: str
    """What a parent is relative to that does not begin with a slash."""
    support: Support
    catalogue: Catalogue
    driver: Callable[[str, str], Driver]
    """(kind, name) → the loaded driver; InvalidRequest or DriverError."""
    events: Events
    containers: Containers
    images: Images
    storage: Driver
    networks: Networks
    keepers: Keepers
    volumes: Volumes
    timers: Timers
    workers: ThreadPoolExecutor
    background: ThreadPoolExecutor
    """For what nobody waits for: deleting, unmounting."""
    userns: UserNamespaces | None = None
    """With `userns-remap`: where containers' user namespaces come from."""
    extensions: tuple[Driver, ...] = ()
    seccomp: Seccomp = field(default_factory=Seccomp)
    """The filter of containers that name none."""
    execs: Execs = field(default_factory=Execs)
    closing: bool = False
    host_files: HostFiles | None = None
    """Watches the host's resolv.conf."""

    def exec_driver(self, container: Container) -> Driver:
        return self.driver("exec", container.record.exec_driver)

    def log_driver(self, container: Container) -> Driver:
        return self.driver("log", container.record.log_driver)

    def log_copy(self) -> Driver | None:
        """The driver that keeps a readable copy of logs that are sent away; None where it is not installed."""
        try:
            return self.driver("log", LOCAL)
        except WherryError:
            return None

    def admit(self, operation: str, subject: str = "", fields: Mapping[str, object] | None = None) -> None:
        """Ask every extension whether this may be; Forbidden if one says no."""
        request = Request(operation=operation, subject=subject, fields=fields or {})
        for extension in self.extensions:
            if extension.has("admit"):
                extension.call("admit", request=request, caller=Caller())

    def using(self, image_id: str) -> list[tuple[str, bool]]:
        """The containers made from an image: (id, whether it runs)."""
        return [(c.id, c.running) for c in self.containers.all() if c.record.image == image_id]

    def tell(self, container: Container, action: str, **attributes: str) -> None:
        """Publish an event of a container, with the attributes that Docker's clients expect."""
        self.events.publish(
            "container",
            action,
            container.id,
            {
                "image": container.record.image_name,
                "name": container.name,
                **(container.record.config.labels or {}),
                **attributes,
            },
        )

    def run_file(self, container: Container) -> Path:
        return self.exec_root / "run" / f"{container.id}.json"
