"""`wherry update`: new limits for containers, also while they run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wherry.cli import output, parse
from wherry.cli.connection import part
from wherry.cli.flags import flag
from wherry.cli.session import Session


def update(
    session: Session,
    containers: Annotated[list[str], typer.Argument(metavar="CONTAINER…")],
    memory: Annotated[str, flag("-m", "--memory", help="Memory limit: 64m")] = "",
    memory_swap: Annotated[str, flag("--memory-swap", help="Memory and swap; -1: unlimited swap")] = "",
    memory_reservation: Annotated[str, flag("--memory-reservation", help="Soft memory limit")] = "",
    cpus: Annotated[str, flag("--cpus", help="Number of CPUs: 1.5")] = "",
    cpu_shares: Annotated[int, flag("-c", "--cpu-shares", help="Relative weight")] = 0,
    cpu_period: Annotated[int, flag("--cpu-period", help="CFS period, microseconds")] = 0,
    cpu_quota: Annotated[int, flag("--cpu-quota", help="CFS quota, microseconds")] = 0,
    cpuset_cpus: Annotated[str, flag("--cpuset-cpus", help="Which CPUs")] = "",
    cpuset_mems: Annotated[str, flag("--cpuset-mems", help="Which memory nodes")] = "",
    blkio_weight: Annotated[int, flag("--blkio-weight", help="10 to 1000")] = 0,
    pids_limit: Annotated[int | None, flag("--pids-limit", help="Number of processes; -1: no limit")] = None,
    restart: Annotated[str, flag("--restart", help="Restart policy")] = "",
) -> int:
    said = {
        "Memory": parse.size(memory),
        "MemorySwap": parse.size(memory_swap),
        "MemoryReservation": parse.size(memory_reservation),
        "NanoCpus": parse.cpus(cpus),
        "CpuShares": cpu_shares,
        "CpuPeriod": cpu_period,
        "CpuQuota": cpu_quota,
        "CpusetCpus": cpuset_cpus,
        "CpusetMems": cpuset_mems,
        "BlkioWeight": blkio_weight,
        "PidsLimit": pids_limit,
        "RestartPolicy": parse.restart(restart) if restart else None,
    }
    body = {name: value for name, value in said.items() if value not in (0, "", None)}

    def one(name: str) -> None:
        answer = session.client.call("POST", f"/containers/{part(name)}/update", None, body) or {}
        for warning in answer.get("Warnings") or []:
            print(f"WARNING: {warning}", file=sys.stderr)

    return output.each(containers, one)
