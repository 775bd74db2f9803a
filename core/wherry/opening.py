"""Opening an engine: from settings to a `House` with every room ready, and closing it again.

One engine per data root, enforced by a lock; an id of 8 hexadecimal digits per data root, part of the name of every
kernel object that the engine makes, so that two engines share a host.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import posixpath
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

from wherry import discovery
from wherry.cgroups.delegation import settle
from wherry.cgroups.support import Support, find_support
from wherry.config import Settings
from wherry.container.registry import Containers
from wherry.errors import ConfigurationError, Conflict, DriverError, Unsupported
from wherry.events import Events
from wherry.host_files import HostFiles
from wherry.house import House
from wherry.images import Images
from wherry.keeper.client import Keepers
from wherry.keeper.protocol import Warm
from wherry.lifecycle import exits, resolv_conf, restore
from wherry.lifecycle.usual import read_seccomp
from wherry.linux import cgroups, mountinfo, mounts, processes
from wherry.logs.cache import LOCAL
from wherry.network.networks import Networks, NetworkSettings
from wherry.network.pools import pool
from wherry.plugins import Driver, Kind, Resolved, examine, load
from wherry.services import EngineServices
from wherry.state import atomic
from wherry.timers import Timers
from wherry.userns import ranges as id_ranges
from wherry.userns.spaces import UserNamespaces
from wherry.volumes import Volumes

log = logging.getLogger(__name__)

STORAGE_BY_PREFERENCE: Final = ("overlay2", "vfs")


class Drivers:
    """The drivers in use, each loaded once, at its first use."""

    def __init__(
        self,
        settings: Settings,
        catalogue: discovery.Catalogue,
        services: EngineServices,
        roots: Mapping[str, Path],
    ) -> None:
        self._settings, self._catalogue, self._services, self._roots = settings, catalogue, services, roots
        self._loaded: dict[tuple[str, str], Driver] = {}
        self._lock = threading.Lock()
        self.extensions: tuple[Driver, ...] = ()

    def __call__(self, kind: str, name: str) -> Driver:
        """The driver of that kind and name; ConfigurationError if there is none, DriverError if it is broken."""
        found = self._loaded.get((kind, name))
        if found is not None:
            return found
        with self._lock:
            found = self._loaded.get((kind, name))
            if found is None:
                found = self._loaded[kind, name] = self._load(cast(Kind, kind), name)
        return found

    def in_use(self) -> list[tuple[Kind, str]]:
        return [(cast(Kind, kind), name) for kind, name in self._loaded]

    def _load(self, kind: Kind, name: str) -> Driver:
        root = self._roots[kind] / name if kind in self._roots else None
        if root is not None:
            root.mkdir(parents=True, exist_ok=True, mode=0o711)
        options = self._settings.driver_options(kind, name) if kind != "log" else {}
        if kind == "frontend" and takes(self._catalogue.find(kind, name), "group"):
            options = {"group": self._settings.group, **options}
        resolved = self._catalogue.find(
            kind,
            name,
            options=options,
            sources=self._settings.driver_sources(kind, name),
            root=str(root) if root is not None else "",
        )
        try:
            return load(resolved, self._services.bound(driver=name), self.extensions)
        except DriverError as error:
            self._catalogue.broken(kind, name, str(error))
            raise


def takes(resolved: Resolved, option: str) -> bool:
    """Whether a driver declares an option of this name."""
    declared = getattr(examine(resolved), "Options", None)
    return declared is not None and option in {each.name for each in fields(declared)}


@dataclass(kw_only=True)
class Opened:
    """An open house with what only its owner may touch."""

    house: House
    drivers: Drivers
    lock: int


def open_house(settings: Settings) -> Opened:
    """Everything an engine needs, restored. Conflict if another engine owns the root; nothing is left on an error."""
    if os.geteuid() != 0:
        raise Conflict("the engine needs root: run it with sudo")
    settings.data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    lock = _lock(settings.data_root)
    closers: list[Callable[[], object]] = [lambda: os.close(lock)]
    try:
        return _open(settings, lock, closers)
    except BaseException:
        for close in reversed(closers):
            close()
        raise


def _open(settings: Settings, lock: int, closers: list[Callable[[], object]]) -> Opened:
    engine_id = _engine_id(settings.data_root)
    seccomp = read_seccomp(settings)
    if _prepare_exec_root(settings.exec_root):
        closers.append(lambda: _clear_exec_root(settings.exec_root))
    territory = settle(settings.cgroup_parent, engine_id)
    services = EngineServices(engine_id=engine_id, cgroup_parent=f"{territory.parent}/containers")
    catalogue = discovery.Catalogue()
    roots = {
        "exec": settings.exec_root / "exec",
        "storage": settings.data_root / "storage",
        "network": settings.exec_root / "network",
    }
    drivers = Drivers(settings, catalogue, services, roots)
    drivers.extensions = tuple(_extension(drivers, name) for name in settings.extensions)
    exec_driver = drivers("exec", settings.exec_driver)
    log_driver = drivers("log", settings.log_driver)
    storage = _storage(settings, drivers)
    images = Images(settings.data_root / "images", storage, services.log)
    events = Events()
    timers = Timers()
    workers = ThreadPoolExecutor(24, "worker")
    background = ThreadPoolExecutor(4, "background")
    networks = Networks(
        root=settings.data_root / "networks",
        exec_root=settings.exec_root,
        engine_id=engine_id,
        driver=lambda name: drivers("network", name),
        settings=_network_settings(settings, engine_id),
        log=services.log,
    )
    closers.append(networks.close)
    userns = _user_namespaces(settings, services, closers)
    houses: list[House] = []

    def on_event(container_id: str, event: Mapping[str, Any]) -> None:
        for house in houses:
            exits.on_event(house, container_id, event)

    keepers = Keepers(
        settings.exec_root,
        Warm(
            exec_drivers=(exec_driver.resolved,),
            log_drivers=_log_drivers(drivers, log_driver),
            extensions=tuple(extension.resolved for extension in drivers.extensions),
            engine_id=engine_id,
            cgroup_parent=services.cgroup_parent,
        ),
        on_event,
    )
    closers.append(keepers.close)
    house = House(
        settings=settings,
        data_root=settings.data_root,
        exec_root=settings.exec_root,
        engine_id=engine_id,
        boot_id=processes.boot_id(),
        cgroup_parent=services.cgroup_parent,
        cgroup_root=territory.root,
        support=_support(services.cgroup_parent),
        catalogue=catalogue,
        driver=drivers,
        events=events,
        containers=Containers(),
        images=images,
        storage=storage,
        networks=networks,
        keepers=keepers,
        volumes=Volumes(settings.data_root / "volumes"),
        timers=timers,
        workers=workers,
        background=background,
        userns=userns,
        extensions=drivers.extensions,
        seccomp=seccomp,
    )
    houses.append(house)
    for extension in drivers.extensions:
        if extension.has("observe"):
            events.observers.append(_observer(extension))
    restore.load_records(house)
    restore.restore(house)
    _follow_host(house)
    background.submit(_report_broken, catalogue)
    return Opened(house=house, drivers=drivers, lock=lock)


def _follow_host(house: House) -> None:
    """Containers follow the host's resolv.conf, also what changed while there was no daemon."""
    path = house.settings.resolv_conf

    def changed() -> None:
        try:
            house.background.submit(resolv_conf.host_changed, house)
        except RuntimeError:
            log.debug("the host's %s changed while the engine was closing", path)

    try:
        house.host_files = HostFiles(resolv_conf.watched(path), lambda: resolv_conf.host_text(path), changed)
    except OSError as error:
        log.warning("%s cannot be watched, containers will not follow it: %s", path, error)
    changed()


