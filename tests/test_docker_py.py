"""docker-py, unmodified, against a real daemon."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from wherry.testing.daemon import Daemon, eventually


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=daemon.host, timeout=30)
    yield client
    client.close()


def test_run_and_its_output(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "exit 3"], remove=True)
    assert caught.value.exit_status == 3
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("no-such-image")


def test_life_exec_logs_stats(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox",
        ["sh", "-c", "for i in 1 2 3; do echo $i; done; sleep 1000"],
        detach=True,
        name="py",
        mem_limit="64m",
    )
    assert container.exec_run(["sh", "-c", "echo in; exit 5"]) == (5, b"in\n")
    assert b"".join(container.exec_run(["echo", "streamed"], stream=True).output) == b"streamed\n"
    eventually(lambda: container.logs() == b"1\n2\n3\n")
    stats = container.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 64 << 20
    container.rename("renamed")
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()
    assert client.containers.list(all=True) == []


def test_events(client: docker.DockerClient) -> None:
    with_events = client.events(decode=True)
    client.containers.run("busybox", ["true"], remove=True, name="seen")
    actions = []
    for event in with_events:
        if event["Actor"]["Attributes"].get("name") == "seen":
            actions.append(event["Action"])
            if event["Action"] == "destroy":
                break
    with_events.close()
    assert [a for a in actions if a != "attach"] == ["create", "start", "die", "destroy"]
