"""The daemon's configuration: defaults, a file and flags become one typed, immutable `Settings`.

    defaults  <  /etc/wherry/wherry.toml (or --config-file)  <  flags

A key is a field's name with dashes, the words are dockerd's where it has one, so that a `daemon.json` is accepted as
it is. What dockerd knows and wherry does not have is named in `warnings`; what nobody knows is an error with its
place and the nearest valid word. Drivers' options are tables: `[log.json-file] max-size = "10m"`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from wherry.config_file import Document, read
from wherry.driver_options import in_words
from wherry.errors import ConfigurationError, InvalidRequest
from wherry.quantities import parse_size, parse_ulimit
from wherry.spec.command import Rlimit
from wherry.words import nearest

DEFAULT_FILE: Final = Path("/etc/wherry/wherry.toml")
DEFAULT_HOST: Final = "unix:///run/wherry.sock"

Options = Mapping[str, Mapping[str, Mapping[str, Any]]]
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPool:
    """All ranges with the prefix length `size` in `base`."""

    base: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a daemon was told. Sizes in bytes, times in seconds; an empty text is "not said"."""

    hosts: tuple[str, ...] = (DEFAULT_HOST,)
    data_root: Path = Path("/var/lib/wherry")
    exec_root: Path = Path("/run/wherry")
    pidfile: Path = Path()
    """`<exec-root>.pid` unless said otherwise."""
    group: str = "docker"
    """Owns the unix sockets, if there is such a group."""
    debug: bool = False
    log_level: str = "info"

    exec_driver: str = "native"
    storage_driver: str = ""
    """Empty: overlay2 where it works, else vfs."""
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    """Of `log_driver`: its table, with `--log-opt` over it."""
    frontends: tuple[str, ...] = ("docker",)
    extensions: tuple[str, ...] = ()

    bridge: str = "wherry0"
    """The default network's link; `none`: no default network."""
    bip: str = ""
    """The bridge's address with its prefix length; empty: the engine chooses a free range."""
    fixed_cidr: str = ""
    default_gateway: str = ""
    """Where the default network's containers find the way out, if that is not the bridge."""
    ipv6: bool = False
    """Whether the default network has IPv6."""
    bip6: str = ""
    fixed_cidr_v6: str = ""
    """The default network's IPv6 range; empty: one of the engine's own, unique local."""
    default_gateway_v6: str = ""
    default_address_pools: tuple[AddressPool, ...] = ()
    """What networks that name no range get theirs of; empty: many small ones."""
    mtu: int = 1500
    icc: bool = True
    ip: str = "0.0.0.0"
    """Where a published port listens if it is not said."""
    ip_masq: bool = True
    ip_forward: bool = True
    iptables: bool = True
    """False: no firewall rule is ever written."""
    firewall: str = ""
    """iptables or nftables; empty: nftables unless only legacy tables hold rules."""
    userland_proxy: bool = True
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    resolv_conf: Path = Path("/etc/resolv.conf")
    """The host's list of name servers, which containers follow."""
    host_gateway_ips: tuple[str, ...] = ()
    """What `host-gateway` stands for in `--add-host`; empty: the host's address in the container's network."""

    live_restore: bool = True
    shutdown_timeout: int = 15
    init: bool = False
    cgroup_parent: str = ""
    default_ulimits: tuple[Rlimit, ...] = ()
    """Over the engine's own defaults, and under what a container asks for."""
    no_new_privileges: bool = False
    """For containers that do not say otherwise."""
    seccomp_profile: str = ""
    """`builtin` (also when empty), `unconfined`, or a file: of containers that name none."""
    default_shm_size: int = 64 << 20
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = "private"
    userns_remap: str = ""
    """Whose ranges of ids containers get: `default`, or user[:group] by name or number; empty: those of the host."""
    labels: tuple[str, ...] = ()

    options: Options = field(default_factory=dict)
    """kind → driver → option → value, from the tables of the file."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """key (`log-driver`, `log.json-file.max-size`) → where it was said: `file:line` or a flag."""
    warnings: tuple[str, ...] = ()

    def driver_options(self, kind: str, name: str) -> dict[str, Any]:
        """The table `[kind.name]`: what `Catalogue.find` wants as `options`. For log drivers see `log_options`."""
        return dict(self.options.get(kind, _NONE).get(name, _NONE))

    def driver_sources(self, kind: str, name: str) -> dict[str, str]:
        """Where each of `driver_options` was said: what `Catalogue.find` wants as `sources`."""
        above = f"{kind}.{name}."
        return {
            key.removeprefix(above): place for key, place in self.sources.items() if key.startswith(above)
        }

    def log_options(self, name: str) -> dict[str, str]:
        """What a log driver gets where the container says nothing: its table, or `log_opts` for the default driver."""
        if name == self.log_driver:
            return dict(self.log_opts)
        return {option: _text(value) for option, value in self.driver_options("log", name).items()}


def load(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """The settings that hold. `flags`: key → value, only those that were given; `file`: it must exist, if named.

    Raises ConfigurationError, with the place of what is wrong.
    """
    document = Document(path=str(file or DEFAULT_FILE), values={})
    if file is not None or DEFAULT_FILE.exists():
        document = read(file or DEFAULT_FILE)
    said = _Said()
    _take_file(said, document)
    for key, value in (flags or {}).items():
        said.take(key, value, f"--{key}")
    return said.settle()


_FIELDS: Final = {
    each.name.replace("_", "-"): each.name
    for each in dataclasses.fields(Settings)
    if each.name not in ("options", "sources", "warnings")
}
_ALIASES: Final = {
    "default-runtime": "exec-driver",
    "firewall-backend": "firewall",
    "graph": "data-root",
    "host": "hosts",
    "label": "labels",
    "log-opt": "log-opts",
    "default-address-pool": "default-address-pools",
    "host-gateway-ip": "host-gateway-ips",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "frontend": "frontends",
    "extension": "extensions",
}
_SELECTIONS: Final = {
    "exec": "exec-driver",
    "log": "log-driver",
    "storage": "storage-driver",
    "frontend": "frontends",
    "extension": "extensions",
}
_KINDS: Final = ("exec", "log", "network", "storage", "volume", "frontend", "extension")
_FOREIGN: Final = frozenset(
    """
    allow-nondistributable-artifacts api-cors-header builder bridge-accept-fwmark cgroup-parent-mode
    config-file containerd containerd-namespace containerd-plugins-namespace containerd-plugin-namespace
    cri-containerd cluster-advertise cluster-store cluster-store-opts cdi-spec-dirs data-path-addr
    default-network-opts deprecated-key-path exec-opts experimental features generic-resources
    http-proxy https-proxy insecure-registries ip6tables isolation
    log-format max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr
    min-api-version network-control-plane-mtu no-proxy node-generic-resources oom-score-adjust proxies
    raw-logs registry-mirrors rootless runtimes storage-opts swarm-default-advertise-addr
    userland-proxy-path validate
    """.split()
)
_GUARDS: Final = frozenset(
    """authorization-plugins selinux-enabled tls tlscacert tlscert tlskey tlsverify""".split()
)


class _Said:
    """What was said so far; a later word wins, and options are merged by name."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.options: dict[str, dict[str, dict[str, Any]]] = {}
        self.sources: dict[str, str] = {}
        self.warnings: list[str] = []

    def take(self, key: str, value: Any, place: str) -> None:
        key = _ALIASES.get(key, key)
        if key not in _FIELDS:
            raise ConfigurationError(f'{place}: there is no setting "{key}"{nearest(key, _FIELDS)}')
        what = place if place.startswith("--") else f'{place}: "{key}"'
        try:
            converted = _convert(key, value)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{what}: {in_words(error)}") from error
        except (InvalidRequest, ValueError) as error:
            raise ConfigurationError(f"{what}: {error}") from error
        if key == "log-opts":
            converted = {**self.values.get("log_opts", {}), **converted}
            self.sources |= {f"log-opts.{option}": place for option in converted}
        self.values[_FIELDS[key]] = converted
        self.sources[key] = place

    def settle(self) -> Settings:
        self.values.setdefault("pidfile", Path(f"{self.values.get('exec_root', Settings().exec_root)}.pid"))
        driver = self.values.get("log_driver", Settings().log_driver)
        table = self.options.get("log", {}).get(driver, {})
        self.values["log_opts"] = {name: _text(value) for name, value in table.items()} | self.values.get(
            "log_opts", {}
        )
        if self.values.get("debug"):
            self.values.setdefault("log_level", "debug")
        return Settings(
            **self.values, options=self.options, sources=self.sources, warnings=tuple(self.warnings)
        )