def close_house(opened: Opened) -> None:
    """Give everything back but the containers that run: the next engine on this root adopts them."""
    house = opened.house
    house.closing = True
    house.events.close()
    house.timers.close()
    if house.host_files is not None:
        house.host_files.close()
    house.workers.shutdown(wait=True)
    house.background.shutdown(wait=True)
    house.keepers.close()
    for container in house.containers.all():
        container.root.close()
    alone = not any(container.running for container in house.containers.all())
    if alone:
        house.networks.dismantle()
    house.networks.close()
    if house.userns is not None:
        house.userns.close()
    if alone:
        _clear_exec_root(house.exec_root)
        cgroups.remove_empty(house.cgroup_parent)
        cgroups.remove_empty(posixpath.dirname(house.cgroup_parent))
    os.close(opened.lock)


def _user_namespaces(
    settings: Settings, services: EngineServices, closers: list[Callable[[], object]]
) -> UserNamespaces | None:
    if not settings.userns_remap:
        return None
    maps = id_ranges.maps(settings.userns_remap)
    if maps is None:
        log.warning("User namespaces: root cannot be remapped with itself; user namespaces are OFF")
        return None
    made = UserNamespaces(maps, services.log)
    closers.append(made.close)
    made.start(settings.data_root)
    return made


def _support(cgroup_parent: str) -> Support:
    try:
        return find_support(cgroup_parent)
    except OSError as error:
        log.warning("no cgroup can be made below %s, so no container can start: %s", cgroup_parent, error)
        return Support(version=cgroups.hierarchies().version)


