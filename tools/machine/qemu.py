"""The machine itself: qemu's command line, and how its one command ended."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import disk
from .cpio import Archive
from .kernel import Kernel
from .trouble import Trouble

HERE: Final = Path(__file__).resolve().parent
CHECKOUT: Final = HERE.parent.parent
QEMU: Final = "qemu-system-x86_64"

NEEDED: Final = (QEMU, "busybox", "depmod", "dpkg", "mke2fs", "setpriv")

FIRST_MODULES: Final = (
    "virtio_pci", "virtio_blk", "virtio_console", "9pnet_virtio", "9p", "crc32c_generic", "ext4", "overlay",
)  # fmt: skip
"""What the initramfs needs to reach the root; all others are loaded from there, most of them by the kernel itself."""

LOAD: Final = ("br_netfilter",)
"""What no system call asks the kernel to load, and Docker's packages load at boot."""

ACCELERATORS: Final = {
    "kvm": ("-accel", "kvm", "-cpu", "host", "-smp", "2"),
    # The clock counts instructions, 2 ns each: emulated, the machine is slow, but to itself it is a computer of 500 MIPS,
    # also when others use this host. So no deadline of ours, or of the tests, has to know how slow it is; a sleep takes as
    # long as here. Two processors would spend their time waiting for each other. What is left out of the processor makes
    # kernels choose instructions that are fast in silicon and slow here.
    "tcg": (
        "-accel", "tcg,thread=single", "-icount", "shift=1,sleep=on",
        "-cpu", "max,-la57,-erms,-fsrm,-smap,-smep", "-smp", "1",
    ),
}  # fmt: skip

KERNEL_ARGUMENTS: Final = (
    "cgroup_no_v1=all",
    "console=ttyS0", "quiet", "panic=-1",
    # Nobody attacks this kernel; without its guards it is a third faster.
    "mitigations=off", "init_on_alloc=0", "transparent_hugepage=never", "audit=0",
)  # fmt: skip

HANDED_ON: Final = (
    "PATH",
    "TERM",
    "LANG",
    "HOME",
    "PYTEST_ADDOPTS",
    "WHERRY_TEST_SLOWNESS",
    "WHERRY_NO_PEERS",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the machine is made of."""

    kernel: Kernel
    accelerator: str  # kvm or tcg
    memory_mib: int = 4096
    disk_gib: int = 16  # sparse
    kernel_arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the command ended, and what it took, in seconds."""

    code: int
    boot: float
    whole: float


def accelerator(environment: Mapping[str, str] = os.environ) -> str:
    """`kvm` where /dev/kvm can run a kernel like Debian's, else `tcg`, qemu's own emulation. WHERRY_MACHINE_ACCEL decides.

    That /dev/kvm opens is not enough: without hardware virtualisation (nested guests, PVM) it runs no ordinary kernel.
    """
    if chosen := environment.get("WHERRY_MACHINE_ACCEL"):
        if chosen not in ACCELERATORS:
            raise Trouble(f"WHERRY_MACHINE_ACCEL is kvm or tcg, not {chosen}")
        return chosen
    flags = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), ""
    )
    virtualises = {"vmx", "svm"} & set(flags.split())
    return "kvm" if virtualises and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def command_line(machine: Machine, share: Path) -> list[str]:
    """qemu's arguments for a machine whose initramfs, disk and settings lie in `share`."""
    return [
        QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35", *ACCELERATORS[machine.accelerator],
        "-m", f"{machine.memory_mib}M",
        "-kernel", str(machine.kernel.image), "-initrd", str(share / "initramfs"),
        "-append", " ".join((*KERNEL_ARGUMENTS, *machine.kernel_arguments)),
        "-nic", "none",
        "-device", "virtio-rng-pci",
        "-serial", f"file:{share / 'console'}",
        "-device", "virtio-serial-pci", "-chardev", "stdio,id=terminal", "-device", "virtconsole,chardev=terminal",
        "-drive", f"file={share / 'disk'},if=virtio,format=raw,cache=unsafe,discard=unmap",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        "-virtfs", f"local,path={share},mount_tag=share,security_model=none",
    ]  # fmt: skip


def run(machine: Machine, argv: Sequence[str], *, timeout: float) -> Ended:
    """Boot, run `argv` in this working directory as root, switch off. The command's terminal is ours."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wherry-machine-", dir="/var/tmp") as temporary:
        share = Path(temporary)
        _fill(share, machine, argv)
        # Whatever ends us ends qemu; by SIGTERM, so that it leaves our terminal as it was.
        with subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command_line(machine, share)]) as process:
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise Trouble(
                    f"the command did not end within {timeout:.0f} seconds{_console(share)}"
                ) from None
            finally:
                process.terminate()
        try:
            answer = int((share / "exit").read_text())
        except (OSError, ValueError):
            raise Trouble(f"qemu ended with {code} before the command did{_console(share)}") from None
        return Ended(code=answer, boot=float((share / "booted").read_text()), whole=time.monotonic() - began)


def _fill(share: Path, machine: Machine, argv: Sequence[str]) -> None:
    (share / "initramfs").write_bytes(_initramfs(machine.kernel))
    (share / "settings").write_text(
        "".join(
            f"{name}={shlex.quote(value)}\n"
            for name, value in {
                "MACHINE_CHECKOUT": str(CHECKOUT),
                "MACHINE_RELEASE": machine.kernel.release,
                "MACHINE_MODULES": str(machine.kernel.modules),
                "MACHINE_LOAD": " ".join(LOAD),
            }.items()
        )
    )
    environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    (share / "command").write_text(
        "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        + f"stty -onlcr\ncd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(argv)}\n"
    )
    disk.make(share / "disk", size_gib=machine.disk_gib, checkout=CHECKOUT)


def _initramfs(kernel: Kernel) -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None
    archive = Archive()
    for path in ("bin", "dev", "proc", "sys", "modules", "share", "host", "scratch", "new"):
        archive.directory(path)
    archive.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    archive.file("init", (HERE / "init.sh").read_bytes(), 0o755)
    modules = kernel.with_needs(FIRST_MODULES)
    for module in modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    archive.file("modules/order", "".join(f"{module.name}\n" for module in modules).encode())
    return archive.finish()


def need_programs() -> None:
    """Raises Trouble, with what to do, where this host has not what the machine needs."""
    if platform.machine() != "x86_64":
        raise Trouble(f"the machine is made for x86_64; this is {platform.machine()}")
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        raise Trouble(
            f"there is no {' and no '.join(missing)} here: make setup-vm installs what the machine needs"
        )


def _console(share: Path) -> str:
    """The end of what the kernel and our init said."""
    try:
        lines = (share / "console").read_text(errors="replace").splitlines()[-30:]
    except OSError:
        return ""
    return "; its console:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""
