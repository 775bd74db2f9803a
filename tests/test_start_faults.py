"""Every step of a start, made to fail one by one, leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry import Engine
from wherry.errors import WherryError
from wherry.lifecycle import start
from wherry.spec.container import Config, CreateRequest, HostConfig, PortBinding
from wherry.testing.daemon import eventually
from wherry.testing.images import busybox_image
from wherry.undo import Undo


class Broken(WherryError):
    """The fault that a test puts in."""


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory, own_network: None) -> Iterator[Engine]:
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="wherry-fault-", dir="/var/tmp"))
    with Engine(root) as engine:
        busybox_image(engine)
        yield engine
        for container in engine.containers(all=True):
            engine.remove(container.id, force=True)
    shutil.rmtree(root)


def owned(engine: Engine) -> dict[str, object]:
    """Everything in the kernel, on disk and in this process that belongs to containers."""
    house = engine._house
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    cgroups = sorted(
        str(path) for top in tops for path in (top / f"wherry-{house.engine_id}" / "containers").glob("*/")
    )
    children = [p for p in Path("/proc").iterdir() if p.name.isdigit() and _mentions(p, str(house.data_root))]
    return {
        "network": house.networks.owned(),
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(house.data_root) in line and "sandboxes" not in line
        ],
        "cgroups": cgroups,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "keepers": sorted(p.name for p in (house.exec_root / "keepers").iterdir()),
        "runs": sorted(p.name for p in (house.exec_root / "run").iterdir()),
        "processes": len(children),
    }


def settled(engine: Engine) -> dict[str, object]:
    """What is owned once the background has done its work: the same for a hundred looks in a row."""
    looks: list[dict[str, object]] = []

    def same() -> bool:
        looks.append(owned(engine))
        return len(looks) >= 100 and all(look == looks[-1] for look in looks[-100:])

    eventually(same, "a quiet engine")
    return looks[-1]


def _mentions(process: Path, text: str) -> bool:
    try:
        return (
            text.encode() in (process / "cmdline").read_bytes()
            and (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


def container(engine: Engine) -> str:
    return engine.create(
        CreateRequest(
            config=Config(image="busybox", cmd=["sleep", "1000"], working_dir="/made"),
            host_config=HostConfig(
                port_bindings={
                    "80/tcp": [PortBinding(host_port="8099")],
                    "53/udp": [PortBinding(host_port="8053")],
                },
                binds=["/etc:/host-etc:ro", "named:/data"],
                memory=32 << 20,
            ),
        )
    ).id


def failing(step: object) -> object:
    def fail(begun: start.Start, undo: Undo) -> None:
        step(begun, undo)  # type: ignore[operator]
        raise Broken(f"after {step.__name__}")  # type: ignore[attr-defined]

    fail.__name__ = step.__name__  # type: ignore[attr-defined]
    return fail


@pytest.mark.parametrize("index", range(len(start.STEPS)), ids=[step.__name__ for step in start.STEPS])
def test_a_failing_step_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """No mount, veth, rule, address, cgroup, process or directory is left; the error is the first; it starts after."""
    name = container(engine)
    engine.start(name)
    engine.kill(name)
    engine.wait(name).result(10)
    eventually(lambda: not owned(engine)["keepers"])
    before = settled(engine)
    steps = list(start.STEPS)
    steps[index] = failing(steps[index])  # type: ignore[assignment]
    with monkeypatch.context() as patched:
        patched.setattr(start, "STEPS", tuple(steps))
        with pytest.raises(Broken, match=f"after {start.STEPS[index].__name__}"):
            engine.start(name)
    assert settled(engine) == before
    assert engine.inspect(name).status == "exited"
    assert "after" in engine.inspect(name).error
    engine.start(name)
    assert engine.inspect(name).status == "running"


def test_a_program_that_is_missing_leaves_nothing(engine: Engine) -> None:
    """The fault that comes last of all, from execve itself."""
    name = engine.create(CreateRequest(config=Config(image="busybox", cmd=["no-such-program"]))).id
    before = settled(engine)
    for _ in range(3):
        with pytest.raises(WherryError, match="executable file not found"):
            engine.start(name)
    assert settled(engine) == before
    assert engine.inspect(name).exit_code == 127
