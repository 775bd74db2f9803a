"""start: the steps from a record to a running process, each with its inverse.

The order is the reference's `Container.Start`. A step takes the `Start` in hand and adds the one thing it knows; its
inverse is registered before it acts, so that a failure at step N undoes N…1 and the user sees the first error.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from wherry.cgroups.path import cgroup_path
from wherry.clock import now
from wherry.container.container import Container, Run
from wherry.container.state import Move
from wherry.errors import Conflict, NotModified, StartFailed, Unavailable
from wherry.house import House
from wherry.keeper.client import attached
from wherry.keeper.protocol import NameServer, Setup
from wherry.lifecycle import command as commands
from wherry.lifecycle import (
    defaults,
    device_nodes,
    idmaps,
    namespaces,
    naming,
    networking,
    peers,
    publishing,
    resolv_conf,
    resolving,
    rootfs,
    security,
    shared_memory,
    sysctls,
)
from wherry.lifecycle import links as linking
from wherry.lifecycle.descriptors import Descriptors
from wherry.lifecycle.idmaps import Remapped
from wherry.lifecycle.leftovers import clean_up
from wherry.lifecycle.limits import honoured
from wherry.lifecycle.mounting import in_order, mount_of, tmpfs_mounts
from wherry.lifecycle.remove import purge
from wherry.lifecycle.runs import write_run
from wherry.lifecycle.usual import usual_of
from wherry.lifecycle.waiting import settle
from wherry.linux import mapped, mounts, paths
from wherry.logs.cache import copy_context, driver_context
from wherry.logs.options import delivery
from wherry.network.connection import Connection
from wherry.spec.command import Command, Mount
from wherry.spec.log import LogContext
from wherry.undo import Undo

log = logging.getLogger(__name__)

KEEPER_LEAVES: Final = 10.0
"""Seconds that a start waits for the keeper of the run before to be gone."""


@dataclass(kw_only=True)
class Start:
    """A start in progress: what the steps have found and made so far."""

    house: House
    container: Container
    descriptors: Descriptors
    ports: Descriptors
    """What holds the published ports, in the order of `connection.held`."""
    closing: ExitStack
    """What only the steps need."""
    remapped: Remapped | None = None
    """Its user namespace, where it has one."""
    names: list[int] = field(default_factory=list)
    """The positions of the name server's sockets, if there are some."""
    root: int = -1
    """The run's own mount of the root file system."""
    rootfs: int = 0
    """The position of that descriptor."""
    seed: int = 0
    """The position of what the keeper holds of the root, for the next daemon: see `Root`."""
    connection: Connection | None = None
    linked: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    mounts: list[Mount] = field(default_factory=list)
    command: Command | None = None
    log_context: LogContext | None = None
    run: Run | None = None


def start(house: House, name: str) -> None:
    """Run a container's process 1; returns when its program is executing.

    NotModified if it runs already; Conflict if it is being removed; StartFailed and its kin, with the state, error
    and exit code recorded. Source: reference Container.Start; API 1.51 ContainerStart.
    """
    container = house.containers.get(name)
    house.admit("container.start", container.id)
    with container.operation("start") as operation:
        if container.view.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.running:
            raise NotModified(f"container {container.name} is running already")
        if container.view.status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be started")
        container.stop_requested = False
        attempt(house, container, operation.cancelled.is_set)


def attempt(house: House, container: Container, cancelled: Callable[[], bool]) -> None:
    """One start, inside the container's operation. On an error all is undone and recorded."""
    if not container.keeper_gone.wait(KEEPER_LEAVES):
        raise Unavailable(f"the keeper of the last run of {container.name} has not ended; try again")
    container.exit_seen = None
    container.oom_told = False
    try:
        with Undo() as undo, Descriptors() as descriptors, Descriptors() as ports, ExitStack() as closing:
            begun = Start(
                house=house, container=container, descriptors=descriptors, ports=ports, closing=closing
            )
            for step in STEPS:
                container.operation.step = step.__name__
                if cancelled():
                    raise Conflict("cancelled")
                step(begun, undo)
            undo.keep()
    except Exception as error:
        if not cancelled():
            _failed(house, container, error)
            raise
        told = Conflict(f"the start of container {container.name} was cancelled")
        _failed(house, container, told)
        raise told from error
    assert begun.run is not None
    container.run = begun.run
    container.move(
        Move.STARTED,
        exit_code=0,
        error="",
        oom_killed=container.oom_told and container.state.oom_killed,
        started_at=now(),
        finished_at=container.state.finished_at,
    )
    house.tell(container, "start")
    linking.tell_parents(house, container)
    container.save(synced=False)


