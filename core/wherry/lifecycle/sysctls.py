"""`--sysctl`: which kernel parameters a container may set, those of namespaces that are its own.

Source: runc's `libcontainer/configs/validate`, whose words clients know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from wherry.errors import InvalidRequest
from wherry.house import House
from wherry.linux import sysctls
from wherry.spec.container import HostConfig

IPC: Final = frozenset(
    "kernel." + name for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


def check(names: Iterable[str], *, network: bool, ipc: bool, uts: bool) -> None:
    """InvalidRequest names the first that is not of a namespace of the container's own.

    `network`, `ipc`, `uts`: whether that namespace is another than the host's.
    """
    for given in names:
        name = normal(given)
        if name.startswith("net."):
            if not network:
                raise InvalidRequest(f'sysctl "{given}" not allowed in host network namespace')
        elif name in IPC or name.startswith("fs.mqueue."):
            if not ipc:
                raise InvalidRequest(f'sysctl "{given}" is not allowed in the hosts ipc namespace')
        elif name == "kernel.hostname" and uts:
            raise InvalidRequest(
                f'sysctl "{given}" is not allowed as it conflicts with the OCI "hostname" field'
            )
        elif name != "kernel.domainname" or not uts:
            raise InvalidRequest(f'sysctl "{given}" is not in a separate kernel namespace')


def check_container(house: House, host: HostConfig) -> None:
    """InvalidRequest: a container asks for what is the host's, itself or by the container whose namespaces it joins."""
    if host.sysctls:
        check(
            host.sysctls,
            network=_is_own(house, host, lambda each: each.network_mode),
            ipc=_is_own(house, host, lambda each: each.ipc_mode),
            uts=host.uts_mode != "host",
        )


def _is_own(house: House, host: HostConfig, mode_of: Callable[[HostConfig], str]) -> bool:
    seen: set[str] = set()
    mode = mode_of(host)
    while mode.startswith("container:") and mode not in seen:
        seen.add(mode)
        mode = mode_of(house.containers.get(mode.partition(":")[2]).host_config)
    return mode != "host"


def named(wanted: Mapping[str, str]) -> dict[str, str]:
    """The same with every name in its usual form, so that one over another is seen to be the same."""
    return {normal(name): value for name, value in wanted.items()}


def normal(name: str) -> str:
    """A name in its usual form, with dots. InvalidRequest: it is none."""
    try:
        return sysctls.dotted(name)
    except ValueError:
        raise InvalidRequest(f'sysctl "{name}" is not in a separate kernel namespace') from None
