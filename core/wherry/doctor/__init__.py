"""What this machine offers for containers, what it lacks, and what to do about each lack.

Every check tries the thing itself, in namespaces and directories of its own, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator

from wherry.doctor import host, kernel
from wherry.doctor.findings import Check, Finding, missing

CHECKS: tuple[Check, ...] = (
    kernel.kernel,
    kernel.machine,
    kernel.privileges,
    kernel.control_groups,
    kernel.swap_limits,
    kernel.name_spaces,
    kernel.user_namespaces,
    kernel.mount_calls,
    kernel.path_calls,
    kernel.process_descriptors,
    kernel.overlay,
    kernel.mapped_mounts,
    kernel.system_call_filter,
    kernel.security_module,
    host.network_links,
    host.firewall,
    host.forwarding,
    host.resolver,
    host.exec_root,
    host.init_program,
    host.drivers,
    host.group,
)


def examine() -> Iterator[Finding]:
    """Every finding, as it is made. A check that fails itself is a finding too."""
    for check in CHECKS:
        try:
            yield check()
        except Exception as error:
            yield missing(check.__name__.replace("_", " "), f"could not be checked: {error}", "run as root")
