"""What a new engine finds: containers that ran on without one, that ended meanwhile, and what belongs to nobody.

A record is the truth about what should be; the kernel about what is. A container whose keeper answers is adopted as it
runs; one whose keeper is gone has left its exit record, or died with its keeper. Nothing found here stops a start:
a damaged directory is set aside and reported.
"""

from __future__ import annotations

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from wherry.clock import now, stamp
from wherry.container import record as records
from wherry.container.container import Container, Run
from wherry.container.state import Move
from wherry.errors import WherryError
from wherry.house import House
from wherry.lifecycle import execs, exits, links, networking
from wherry.lifecycle.leftovers import clean_up
from wherry.lifecycle.remove import ASIDE, leftovers, purge
from wherry.lifecycle.rootfs import storage_data

log = logging.getLogger(__name__)

DAMAGED: Final = ".damaged-"
# Made once: several threads that make msgspec learn one type at the same time end the process.
_decode_run: Final = msgspec.json.Decoder(Run)


def load_records(house: House) -> None:
    """Read every container's record; names that clash or records that are damaged are reported, not fatal."""
    directory = house.data_root / "containers"
    directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    for path in sorted(directory.iterdir()):
        if path.name.startswith((ASIDE, DAMAGED)) or not path.is_dir():
            continue
        try:
            record, host_config = records.load(path)
            house.containers.reserve(record.name, record.id)
            house.networks.promises.keep(record.id, record.networks)
            house.containers.add(Container(path, record, host_config, storage_data(house, record.id)))
        except (ValueError, WherryError) as error:
            aside = path.with_name(DAMAGED + path.name)
            log.error("container %s is damaged and set aside as %s: %s", path.name[:12], aside.name, error)
            if not any(path.iterdir()):
                path.rmdir()
            else:
                os.rename(path, aside)


def restore(house: House) -> None:
    """Adopt what runs, bring to rest what has ended, remove what nobody owns, apply restart policies."""
    live = []
    ended: list[tuple[Container, Run | None]] = []
    with ThreadPoolExecutor(8, "restore") as pool:
        for container, run in pool.map(lambda c: (c, adopt(house, c)), house.containers.all()):
            if container.keeper is not None and run is not None:
                if run.connection is not None:
                    live.append(run.connection)
            elif run is not None or container.state.status in ("running", "paused", "restarting", "removing"):
                ended.append((container, run))
    gone = [run.connection for _, run in ended if run is not None and run.connection is not None]
    for mended in house.networks.setup(live, gone):
        log.info("network: %s", mended)
    for container, run in ended:
        _rest(house, container, run)
    sweep(house)
    for container in house.containers.all():
        if container.keeper is not None and container.record.links:
            with container.operation("link"):
                links.refresh(house, container)
    # All are marked before any is started: who joins another's namespaces waits for one that is to be started.
    for container in [each for each in house.containers.all() if each.keeper is None and _wanted(each)]:
        container.move(Move.BACKED_OFF)
    for container in house.containers.all():
        if container.keeper is None and container.state.status == "restarting":
            house.workers.submit(exits.restart, house, container)


def adopt(house: House, container: Container) -> Run | None:
    """The run that a container is still in, or was in when it ended; its keeper is connected if it lives."""
    try:
        run = _decode_run.decode(house.run_file(container).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("run state of %s is unreadable: %s", container.name, error)
        return None
    if run.boot_id != house.boot_id:
        return None
    container.keeper_gone.clear()
    try:
        container.keeper = house.keepers.adopt(container.id)
    except WherryError as error:
        log.warning("container %s runs on, but its keeper cannot be reached: %s", container.name, error)
    if container.keeper is None:
        container.keeper_gone.set()
        return run
    container.run = run
    execs.restore(house, container, container.keeper.status_at_hello.get("execs", {}))
    if container.state.status not in ("running", "paused"):
        container.change(status="running")
    container.publish()
    return run


def _rest(house: House, container: Container, run: Run | None) -> None:
    """A container that is said to run, and has no keeper."""
    event: dict[str, Any] = {}
    try:
        event = msgspec.json.decode((container.directory / "exit.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        log.debug("container %s left no exit record", container.name)
    if run is not None:
        exits.bring_down(house, container, run)
    if container.state.status == "removing":
        with container.operation("remove"):
            purge(house, container, volumes=container.host_config.auto_remove)
        return
    reason = "" if event else "it ended with its keeper, or with the machine"
    container.run = None
    container.change(
        status="exited",
        exit_code=int(event.get("code", 137 if run is not None else container.state.exit_code or 255)),
        finished_at=stamp(event["time_ns"]) if event.get("time_ns") else now(),
        oom_killed=bool(event.get("oom_killed")),
        error=reason,
    )
    container.save(synced=False)
    house.tell(container, "die", exitCode=str(container.state.exit_code))
    networking.tell_all(house, "disconnect", run.connection if run is not None else None)
    if container.host_config.auto_remove:
        with container.operation("remove"):
            purge(house, container, volumes=True)


def sweep(house: House) -> None:
    """Remove what belongs to no container and no image: cgroups, layers, half-removed directories, run files."""
    known = {container.id for container in house.containers.all()}
    running = {container.id for container in house.containers.all() if container.keeper is not None}
    for name in {house.settings.exec_driver, *(c.record.exec_driver for c in house.containers.all())}:
        try:
            driver = house.driver("exec", name)
            for container_id in driver.call("owned"):
                if container_id not in running:
                    clean_up(driver, container_id, f"{house.cgroup_parent}/{container_id}")
                    log.info("removed what was left of container %s", container_id[:12])
        except WherryError as error:
            log.warning("looking for what is left of containers: %s", error)
    for recovered in house.storage.call("recover"):
        log.info("storage: %s", recovered)
    for layer in house.storage.call("owned"):
        if layer not in known and not house.images.owns_layer(layer):
            house.storage.call("remove", layer=layer)
            log.info("removed layer %s, which belonged to nobody", layer[:12])
    house.images.sweep(house.using)
    for path in leftovers(house.data_root / "containers"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (house.exec_root / "run").iterdir():
        if path.name.partition(".")[0] not in running:
            path.unlink(missing_ok=True)


def _wanted(container: Container) -> bool:
    """Whether its restart policy has it started with the engine."""
    policy, state = container.host_config.restart_policy.name, container.state
    wanted = (
        policy == "always"
        or (policy == "unless-stopped" and not state.stopped_by_user)
        or (policy == "on-failure" and state.exit_code != 0 and not state.stopped_by_user)
    )
    return wanted and state.status == "exited"