def _take_file(said: _Said, document: Document) -> None:
    for key, value in document.values.items():
        place = document.where(key)
        if key == "drivers":
            for kind, chosen in _table(value, place).items():
                if kind not in _SELECTIONS:
                    known = nearest(kind, _SELECTIONS)
                    raise ConfigurationError(
                        f'{document.where(key, kind)}: no such kind of driver "{kind}"{known}'
                    )
                said.take(_SELECTIONS[kind], chosen, document.where(key, kind))
        elif key in _KINDS:
            for name, table in _table(value, place).items():
                options = _table(table, document.where(key, name))
                said.options.setdefault(key, {})[name] = options
                said.sources |= {
                    f"{key}.{name}.{option}": document.where(key, name, option) for option in options
                }
        elif key in _GUARDS and value:
            raise ConfigurationError(
                f'{place}: wherry has no "{key}" yet, and going on without it would protect less than you asked for'
            )
        elif key in _FOREIGN | _GUARDS:
            said.warnings.append(f'{place}: wherry has no "{key}": it is ignored')
        elif _ALIASES.get(key, key) not in _FIELDS:
            known = nearest(key, [*_FIELDS, "drivers"])
            raise ConfigurationError(f'{place}: there is no setting "{key}"{known}')
        else:
            said.take(key, value, place)


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{place}: a table is expected here, not {value!r}")
    return value