def _failed(house: House, container: Container, error: Exception) -> None:
    container.run = None
    _hang_up(container)
    code = error.exit_code if isinstance(error, StartFailed) else 128
    container.move(Move.FAILED, exit_code=code, error=str(error), finished_at=now())
    container.save(synced=False)
    house.tell(container, "die", exitCode=str(code))
    if container.host_config.auto_remove:
        purge(house, container, volumes=True)
    else:
        settle(container, code, str(error))


def _hang_up(container: Container) -> None:
    while container.pending:
        os.close(container.pending.pop().descriptor)


# The steps, in their order.


def owners(begun: Start, undo: Undo) -> None:
    """Whose ids it has: its user namespace."""
    begun.remapped = idmaps.choose(begun.house, begun.container)
    if begun.remapped is not None:
        begun.closing.callback(begun.remapped.close)


def dns(begun: Start, undo: Undo) -> None:
    """resolv.conf: reference `setupContainerDns`."""
    resolv_conf.write_at_start(begun.house, begun.container)


def root(begun: Start, undo: Undo) -> None:
    """The root file system, mounted once, as a descriptor: reference `Mount`."""
    container, remapped = begun.container, begun.remapped
    undo.add(container.root.end_run)
    maps, userns = (None, -1) if remapped is None else (remapped.maps, remapped.user)
    begun.root, seed = container.root.begin_run(
        lambda: rootfs.attach(begun.house, container.id, maps=maps, userns=userns), maps
    )
    begun.rootfs, begun.seed = begun.descriptors.add(begun.root), begun.descriptors.add(seed)


def network(begun: Start, undo: Undo) -> None:
    """Sandbox, endpoints, published ports: reference `initializeNetworking`, `AllocateNetwork`."""
    house, container = begun.house, begun.container
    config, mode = container.record.config, container.host_config.network_mode
    owner = None
    if mode.startswith("container:") and not config.network_disabled:
        peer = house.containers.get(peers.of_mode(mode))
        if not peer.running or peer.run is None or peer.run.connection is None:
            raise Conflict(f"cannot join network of a non running container: {peer.id}")
        owner = peer.run.connection
        container.rewrite(
            config=msgspec.structs.replace(
                config, hostname=peer.record.config.hostname, domainname=peer.record.config.domainname
            )
        )
    connection = house.networks.connect(networking.request(house, container, owner, begun.remapped))
    undo.add(house.networks.release, connection)
    undo.add(networking.tell_all, house, "disconnect", connection)
    networking.tell_all(house, "connect", connection)
    begun.connection = connection
    # Owned by the start from here on: a failure closes them, the keeper holds its own copies.
    for descriptor in connection.sockets:
        begun.ports.add(descriptor)
    if connection.listener is not None:
        for descriptor in connection.listener.descriptors:
            begun.names.append(begun.descriptors.add(descriptor))


def hosts(begun: Start, undo: Undo) -> None:
    """/etc/hostname and /etc/hosts: reference `buildHostnameAndHostsFiles`."""
    assert begun.connection is not None
    naming.write_names(begun.house, begun.container, begun.connection)


def settings(begun: Start, undo: Undo) -> None:
    """What this kernel cannot honour is said and dropped: reference `verifyDaemonSettings`."""
    container = begun.container
    container.host_config, warnings = honoured(container.host_config, begun.house.support)
    for warning in warnings:
        log.warning("container %s: %s", container.name, warning)
    bridged = begun.connection is not None and begun.connection.endpoints
    if (
        bridged
        and begun.house.settings.ip_forward
        and Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0"
    ):
        log.warning("IPv4 forwarding is disabled. Networking will not work")


def volumes(begun: Start, undo: Undo) -> None:
    """Sources of binds and volumes as descriptors, in the host's namespace: reference `prepareVolumes`."""
    container = begun.container
    userns = None if begun.remapped is None else begun.remapped.user
    begun.mounts += [
        mount_of(begun.house, point, begun.descriptors, userns) for point in container.record.mounts
    ]
    begun.mounts += tmpfs_mounts(container.host_config)


