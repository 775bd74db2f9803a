"""Checks of what is installed and set up around the kernel."""

from __future__ import annotations

import grp
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from wherry.discovery import Catalogue
from wherry.doctor.findings import Finding, good, lacking, missing
from wherry.linux import links, netns, xtables
from wherry.linux.netlink import Netlink
from wherry.linux.nftables import Nft, NftError


def network_links() -> Finding:
    """A bridge and a pair of links, in a network namespace that ends with the check."""
    try:
        here = netns.new()
    except OSError as error:
        return missing("network", f"no network namespace can be made: {error.strerror}", "run as root")
    try:
        with netns.inside(here), Netlink() as nl:
            for what, make in (
                ("bridge", lambda: links.create_bridge(nl, "b")),
                ("veth", lambda: links.create_veth(nl, "v", peer="p", peer_namespace=here)),
            ):
                if (problem := _tried(make)) is not None:
                    return lacking(
                        "network", f"no {what}: {problem}", f"modprobe {what}; --network host and none work"
                    )
    finally:
        os.close(here)
    return good("network", "bridges and pairs of links can be made")


def _tried(make: Callable[[], None]) -> str | None:
    try:
        make()
    except OSError as error:
        return error.strerror or str(error)
    return None


def firewall() -> Finding:
    try:
        here = netns.new()
    except OSError as error:
        return missing("firewall", f"no network namespace can be made: {error.strerror}", "run as root")
    try:
        with netns.inside(here):
            problem = _nftables()
    finally:
        os.close(here)
    legacy = [table for table in xtables.tables() if _entries(table)]
    if problem and not Path("/proc/net/ip_tables_names").exists():
        return lacking(
            "firewall",
            f"no nftables ({problem}) and no iptables",
            "modprobe nf_tables; without, no port is published",
        )
    if problem:
        return good("firewall", f"iptables (nftables: {problem})")
    if legacy:
        return good("firewall", f"nftables; legacy iptables holds rules in {', '.join(legacy)}")
    return good("firewall", "nftables")


def _nftables() -> str:
    """What is wrong with it; nothing if a table with a nat chain can be made."""
    try:
        nft = Nft()
    except OSError:
        return "libnftables.so.1 is not installed"
    try:
        nft.run(
            "add table ip wherry_doctor; add chain ip wherry_doctor nat { type nat hook postrouting priority 100; }"
        )
    except NftError as error:
        return str(error)
    finally:
        nft.close()
    return ""


def _entries(table: str) -> int:
    try:
        return xtables.entries(table)
    except OSError:
        return 0


def forwarding() -> Finding:
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1":
        return good("forwarding", "net.ipv4.ip_forward is on")
    return lacking(
        "forwarding", "net.ipv4.ip_forward is off", "the daemon turns it on, unless told --no-ip-forward"
    )


def exec_root() -> Finding:
    run = os.statvfs("/run")
    if not os.access("/run", os.W_OK):
        return missing("exec root", "/run cannot be written", "run as root, or choose another --exec-root")
    if run.f_flag & os.ST_RDONLY:
        return missing("exec root", "/run is read-only", "choose another --exec-root")
    return good("exec root", "the daemon mounts a tmpfs of its own on /run/wherry")


def init_program() -> Finding:
    spec = importlib.util.find_spec("wherry_native_exec")
    if spec is None or not spec.origin:
        return missing(
            "wherry-init", "the native exec driver is not installed", "pip install wherry-native-exec"
        )
    program = Path(spec.origin).with_name("wherry-init")
    if not os.access(program, os.X_OK):
        return missing(
            "wherry-init", f"{program} is not there", "make setup; or install a wheel built for this machine"
        )
    return good("wherry-init", f"{program.stat().st_size} bytes")


def drivers() -> Finding:
    found = Catalogue()
    needed = [
        ("exec", "native"),
        ("storage", "vfs"),
        ("log", "json-file"),
        ("network", "bridge"),
        ("frontend", "docker"),
    ]
    lost = [f"{kind} {name}" for kind, name in needed if name not in found.names(kind)]  # type: ignore[arg-type]
    if lost:
        return missing(
            "drivers",
            f"not installed: {', '.join(lost)}",
            "pip install wherry; or name others in wherry.toml",
        )
    broken = found.check()
    if broken:
        names = ", ".join(f"{kind} {name}" for kind, name in broken)
        return lacking("drivers", f"broken: {names}", "`wherry drivers --check` says why")
    return good("drivers", f"{len(found.entries())} installed")


def group() -> Finding:
    try:
        return good("group", f"docker (gid {grp.getgrnam('docker').gr_gid}) may use the socket")
    except KeyError:
        return lacking(
            "group",
            "there is no group docker: only root may use the socket",
            "groupadd docker, if others should",
        )


def resolver() -> Finding:
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        lines = []
    servers = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
    if not servers:
        return lacking(
            "names", "/etc/resolv.conf names no server", "containers need --dns, here or for the daemon"
        )
    if all(server.startswith("127.") or server == "::1" for server in servers):
        return lacking(
            "names",
            f"only {', '.join(servers)}, which is the host's own",
            "give the daemon --dns for containers",
        )
    return good("names", ", ".join(servers))
