"""An engine in memory: its containers are processes of this machine, its images names.

It has what a front can tell from the real one: streams through the client's own descriptor, exit codes, waits, logs
that are followed, events. It isolates nothing and keeps nothing.
"""

import io
import os
import pty
import secrets
import signal
import socket
import stat
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, BinaryIO

import msgspec

from wherry.errors import (
    CommandNotFound,
    Conflict,
    InvalidRequest,
    NameInUse,
    NotFound,
    NotModified,
    Unsupported,
)
from wherry.spec.container import (
    Config,
    ContainerView,
    Created,
    CreateRequest,
    EndpointRequest,
    EndpointView,
    LogConfig,
)
from wherry.spec.exec import Stats
from wherry.spec.frontend import (
    Attachment,
    Change,
    Event,
    ExecRequest,
    ExecView,
    ExitStatus,
    ImageView,
    NetworkView,
    PathStat,
    Usage,
)
from wherry.spec.log import Query, Record
from wherry.spec.network import Network, Subnet

BUSYBOX = "sha256:" + "b" * 64
update = msgspec.structs.replace


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000001Z", time.gmtime())


class ListStream:
    """A stream that gives what is appended to it, until it is ended."""

    def __init__(self, forget: Callable[["ListStream"], None] = lambda stream: None) -> None:
        self.items: list[Any] = []
        self.ended = self.closed = False
        self.callback: Callable[[], None] = lambda: None
        self.lock = threading.Lock()
        self.forget = forget

    def put(self, *items: Any, end: bool = False) -> None:
        with self.lock:
            self.items += items
            self.ended = self.ended or end
        self.callback()

    def read(self) -> Sequence[Any] | None:
        with self.lock:
            items, self.items = self.items, []
            return items or (None if self.ended else [])

    def on_ready(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        callback()

    def close(self) -> None:
        self.closed = True
        self.forget(self)


class Running:
    """A process with its streams, and the clients that are attached to it."""

    def __init__(
        self,
        argv: Sequence[str],
        clients: list[Attachment],
        *,
        tty: bool,
        stdin: bool,
        done: Callable[[int], None],
    ) -> None:
        self.clients = [(socket.socket(fileno=each.descriptor), each) for each in clients]
        self.lock = threading.Lock()
        self.records: list[Record] = []
        self.followers: list[ListStream] = []
        self.size: tuple[int, int] | None = None
        self.done = done
        self.master = -1
        if tty:
            self.master, slave = pty.openpty()
            ends: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave}
        else:
            ends = {"stdin": subprocess.PIPE if stdin else subprocess.DEVNULL}
            ends |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(argv, start_new_session=True, **ends)
        if tty:
            os.close(slave)
        outputs = [(self.master, "stdout")] if tty else []
        for name in () if tty else ("stdout", "stderr"):
            outputs.append((getattr(self.process, name).fileno(), name))
        self.readers = [threading.Thread(target=self._pump, args=each) for each in outputs]
        for sock, each in self.clients:
            self._listen(sock, each)
        for thread in self.readers:
            thread.start()
        threading.Thread(target=self._wait).start()

    def attach(self, attachment: Attachment) -> None:
        sock = socket.socket(fileno=attachment.descriptor)
        with self.lock:
            self.clients.append((sock, attachment))
        self._listen(sock, attachment)

    def _listen(self, sock: socket.socket, attachment: Attachment) -> None:
        sock.setblocking(True)
        if attachment.stdin:
            threading.Thread(target=self._type, args=(sock, attachment.early), daemon=True).start()

    def _type(self, sock: socket.socket, data: bytes) -> None:
        try:
            while True:
                if data and self.master >= 0:
                    os.write(self.master, data)
                elif data:
                    self.process.stdin.write(data)
                    self.process.stdin.flush()
                data = sock.recv(65536)
                if not data:
                    break
        except OSError:
            pass
        if self.master < 0:
            try:
                self.process.stdin.close()
            except OSError:
                pass

    def _pump(self, descriptor: int, name: str) -> None:
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                return  # the terminal's last user is gone
            if not data:
                return
            with self.lock:
                for sock, each in self.clients:
                    if getattr(each, name):
                        head = struct.pack(">BxxxI", 1 if name == "stdout" else 2, len(data))
                        try:
                            sock.sendall((head if each.multiplexed else b"") + data)
                        except OSError:
                            pass
                new = [Record(time_ns=time.time_ns(), stream=name, data=x) for x in data.splitlines(True)]
                self.records += new
                for follower in self.followers:
                    follower.put(*new)

    def _wait(self) -> None:
        code = self.process.wait()
        for thread in self.readers:
            thread.join()
        self.done(code if code >= 0 else 128 - code)
        with self.lock:
            for sock, _ in self.clients:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()
            for follower in self.followers:
                follower.put(end=True)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                if pipe:
                    pipe.close()
            except OSError:
                pass
        if self.master >= 0:
            os.close(self.master)

    def kill(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


class MemoryEngine:
    """What the tests need of `wherry.spec.frontend.Engine`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.views: dict[str, ContainerView] = {}
        self.running: dict[str, Running] = {}
        self.pending: dict[str, list[Attachment]] = {}
        self.waiting: dict[str, list[tuple[str, Future[ExitStatus]]]] = {}
        self.requests: list[CreateRequest] = []
        self.asked: list[tuple[Any, ...]] = []
        self.execs: dict[str, ExecView] = {}
        self.exec_running: dict[str, Running] = {}
        self.streams: list[ListStream] = []
        self.history_: list[Event] = []
        config = Config(cmd=["sh"], env=["PATH=/bin"])
        self.images_: dict[str, ImageView] = {
            BUSYBOX: ImageView(id=BUSYBOX, references=["busybox:latest"], config=config, created=now(), size=7,
                               layers=["sha256:" + "1" * 64], architecture="amd64", os="linux")
        }  # fmt: skip
        self.networks_: dict[str, Network] = {}
        subnets = (Subnet(cidr="172.30.0.0/16", gateway="172.30.0.1"),)
        self.create_network(Network(id="", name="bridge", driver="bridge", subnets=subnets))
        self.uploaded = b""
        self.hold: threading.Event | None = None

    def close(self) -> None:
        for each in [*self.running.values(), *self.exec_running.values()]:
            each.kill(signal.SIGKILL)
            each.process.wait(10)

    def tell(self, kind: str, action: str, subject: str, **attributes: str) -> None:
        with self.lock:
            event = Event(
                kind=kind, action=action, subject=subject, attributes=attributes, time_ns=time.time_ns()
            )
            self.history_.append(event)
            for stream in self.streams:
                stream.put(event)

    # containers

    def create(self, request: CreateRequest) -> Created:
        image = self.image(request.config.image)
        name = request.name or f"name_{secrets.token_hex(4)}"
        with self.lock:
            for view in self.views.values():
                if view.name == name:
                    raise NameInUse(name, view.id)
            id_ = secrets.token_hex(32)
            self.requests.append(request)
            given = request.config
            # What the daemon's default is, clients read from the container: docker-py gives output only of these.
            host_config = update(request.host_config, log_config=LogConfig(type="json-file"))
            argv = [*(given.entrypoint or ()), *(given.cmd or image.config.cmd or ())]
            self.views[id_] = ContainerView(
                id=id_, name=name, created=now(), path=argv[0], args=argv[1:], image_id=image.id,
                image_name=given.image, config=update(given, cmd=list(given.cmd or ["sh"])),
                host_config=host_config, storage_driver="memory",
                networks={"bridge": EndpointView(address="172.30.0.2", prefix=16)},
            )  # fmt: skip
        self.tell("container", "create", id_, image=given.image, name=name)
        return Created(id=id_)

    def inspect(self, name: str) -> ContainerView:
        bare = name.removeprefix("/")
        for view in list(self.views.values()):
            if view.name == bare or (len(bare) >= 4 and view.id.startswith(bare)):
                return view
        raise NotFound("container", name)

    def start(self, name: str) -> None:
        view = self.inspect(name)
        if view.status == "running":
            raise NotModified("it runs")
        with self.lock:  # its end is told only when its start is
            run = Running(
                [view.path, *view.args],
                self.pending.pop(view.id, []),
                tty=view.config.tty,
                stdin=view.config.open_stdin,
                done=lambda code: self._exited(view.id, code),
            )
            started = update(view, status="running", pid=run.process.pid, started_at=now())
            self.views[view.id], self.running[view.id] = started, run
            self.tell("container", "start", view.id, image=view.image_name, name=view.name)

    def _exited(self, id_: str, code: int) -> None:
        with self.lock:
            view = self.views.get(id_)
            if view is None or view.status != "running":
                return
            self.views[id_] = update(view, status="exited", exit_code=code, pid=0, finished_at=now())
            self.tell("container", "die", id_, image=view.image_name, name=view.name, exitCode=str(code))
            self._settle(id_, ("not-running", "next-exit"), code)
        if view.host_config.auto_remove:
            self.remove(id_)

    def _settle(self, id_: str, conditions: Sequence[str], code: int) -> None:
        left = []
        for condition, future in self.waiting.pop(id_, []):
            if condition in conditions:
                future.set_result(ExitStatus(code=code))
            else:
                left.append((condition, future))
        self.waiting[id_] = left

    def wait(self, name: str, condition: Any = "not-running") -> Future[ExitStatus]:
        with self.lock:
            view = self.inspect(name)
            future: Future[ExitStatus] = Future()
            if condition == "not-running" and view.status != "running":
                future.set_result(ExitStatus(code=view.exit_code))
            else:
                self.waiting.setdefault(view.id, []).append((condition, future))
            return future

    def stop(self, name: str, timeout: float | None = None, signal_: str | None = None) -> None:
        self.asked.append(("stop", name, timeout, signal_))
        if self.hold is not None:
            self.hold.wait(20)
        view = self.inspect(name)
        if view.status != "running":
            raise NotModified("it does not run")
        run = self.running[view.id]
        run.kill(signal.SIGTERM)
        try:
            run.process.wait(10 if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            run.kill(signal.SIGKILL)
        self.wait(view.id).result(10)

    def restart(self, name: str, timeout: float | None = None, signal_: str | None = None) -> None:
        try:
            self.stop(name, timeout, signal_)
        except NotModified:
            pass
        self.start(name)

    def kill(self, name: str, signal_: str = "SIGKILL") -> None:
        view = self.inspect(name)
        if view.status != "running":
            raise Conflict(f"container {view.id} is not running")
        bare = signal_.removeprefix("SIG")
        number = int(bare) if bare.isdigit() else int(getattr(signal, f"SIG{bare}", 0))
        if not number:
            raise InvalidRequest(f"Invalid signal: {signal_}")
        self.running[view.id].kill(number)

    def pause(self, name: str) -> None:
        view = self.inspect(name)
        if view.status != "running":
            raise Conflict(f"container {view.id} is not running")
        self.views[view.id] = update(view, status="paused")

    def unpause(self, name: str) -> None:
        view = self.inspect(name)
        self.views[view.id] = update(view, status="running")

    def rename(self, name: str, new_name: str) -> None:
        view = self.inspect(name)
        self.views[view.id] = update(view, name=new_name)

    def remove(self, name: str, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        view = self.inspect(name)
        if view.status == "running":
            if not force:
                raise Conflict(
                    f"cannot remove container {name}: container is running: stop the container first"
                )
            self.kill(view.id)
            self.wait(view.id).result(10)
        with self.lock:
            gone = self.views.pop(view.id, view)
            self._settle(view.id, ("not-running", "next-exit", "removed"), gone.exit_code)
        self.tell("container", "destroy", view.id, image=view.image_name, name=view.name)

    def containers(self, all: bool = False, filters: Any = None, limit: int = 0) -> list[ContainerView]:
        self.asked.append(("containers", all, filters, limit))
        wanted = (filters or {}).get("name", [])
        found = [v for v in reversed(list(self.views.values())) if all or v.status in ("running", "paused")]
        found = [v for v in found if not wanted or any(w in v.name for w in wanted)]
        return found[:limit] if limit else found

    def sizes(self, name: str) -> tuple[int, int]:
        self.inspect(name)
        return 12, 345

    def resize(self, name: str, rows: int, columns: int) -> None:
        view = self.inspect(name)
        if view.id not in self.running:
            raise Conflict(f"cannot resize a stopped container: {view.id}")
        self.running[view.id].size = rows, columns

    def attach(self, name: str, attachment: Attachment) -> None:
        view = self.inspect(name)
        self.asked.append(("attach", attachment))
        if view.status == "running":
            self.running[view.id].attach(attachment)
        else:
            self.pending.setdefault(view.id, []).append(attachment)

    def logs(self, name: str, query: Query, follow: bool = False) -> ListStream:
        view = self.inspect(name)
        self.asked.append(("logs", query, follow))
        stream = ListStream(self.streams_closed.append)
        run = self.running.get(view.id)
        if run is None:
            stream.put(end=True)
            return stream
        with run.lock:
            found = [r for r in run.records if getattr(query, r.stream) and r.time_ns >= query.since_ns]
            stream.put(*(found if query.tail is None else found[len(found) - query.tail :]))
            if follow and self.inspect(name).status == "running":
                run.followers.append(stream)
            else:
                stream.put(end=True)
        return stream

    @property
    def streams_closed(self) -> list[ListStream]:
        return self.__dict__.setdefault("_streams_closed", [])

    def top(self, name: str, arguments: str = "-ef") -> tuple[list[str], list[list[str]]]:
        self.asked.append(("top", arguments))
        return ["PID", "CMD"], [["1", self.inspect(name).path]]

    def changes(self, name: str) -> list[Change]:
        self.inspect(name)
        return [
            Change(path="/a", kind="added"),
            Change(path="/d", kind="deleted"),
            Change(path="/m", kind="modified"),
        ]

    def usage(self, name: str) -> Usage:
        self.inspect(name)
        cpu = time.monotonic_ns()
        stats = Stats(cpu_total=cpu, memory_usage=4096, memory_limit=1 << 30, pids_current=1)
        networks = {"eth0": {"rx_bytes": 1, "tx_bytes": 2}}
        return Usage(
            stats=stats, read_ns=time.time_ns(), system_cpu=cpu * 2, online_cpus=2, networks=networks
        )

    def update(self, name: str, host_config: Mapping[str, Any]) -> list[str]:
        self.asked.append(("update", dict(host_config)))
        self.inspect(name)
        return []

    def prune_containers(self, filters: Any = None) -> tuple[list[str], int]:
        gone = [v.id for v in self.views.values() if v.status != "running"]
        for each in gone:
            self.remove(each)
        return gone, 0

    def export(self, name: str, archive: BinaryIO) -> None:
        view = self.inspect(name)
        with tarfile.open(fileobj=archive, mode="w|") as tar:
            info = tarfile.TarInfo("hostname")
            data = view.id.encode() * 4096
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

    def stat_path(self, name: str, path: str) -> PathStat:
        view = self.inspect(name)
        if path.strip("/") not in ("hostname", "link"):
            raise NotFound("file", path, f"Could not find the file {path} in container {name}")
        if path.strip("/") == "link":
            return PathStat(
                name="link", size=8, mode=stat.S_IFLNK | 0o777, mtime_ns=0, link_target="/hostname"
            )
        mode = stat.S_IFREG | stat.S_ISUID | 0o755
        return PathStat(name="hostname", size=len(view.id), mode=mode, mtime_ns=1_700_000_000_123_000_000)

    def archive_path(
        self, name: str, path: str, archive: BinaryIO, begin: Callable[[PathStat], object]
    ) -> None:
        begin(self.stat_path(name, path))
        self.export(name, archive)

    def extract(
        self, name: str, path: str, archive: BinaryIO, keep_kinds: bool = False, own: bool = False
    ) -> None:
        self.inspect(name)
        if path == "/file":
            raise InvalidRequest("extraction point is not a directory")
        self.uploaded = archive.read()
        self.asked.append(("extract", path, keep_kinds, own))

    # exec

    def exec_create(self, name: str, request: ExecRequest) -> str:
        view = self.inspect(name)
        if view.status != "running":
            raise Conflict(f"container {view.id} is not running")
        id_ = secrets.token_hex(32)
        self.execs[id_] = ExecView(id=id_, container_id=view.id, request=request)
        return id_

    def exec_start(self, exec_id: str, attachment: Attachment | None, console_size: Any = None) -> None:
        view = self.exec_inspect(exec_id)
        request = view.request
        if request.cmd[0] == "missing":
            self.execs[exec_id] = replace(view, exit_code=127)
            error = CommandNotFound('exec: "missing": executable file not found in $PATH')
            if attachment is not None:
                with socket.socket(fileno=attachment.descriptor) as sock:
                    said = f"{error}\r\n".encode()
                    sock.sendall(struct.pack(">BxxxI", 1, len(said)) + said)
            raise error
        if request.cmd[0] == "refused":
            if attachment is not None:
                os.close(attachment.descriptor)
            raise Conflict("it stopped in between")
        clients = [attachment] if attachment else []

        def ended(code: int) -> None:
            with self.lock:
                self.execs[exec_id] = replace(self.execs[exec_id], running=False, exit_code=code)

        with self.lock:
            run = Running(request.cmd, clients, tty=request.tty, stdin=request.attach_stdin, done=ended)
            self.exec_running[exec_id] = run
            self.execs[exec_id] = replace(view, running=True, pid=run.process.pid)

    def exec_inspect(self, exec_id: str) -> ExecView:
        if exec_id not in self.execs:
            raise NotFound("exec instance", exec_id)
        return self.execs[exec_id]

    def exec_resize(self, exec_id: str, rows: int, columns: int) -> None:
        self.exec_inspect(exec_id)

    # images

    def images(self, all: bool = False, filters: Any = None) -> list[ImageView]:
        self.asked.append(("images", all, filters))
        return list(self.images_.values())

    def image(self, name: str) -> ImageView:
        wanted = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        for image in self.images_.values():
            if wanted in image.references or name == image.id or image.id[7:].startswith(name):
                return image
        raise NotFound("image", wanted)

    def import_image(
        self, archive: BinaryIO, reference: str = "", message: str = "", changes: Any = ()
    ) -> str:
        self.asked.append(("import", reference, message, list(changes)))
        with tarfile.open(fileobj=archive, mode="r|*") as tar:
            size = sum(member.size for member in tar)
        while archive.read(65536):
            pass
        id_ = f"sha256:{secrets.token_hex(32)}"
        tags = [reference if ":" in reference else f"{reference}:latest"] if reference else []
        self.images_[id_] = ImageView(id=id_, references=tags, created=now(), size=size)
        return id_

    def load_images(self, archive: BinaryIO) -> Iterator[str]:
        first = archive.read(5)
        if first == b"wrong":
            raise InvalidRequest("the archive is no image")
        self.uploaded = first + archive.read()
        yield "Loaded image: busybox:latest"

    def save_images(self, names: Sequence[str], archive: BinaryIO) -> None:
        for name in names:
            archive.write(self.image(name).id.encode() * 10000)

    def tag(self, name: str, reference: str) -> None:
        image = self.image(name)
        self.images_[image.id] = update(image, references=[*image.references, reference])

    def remove_image(self, name: str, force: bool = False, prune: bool = True) -> list[Mapping[str, str]]:
        image = self.image(name)
        del self.images_[image.id]
        return [{"Untagged": name}, {"Deleted": image.id}]

    def history(self, name: str) -> list[Mapping[str, Any]]:
        return [
            {
                "Id": self.image(name).id,
                "Created": 1,
                "CreatedBy": "import",
                "Tags": None,
                "Size": 7,
                "Comment": "",
            }
        ]

    # networks

    def networks(self, filters: Any = None) -> list[NetworkView]:
        return [NetworkView(network=each) for each in self.networks_.values()]

    def network(self, name: str) -> NetworkView:
        for each in self.networks_.values():
            if name == each.name or each.id.startswith(name):
                return NetworkView(network=each)
        raise NotFound("network", name, f"network {name} not found")

    def create_network(self, network: Network) -> str:
        id_ = secrets.token_hex(32)
        self.networks_[id_] = replace(network, id=id_, created=now())
        return id_

    def remove_network(self, name: str) -> None:
        del self.networks_[self.network(name).network.id]

    def connect(self, network: str, container: str, endpoint: EndpointRequest) -> None:
        raise Unsupported("not here")

    def disconnect(self, network: str, container: str, force: bool = False) -> None:
        raise Unsupported("not here")

    # the engine

    def events(
        self, since_ns: int | None = None, until_ns: int | None = None, filters: Any = None
    ) -> ListStream:
        self.asked.append(("events", since_ns, until_ns, filters))
        with self.lock:
            stream = ListStream(self.streams_closed.append)
            if since_ns is not None:
                stream.put(*(event for event in self.history_ if event.time_ns >= since_ns))
            if until_ns is not None and until_ns <= time.time_ns():
                stream.put(end=True)
            self.streams.append(stream)
            return stream

    def info(self) -> Mapping[str, Any]:
        return {
            "ID": "memory",
            "Containers": len(self.views),
            "ServerVersion": "0.1",
            "Name": "here",
            "NCPU": 2,
        }

    def version(self) -> str:
        return "0.1"

    def drivers(self, check: bool = False) -> list[Mapping[str, Any]]:
        return [{"kind": "exec", "name": "memory", "state": "in use", "checked": check}]

    def disk_usage(self) -> Mapping[str, Any]:
        return {"LayersSize": 7, "Containers": {}, "Volumes": {"data": 3}}