def _lock(root: Path) -> int:
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(f"another engine owns {root}: stop it, or choose another --data-root") from None
    return descriptor


def _engine_id(root: Path) -> str:
    path = root / "engine-id"
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        found = ""
    if len(found) != 8:
        found = secrets.token_hex(4)
        atomic.promise(path, found.encode() + b"\n")
        atomic.sync_directory(root)
    return found


def _prepare_exec_root(root: Path) -> bool:
    """Whether it had to be mounted: then nothing in it lives."""
    root.mkdir(parents=True, exist_ok=True, mode=0o711)
    found = mountinfo.of(root)
    fresh = found is None or found.kind != "tmpfs" or found.target != os.path.realpath(root)
    if fresh:
        mounts.mount("wherry", root, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=711")
        # Shared, so that unmounting a namespace here lets go of it in every copy of the mount tree.
        mounts.make_shared(root)
    for name in ("keepers", "sandboxes", "exec", "run", "network"):
        (root / name).mkdir(exist_ok=True, mode=0o700)
    return fresh


def _clear_exec_root(root: Path) -> None:
    try:
        while mountinfo.is_mount_point(root):
            mounts.umount(root, mounts.MNT_DETACH)
    except OSError as error:
        log.warning("unmounting %s: %s", root, error)


def _extension(drivers: Drivers, name: str) -> Driver:
    return drivers("extension", name)


def _observer(extension: Driver) -> Callable[[Any], None]:
    def observe(event: Any) -> None:
        extension.call(
            "observe",
            event={
                "type": event.kind,
                "action": event.action,
                "id": event.subject,
                "attributes": dict(event.attributes),
                "time_ns": event.time_ns,
                "sequence": event.sequence,
            },
        )

    return observe


def _report_broken(catalogue: discovery.Catalogue) -> None:
    """Hold every installed driver against its contract, in a process of its own: here only those in use are imported."""
    answer = subprocess.run(
        [sys.executable, "-m", "wherry.check_drivers"], capture_output=True, timeout=60, check=False
    )
    if answer.returncode != 0:
        log.warning(
            "checking the installed drivers failed: %s", answer.stderr.decode(errors="replace").strip()
        )
        return
    for kind, name, reason in json.loads(answer.stdout):
        catalogue.broken(kind, name, reason)
        log.warning("%s driver %s is broken and left out: %s", kind, name, reason)


def _storage(settings: Settings, drivers: Drivers) -> Driver:
    if settings.storage_driver:
        chosen = drivers("storage", settings.storage_driver)
        chosen.call("status")
        return chosen
    reasons = []
    for name in STORAGE_BY_PREFERENCE:
        try:
            driver = drivers("storage", name)
            driver.call("status")
        except (Unsupported, ConfigurationError, DriverError) as error:
            reasons.append(f"{name}: {error}")
            continue
        return driver
    raise Unsupported("no storage driver works here: " + "; ".join(reasons))


def _log_drivers(drivers: Drivers, usual: Driver) -> tuple[Resolved, ...]:
    """What keepers find imported: the usual driver, and who keeps the copy of what it sends away."""
    if usual.has("read"):
        return (usual.resolved,)
    try:
        return (usual.resolved, drivers("log", LOCAL).resolved)
    except (ConfigurationError, DriverError):
        return (usual.resolved,)


def _network_settings(settings: Settings, engine_id: str) -> NetworkSettings:
    return NetworkSettings(
        bridge=settings.bridge or f"wh-{engine_id}",
        bip=settings.bip,
        fixed_cidr=settings.fixed_cidr,
        default_gateway=settings.default_gateway,
        ipv6=settings.ipv6,
        bip6=settings.bip6,
        fixed_cidr_v6=settings.fixed_cidr_v6,
        default_gateway_v6=settings.default_gateway_v6,
        pools=tuple(pool(each.base, each.size) for each in settings.default_address_pools),
        mtu=settings.mtu if "mtu" in settings.sources else 0,
        icc=settings.icc,
        ip_masq=settings.ip_masq,
        ip_forward=settings.ip_forward,
        iptables=settings.iptables,
        firewall=settings.firewall or "auto",
        default_address=settings.ip,
    )