def links(begun: Start, undo: Undo) -> None:
    """`--link`: reference `setupLinkedContainers`."""
    house, container = begun.house, begun.container
    assert begun.connection is not None
    begun.linked = linking.environment(house, container)
    if wanted := linking.passages(house, container, begun.connection):
        begun.connection = house.networks.allow(begun.connection, wanted)
        undo.add(house.networks.release, begun.connection)


def working_directory(begun: Start, undo: Undo) -> None:
    """Made if it is missing: reference `setupWorkingDirectory`."""
    wanted = begun.container.record.config.working_dir
    if wanted and wanted != "/":
        try:
            with idmaps.making(begun.remapped.maps if begun.remapped is not None else None):
                paths.make_directories_in_root(begun.root, wanted, 0o755)
        except (NotADirectoryError, FileExistsError):
            raise StartFailed(f"Cannot mkdir: {wanted} is not a directory") from None
        except OSError as error:
            shown = wanted if len(wanted) < 100 else f"{wanted[:100]}…"
            raise StartFailed(f"Cannot mkdir: {shown}: {error.strerror}") from error


def environment(begun: Start, undo: Undo) -> None:
    """Reference `createDaemonEnvironment`."""
    begun.environment = commands.environment(begun.container.record.config, begun.linked)


def command(begun: Start, undo: Undo) -> None:
    """The `Command`: reference `populateCommand`."""
    house, container = begun.house, begun.container
    config, host = container.record.config, container.host_config
    devices, rules = device_nodes.devices(host)
    assert begun.connection is not None
    plain = defaults.SYSCTLS if begun.connection.plan.kind == "own" else {}
    sysctls.check_container(house, host)
    process = commands.process(config, host, begun.environment, usual_of(house))
    if container.terminal_size is not None:
        process = dataclasses.replace(process, console_size=container.terminal_size)
    donor = shared_memory.donor(house, container)
    begun.command = Command(
        id=container.id,
        rootfs=begun.rootfs,
        readonly_rootfs=host.readonly_rootfs,
        process=process,
        hostname="" if host.uts_mode == "host" else config.hostname,
        domainname=config.domainname,
        init=bool(host.init),
        namespaces=namespaces.chosen(
            house, container, begun.connection, begun.remapped, donor, begun.descriptors
        ),
        shm=_shm(begun, donor),
        devices=devices,
        device_rules=rules,
        masked_paths=tuple(host.masked_paths or ()),
        readonly_paths=tuple(host.readonly_paths or ()),
        sysctls={**plain, **sysctls.named(host.sysctls or {})},
        resources=commands.resources(host),
        cgroup=cgroup_path(
            host.cgroup_parent, container.id, usual=house.cgroup_parent, root=house.cgroup_root
        ),
    )
    for extension in house.extensions:
        if extension.has("amend"):
            begun.command = extension.call("amend", command=begun.command) or begun.command
    for extension in house.extensions:
        if extension.has("check"):
            extension.call("check", command=begun.command)


def _shm(begun: Start, donor: shared_memory.Donor | None) -> int | None:
    """Not where the user has mounted something else."""
    if any(mount.target == shared_memory.TARGET for mount in begun.mounts):
        return None
    found = shared_memory.mount_of(begun.container, donor)
    return None if found is None else begun.descriptors.add(found)


def setup_mounts(begun: Start, undo: Undo) -> None:
    """All mounts in their order: those of every container, the three files, then the user's. Reference `setupMounts`."""
    assert begun.command is not None
    host = begun.container.host_config
    usual = defaults.mounts(
        privileged=host.privileged,
        writable_cgroups=security.of(host).writable_cgroups,
        shm_size=host.shm_size,
        own_shm=begun.command.shm is None and shared_memory.has_its_own(begun.container),
    )
    taken = {mount.target for mount in begun.mounts}
    files = [
        Mount(
            kind="bind",
            target=target,
            source=str(path),
            descriptor=begun.descriptors.add(
                mounts.clone_tree(path) if begun.remapped is None else mapped.bind(path, begun.remapped.user)
            ),
            propagation="rprivate",
            read_only=host.readonly_rootfs,
            is_directory=False,
        )
        for target, path in naming.files(begun.house, begun.container).items()
        if target not in taken
    ]
    begun.command = dataclasses.replace(begun.command, mounts=in_order(usual, [*files, *begun.mounts]))


