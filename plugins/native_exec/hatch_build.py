"""Tags the wheel for the machine that its static `wherry-init` runs on, and refuses to build one without it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# ELF e_machine (elf(5)) → the tag's word for it.
MACHINES = {62: "x86_64", 183: "aarch64"}


class StaticInit(BuildHookInterface):  # type: ignore[type-arg]
    """The program is static and uses no libc: it asks for a kernel and a machine, and for no Python or C library in particular."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        program = Path(self.root, "wherry_native_exec", "wherry-init")
        if not program.is_file():
            raise FileNotFoundError(
                f"{program} is missing, and the wheel needs it; build it first: make setup"
            )
        machine = MACHINES[machine_of(program)]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}"


def machine_of(program: Path) -> int:
    """The e_machine of a little-endian ELF program. Raises ValueError where it is none."""
    head = program.read_bytes()[:20]
    if head[:4] != b"\x7fELF" or int.from_bytes(head[18:20], "little") not in MACHINES:
        raise ValueError(f"{program} is not a program for {' or '.join(MACHINES.values())}")
    return int.from_bytes(head[18:20], "little")