def _convert(key: str, value: Any) -> Any:
    if key in _PARSERS:
        return _PARSERS[key](value)
    wanted = _HINTS[_FIELDS[key]]
    if wanted is Path:
        return Path(os.path.abspath(msgspec.convert(value, str)))
    if wanted == tuple[str, ...] and isinstance(value, str):
        value = [value]
    converted = msgspec.convert(value, wanted, strict=not isinstance(value, str))
    if key in _CHECKS:
        _CHECKS[key](converted)
    return converted


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _log_opts(value: Any) -> dict[str, str]:
    """A table, or `name=value` as flags have it."""
    if isinstance(value, dict):
        return {name: _text(each) for name, each in value.items()}
    found = {}
    for each in [value] if isinstance(value, str) else msgspec.convert(value, list[str]):
        name, equals, text = each.partition("=")
        if not (name and equals):
            raise ValueError(f'"{each}" is not of the form name=value')
        found[name] = text
    return found


def _ulimits(value: Any) -> tuple[Rlimit, ...]:
    """`nofile=1024:2048`, one or several; a table of those; or a daemon.json's {"Name", "Soft", "Hard"}."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, dict):
        return tuple(_ulimit_entry(name, each) for name, each in value.items())
    return tuple(_limit(each) for each in msgspec.convert(value, list[str]))


def _limit(text: str) -> Rlimit:
    name, soft, hard = parse_ulimit(text)
    return Rlimit(name=name, soft=soft, hard=hard)


def _ulimit_entry(name: str, value: Any) -> Rlimit:
    if isinstance(value, dict):
        numbers = {each.lower(): number for each, number in value.items()}
        return _limit(f"{numbers.get('name', name)}={numbers.get('soft')}:{numbers.get('hard')}")
    return _limit(f"{name}={value}")


def _seccomp_profile(value: Any) -> str:
    """A word, or a file's whole path."""
    word = msgspec.convert(value, str)
    return word if word in ("", "builtin", "default", "unconfined") else os.path.abspath(word)