def logging_context(begun: Start, undo: Undo) -> None:
    """Whose log it will be: reference `startLogging`."""
    begun.log_context = log_context(begun.container)


def log_context(container: Container) -> LogContext:
    """A container, as its log drivers are told of it; with all options, the engine's own too."""
    record, host = container.record, container.host_config
    return LogContext(
        container_id=record.id,
        container_name=record.name,
        directory=container.directory,
        image_id=record.image,
        image_name=record.image_name,
        command=(record.path, *record.args),
        created=record.created,
        labels=record.config.labels or {},
        env=tuple(record.config.env or ()),
        options=host.log_config.config or {},
    )


def run(begun: Start, undo: Undo) -> None:
    """Keeper, process 1 at its barrier, the run recorded, then the barrier opened: reference `waitForStart`."""
    house, container = begun.house, begun.container
    assert begun.command is not None and begun.log_context is not None and begun.connection is not None
    driver = house.exec_driver(container)
    undo.add(_abandon, container)
    container.generation += 1
    container.keeper_gone.clear()
    keeper = container.keeper = house.keepers.spawn(container.id)
    # Of a start that is cut off nobody knows more than where it was to be.
    undo.add(clean_up, driver, container.id, begun.command.cgroup)
    undo.add(_abandon, container)
    setup = _setup(begun)
    ports, sockets = publishing.published(house, begun.connection), begun.ports.numbers
    first = publishing.placed(ports[: publishing.AT_ONCE], len(begun.descriptors.numbers))
    with container.operation.abortable(keeper.abandon):
        running = keeper.start(
            dataclasses.replace(setup, published=first), [*begun.descriptors.numbers, *sockets[: len(first)]]
        )
    undo.add(driver.call, "clean", state=running.state)
    undo.add(driver.call, "kill", state=running.state, signal=9, everyone=True)
    undo.add(_abandon, container)
    begun.run = Run(
        boot_id=house.boot_id,
        pid=running.pid,
        start_time=running.start_time,
        exec_driver=driver.name,
        state=dict(running.state),
        connection=begun.connection,
        cgroup=begun.command.cgroup,
        id_maps=begun.command.namespaces.id_maps,
    )
    undo.add(house.run_file(container).unlink, missing_ok=True)
    write_run(house, container, begun.run)
    (container.directory / "exit.json").unlink(missing_ok=True)
    publishing.send(keeper, ports[len(first) :], sockets[len(first) :])
    keeper.release()
    begun.run = msgspec.structs.replace(begun.run, released=True)


def _setup(begun: Start) -> Setup:
    house, container = begun.house, begun.container
    config, host = container.record.config, container.host_config
    assert begun.command is not None and begun.log_context is not None
    log_driver = house.log_driver(container)
    how = delivery(host.log_config.config or {})
    copied = copy_context(log_driver, begun.log_context)
    copy = house.log_copy() if copied is not None else None
    held = [begun.seed]
    waiting, container.pending = container.pending, []
    attachments = tuple(attached(client, begun.descriptors.add(client.descriptor)) for client in waiting)
    return Setup(
        command=begun.command,
        exec_driver=house.exec_driver(container).resolved,
        log_driver=log_driver.resolved,
        log_context=driver_context(begun.log_context),
        copy_driver=copy.resolved if copy is not None else None,
        copy_context=copied,
        log_mode=how.mode,
        max_buffer_size=how.max_buffer_size,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        exit_path=container.directory / "exit.json",
        attachments=attachments,
        held=tuple(held),
        name_server=_name_server(begun),
    )


def _name_server(begun: Start) -> NameServer | None:
    assert begun.connection is not None
    wanted = resolving.name_server(begun.house, begun.container, begun.connection)
    return resolving.placed(wanted, begun.names[0]) if wanted is not None and begun.names else None


def _abandon(container: Container) -> None:
    keeper, container.keeper = container.keeper, None
    if keeper is not None:
        keeper.abandon()
    container.keeper_gone.set()


STEPS: tuple[Callable[[Start, Undo], None], ...] = (
    owners,
    dns,
    root,
    network,
    hosts,
    settings,
    volumes,
    links,
    working_directory,
    environment,
    command,
    setup_mounts,
    logging_context,
    run,
)
