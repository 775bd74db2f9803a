"""`wherry daemon`: dockerd's flags, settled with the configuration file, and then the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wherry.cli.session import Session

Text = str | None


def _flag(name: str, help: str) -> Any:
    return typer.Option(name, help=help, show_default=False)


def daemon(
    session: Session,
    host: Annotated[
        list[str] | None, typer.Option("-H", "--host", help="Listen here [unix:///run/wherry.sock]")
    ] = None,
    config_file: Annotated[Path | None, _flag("--config-file", "wherry.toml, or a daemon.json")] = None,
    data_root: Annotated[Text, _flag("--data-root", "What must persist [/var/lib/wherry]")] = None,
    exec_root: Annotated[Text, _flag("--exec-root", "What a reboot may forget [/run/wherry]")] = None,
    pidfile: Annotated[Text, typer.Option("-p", "--pidfile", help="[<exec-root>.pid]")] = None,
    group: Annotated[Text, typer.Option("-G", "--group", help="Owns the unix socket [docker]")] = None,
    debug: Annotated[bool | None, typer.Option("-D", "--debug/--no-debug", help="Log more")] = None,
    log_level: Annotated[
        Text, typer.Option("-l", "--log-level", help="debug, info, warn, error, fatal")
    ] = None,
    exec_driver: Annotated[
        Text, typer.Option("--exec-driver", "--default-runtime", help="How containers are run [native]")
    ] = None,
    storage_driver: Annotated[
        Text, typer.Option("-s", "--storage-driver", help="[overlay2, else vfs]")
    ] = None,
    log_driver: Annotated[Text, _flag("--log-driver", "Where output goes [json-file]")] = None,
    log_opt: Annotated[list[str] | None, _flag("--log-opt", "name=value for the log driver")] = None,
    frontend: Annotated[list[str] | None, _flag("--frontend", "What clients are served [docker]")] = None,
    extension: Annotated[list[str] | None, _flag("--extension", "What watches or vetoes operations")] = None,
    bridge: Annotated[
        Text, typer.Option("-b", "--bridge", help="Of the default network; none: no such")
    ] = None,
    bip: Annotated[Text, _flag("--bip", "The bridge's address: 10.1.0.1/16")] = None,
    fixed_cidr: Annotated[Text, _flag("--fixed-cidr", "Where containers' addresses are taken from")] = None,
    default_gateway: Annotated[Text, _flag("--default-gateway", "Of the default network")] = None,
    ipv6: Annotated[bool | None, typer.Option("--ipv6/--no-ipv6", help="IPv6 in the default network")] = None,
    bip6: Annotated[Text, _flag("--bip6", "The bridge's IPv6 address: fd00::1/64")] = None,
    fixed_cidr_v6: Annotated[Text, _flag("--fixed-cidr-v6", "The default network's IPv6 range")] = None,
    default_gateway_v6: Annotated[Text, _flag("--default-gateway-v6", "Of the default network")] = None,
    default_address_pool: Annotated[
        list[str] | None, _flag("--default-address-pool", "Ranges for networks: base=10.10.0.0/16,size=24")
    ] = None,
    mtu: Annotated[int | None, _flag("--mtu", "Of containers' links [1500]")] = None,
    ip: Annotated[Text, _flag("--ip", "Where published ports listen [0.0.0.0]")] = None,
    icc: Annotated[bool | None, typer.Option("--icc/--no-icc", help="Containers reach each other")] = None,
    ip_masq: Annotated[bool | None, typer.Option("--ip-masq/--no-ip-masq", help="Masquerade")] = None,
    ip_forward: Annotated[
        bool | None, typer.Option("--ip-forward/--no-ip-forward", help="Enable net.ipv4.ip_forward")
    ] = None,
    iptables: Annotated[
        bool | None, typer.Option("--iptables/--no-iptables", help="Write firewall rules")
    ] = None,
    firewall: Annotated[
        Text, typer.Option("--firewall", "--firewall-backend", help="iptables or nftables [what is in use]")
    ] = None,
    userland_proxy: Annotated[
        bool | None, typer.Option("--userland-proxy/--no-userland-proxy", hidden=True)
    ] = None,
    dns: Annotated[list[str] | None, _flag("--dns", "Name servers for containers")] = None,
    dns_search: Annotated[list[str] | None, _flag("--dns-search", "Search domains for containers")] = None,
    dns_opt: Annotated[list[str] | None, _flag("--dns-opt", "resolv.conf options for containers")] = None,
    resolv_conf: Annotated[
        Text, _flag("--resolv-conf", "The host's name servers, which containers follow [/etc/resolv.conf]")
    ] = None,
    host_gateway_ip: Annotated[
        list[str] | None, _flag("--host-gateway-ip", "What host-gateway stands for in --add-host")
    ] = None,
    default_ulimit: Annotated[list[str] | None, _flag("--default-ulimit", "nofile=1024:2048")] = None,
    no_new_privileges: Annotated[
        bool | None,
        typer.Option("--no-new-privileges/--new-privileges", help="By default containers gain none"),
    ] = None,
    seccomp_profile: Annotated[
        Text, _flag("--seccomp-profile", "A file, or unconfined, for containers that name none [builtin]")
    ] = None,
    userns_remap: Annotated[
        Text, _flag("--userns-remap", "Whose ids containers get: default, or user[:group]")
    ] = None,
    default_ipc_mode: Annotated[Text, _flag("--default-ipc-mode", "private, shareable [private]")] = None,
    default_cgroupns_mode: Annotated[
        Text, _flag("--default-cgroupns-mode", "private, host [private]")
    ] = None,
    default_shm_size: Annotated[Text, _flag("--default-shm-size", "[64m]")] = None,
    label: Annotated[list[str] | None, _flag("--label", "name=value, shown by `wherry info`")] = None,
    cgroup_parent: Annotated[Text, _flag("--cgroup-parent", "Where containers' cgroups are made")] = None,
    live_restore: Annotated[
        bool | None,
        typer.Option("--live-restore/--no-live-restore", help="Containers outlive the daemon [they do]"),
    ] = None,
    shutdown_timeout: Annotated[int | None, _flag("--shutdown-timeout", "Seconds [15]")] = None,
    init: Annotated[bool | None, typer.Option("--init/--no-init", help="An init in every container")] = None,
    validate: Annotated[bool, _flag("--validate", "Check the configuration and stop")] = False,
) -> int:
    given = {name.replace("_", "-"): value for name, value in locals().items() if value not in (None, [], ())}
    for name in ("session", "config-file", "validate", "host"):
        given.pop(name, None)
    if hosts := [*session.hosts, *(host or [])]:
        given["host"] = hosts
    if session.debug:
        given["debug"] = True
    from wherry.config import load

    settings = load(given, config_file)
    if validate:
        for warning in settings.warnings:
            print(warning)
        print("configuration OK")
        return 0
    from wherry.daemon import main

    return main(settings)