def _pools(value: Any) -> tuple[AddressPool, ...]:
    """`base=10.10.0.0/16,size=24`, one or several, or a daemon.json's [{"base", "size"}]."""
    found = []
    for each in [value] if isinstance(value, str | dict) else msgspec.convert(value, list[Any]):
        fields = dict(part.partition("=")[::2] for part in each.split(",")) if isinstance(each, str) else each
        pool = msgspec.convert(fields, AddressPool, strict=False)
        base = ipaddress.ip_network(pool.base, strict=False)
        if not base.prefixlen <= pool.size <= base.max_prefixlen - 2:
            raise ValueError(
                f"the size {pool.size} is not between {base.prefixlen} and {base.max_prefixlen - 2}, as {base} needs"
            )
        found.append(pool)
    return tuple(found)


def _hosts(value: Any) -> tuple[str, ...]:
    found = tuple(msgspec.convert([value] if isinstance(value, str) else value, list[str]))
    for host in found:
        scheme, separator, rest = host.partition("://")
        if not separator or scheme not in ("unix", "tcp", "fd"):
            raise ValueError(f'"{host}" is no address; write unix:///path, tcp://host:port or fd://N')
        if scheme == "unix" and not rest.startswith("/"):
            raise ValueError(f'"{host}" needs an absolute path: unix:///run/wherry.sock')
    return found


def _size(value: Any) -> int:
    return value if type(value) is int and value > 0 else parse_size(msgspec.convert(value, str))


def _one_of(*words: str) -> Callable[[str], None]:
    def check(word: str) -> None:
        if word not in words:
            raise ValueError(f'"{word}" is not one of {", ".join(word for word in words if word)}')

    return check


def _network(text: str) -> None:
    if text and "/" not in text:
        raise ValueError(f'"{text}" lacks its prefix length: 10.1.0.1/16')
    if text:
        ipaddress.ip_interface(text)


def _address(text: str) -> None:
    if text:
        ipaddress.ip_address(text)


def _mtu(value: int) -> None:
    if not 68 <= value <= 65535:
        raise ValueError(f"{value} is not between 68 and 65535")


def _labels(labels: tuple[str, ...]) -> None:
    for label in labels:
        if "=" not in label:
            raise ValueError(f'"{label}" is not of the form name=value')


def _servers(addresses: tuple[str, ...]) -> None:
    for address in addresses:
        ipaddress.ip_address(address)


_HINTS: Final = typing.get_type_hints(Settings)
_PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "log-opts": _log_opts,
    "default-address-pools": _pools,
    "default-ulimits": _ulimits,
    "default-shm-size": _size,
    "seccomp-profile": _seccomp_profile,
    "hosts": _hosts,
}
_CHECKS: Final[Mapping[str, Callable[[Any], None]]] = {
    "log-level": _one_of("debug", "info", "warn", "warning", "error", "fatal"),
    "firewall": _one_of("", "iptables", "nftables"),
    "default-ipc-mode": _one_of("private", "shareable"),
    "default-cgroupns-mode": _one_of("private", "host"),
    "bip": _network,
    "fixed-cidr": _network,
    "bip6": _network,
    "fixed-cidr-v6": _network,
    "default-gateway": _address,
    "default-gateway-v6": _address,
    "ip": _address,
    "dns": _servers,
    "host-gateway-ips": _servers,
    "mtu": _mtu,
    "labels": _labels,
}
