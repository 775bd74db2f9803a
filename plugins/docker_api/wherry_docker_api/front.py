"""The frontend itself: what the engine loads by its entry point."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wherry.spec import hookimpl
from wherry.spec.frontend import Engine
from wherry_docker_api.routing import parse_version
from wherry_docker_api.server import Server


class DockerApi:
    """Serves the Docker Engine API until it is told to stop."""

    SPEC = (1, 0)

    @dataclass(frozen=True)
    class Options:
        """`group` owns the unix sockets, beside root; empty, or no such group: root alone.

        `api_version` is the highest version that is answered.
        """

        group: str = "docker"
        api_version: str = "1.51"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or DockerApi.Options()
        self._version = parse_version(self._options.api_version)
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._stopped = False

    @hookimpl
    def serve(self, engine: Engine, addresses: Sequence[str], ready: Callable[[], None]) -> None:
        """Serve until `stop`. Blocks; runs an event loop of its own, in whatever thread it is called."""
        loop = asyncio.new_event_loop()
        try:
            server = Server(engine, loop, group=self._options.group, version=self._version)
            with self._lock:
                if self._stopped:
                    return
                self._server = server
            loop.run_until_complete(server.serve(addresses, ready))
        finally:
            with self._lock:
                self._server = None
            loop.close()

    @hookimpl
    def stop(self) -> None:
        """End `serve`, now or, if it was not called yet, when it is. From any thread."""
        with self._lock:
            self._stopped = True
            if self._server is not None:
                self._server.stop()
