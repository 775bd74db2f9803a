"""What /etc/hosts and /etc/resolv.conf of a container say. Pure: texts in, texts out.

Source: reference `buildHostsFiles`, `setupContainerDns`; Docker's `etchosts` and `resolvconf`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

_DEFAULT_LINES: Final = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("ff00::0", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
DEFAULT_SERVERS: Final = ("8.8.8.8", "8.8.4.4")
DEFAULT_SERVERS_IPV6: Final = ("2001:4860:4860::8888", "2001:4860:4860::8844")
_LOCAL: Final = re.compile(r"127(\.\d{1,3}){3}|::1|localhost")


def hosts_file(extra: Sequence[tuple[str, str]] = (), own: Sequence[tuple[str, str]] = ()) -> str:
    """Docker's lines; `extra` (names, address) of links and --add-host; `own`: the container's in its networks."""
    lines = [(names, number) for number, names in _DEFAULT_LINES]
    return add_lines("", [*lines, *extra, *own])


def own_names(hostname: str, domainname: str) -> str:
    """What a container is called, as a hosts file has it."""
    return f"{hostname}.{domainname} {hostname}" if domainname else hostname


def add_lines(text: str, lines: Sequence[tuple[str, str]]) -> str:
    """A hosts file with lines (names, address) more; what somebody else wrote stays as it is."""
    whole = text if not text or text.endswith("\n") else text + "\n"
    return whole + "".join(f"{address}\t{names}\n" for names, address in lines)


def drop_lines(text: str, address: str, name: str) -> str:
    """A hosts file without the lines that give this address to this name; others stay as they are."""
    kept = []
    for line in text.splitlines(keepends=True):
        words = line.partition("#")[0].split()
        if not (words and words[0] == address and name in words[1:]):
            kept.append(line)
    return "".join(kept)


def point_lines(text: str, name: str, address: str) -> str:
    """A hosts file in which a name leads to another address; other names of the same line go along."""
    kept = []
    for line in text.splitlines(keepends=True):
        content, mark, remark = line.partition("#")
        words = content.split()
        if name in words[1:] and words[0] != address:
            tail = content[content.index(words[0]) + len(words[0]) :]
            line = f"{address}{tail}{mark}{remark}"
        kept.append(line)
    return "".join(kept)


def drop_name(text: str, name: str) -> str:
    """A hosts file without the lines of a name."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if name not in line.partition("#")[0].split()[1:])


def resolv_conf(
    host_text: str,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    ipv6: bool = False,
    filter_local: bool = True,
) -> str:
    """The host's file as a container can use it; `dns`, `search`, `options` replace the host's where given.

    Servers on the host's loopback mean nothing in a container, nor do IPv6 servers in one without IPv6; where none is
    left come Google's, as Docker does. `search` of `.` means none.
    """
    if dns or search or options:
        return _built(
            list(dns) or _usable(nameservers(host_text), ipv6, filter_local),
            list(search) or searches(host_text),
            list(options) or found_options(host_text),
        )
    if not filter_local:
        return host_text
    kept = [line for line in host_text.splitlines() if not _is_unusable(line, ipv6)]
    text = "".join(f"{line}\n" for line in kept)
    if not nameservers(text):
        text += "".join(f"nameserver {server}\n" for server in _defaults(ipv6))
    return text


def answered_by(text: str, address: str) -> str:
    """A resolv.conf whose names are all asked of one server; names of one word are names there (`ndots:0`)."""
    options = found_options(text)
    if not any(option.startswith("ndots:") for option in options):
        options = [*options, "ndots:0"]
    return _built([address], searches(text), options)


def digest(text: str) -> str:
    """What tells whether somebody changed a file since: reference `ioutils.HashData`."""
    return "sha256:" + hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def nameservers(text: str) -> list[str]:
    return [words[1] for words in _directives(text, "nameserver")]


def searches(text: str) -> list[str]:
    """The domains of the last `search` or `domain` line, which is the one that counts."""
    found = [words[1:] for words in _directives(text, "search", "domain")]
    return found[-1] if found else []


def found_options(text: str) -> list[str]:
    found = [words[1:] for words in _directives(text, "options")]
    return found[-1] if found else []


def _built(servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    lines = []
    if search and list(search) != ["."]:
        lines.append(f"search {' '.join(search)}")
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines)


def _directives(text: str, *names: str) -> list[list[str]]:
    lines = (re.split(r"[#;]", line, maxsplit=1)[0].split() for line in text.splitlines())
    return [words for words in lines if len(words) > 1 and words[0] in names]


def _is_unusable(line: str, ipv6: bool) -> bool:
    return any(server not in _usable([server], ipv6, True, fall_back=False) for server in nameservers(line))


def _usable(servers: Sequence[str], ipv6: bool, filter_local: bool, *, fall_back: bool = True) -> list[str]:
    kept = [
        server
        for server in servers
        if not (filter_local and _LOCAL.fullmatch(server)) and (ipv6 or ":" not in server)
    ]
    return kept or (list(_defaults(ipv6)) if fall_back else [])


def _defaults(ipv6: bool) -> tuple[str, ...]:
    return DEFAULT_SERVERS + (DEFAULT_SERVERS_IPV6 if ipv6 else ())
