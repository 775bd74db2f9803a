"""What a process does to itself to become a keeper: at the fork, and once its container is made."""

from __future__ import annotations

import importlib.abc
import os
import resource
import signal
import sys
from types import ModuleType

from wherry.linux import processes


class _Sealed(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> None:
        raise ImportError(
            f"{name} cannot be imported in a keeper once its container is made: the files may be another version's by "
            "now; import it at the top of the driver's module",
            name=name,
        )


def seal_imports() -> None:
    """Refuse to import what is not imported yet: it would come from whatever version is installed by then."""
    sys.meta_path.insert(0, _Sealed())


def prepare() -> None:
    """What a fresh fork of the launcher does before it knows its container."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    processes.set_subreaper()
    processes.set_name("wherry-keeper")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 65536 and soft != hard:
        # Five for each exec. Containers get limits of their own, explicitly.
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536 if hard < 0 else min(hard, 65536), hard))
