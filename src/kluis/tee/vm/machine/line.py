"""The command line of QEMU for a machine.

q35, without default devices, network card, monitor or display. Everything that it boots is a memory file
given by descriptor. There is no monitor on purpose: its commands read the guest's memory.

Spec: QEMU, "Invocation".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from kluis.formats.kluis.processor_port import PORT
from kluis.frozen import frozen

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
MOST_PORTS = 30
"""Ports of the guest's one virtio-serial device, in addition to that of the processor."""
CODE_BUFFER_MEBIBYTES = 128


@frozen
class Boot:
    """What a machine boots from; descriptors of memory files, -1 if there is none.

    Attributes:
        kernel: a kernel, or a unified image.
        initrd, command_line: -1 and empty with a unified image.
        firmware: the BIOS, or the code of OVMF.
        variables: OVMF's variables, writable.
        root: the root disk.
    """

    kernel: int
    firmware: int
    initrd: int = -1
    command_line: str = ""
    variables: int = -1
    root: int = -1


@frozen
class Hardware:
    """The machine itself.

    Attributes:
        memory_mb, cpus: MiB, and number of processors.
        accelerator: ``tcg`` or ``kvm``.
        secret: the guest's memory is secret; needs the preloaded library.
        console: descriptor of the serial line's socket.
        ports: descriptor by name, of the sockets of its virtio-serial ports: listening ones, and the
            processor's, which is connected.
        tpm: descriptor of swtpm's control socket; -1: no TPM.
    """

    memory_mb: int
    cpus: int
    accelerator: str
    secret: bool
    console: int
    ports: Sequence[tuple[str, int]] = field(default_factory=tuple)
    tpm: int = -1


def arguments(boot: Boot, hardware: Hardware) -> list[str]:
    """QEMU's arguments, without the program."""
    line = ["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"]
    line += ["-nic", "none", "-sandbox", SANDBOX, "-smp", str(hardware.cpus), "-m", f"{hardware.memory_mb}M"]
    line += _memory(hardware)
    if hardware.accelerator == "kvm":
        line += ["-accel", "kvm", "-cpu", "host"]
    else:
        line += ["-accel", f"tcg,thread=multi,tb-size={CODE_BUFFER_MEBIBYTES}", "-cpu", "max"]
    line += ["-kernel", f"/proc/self/fd/{boot.kernel}"]
    if boot.initrd >= 0:
        line += ["-initrd", f"/proc/self/fd/{boot.initrd}"]
    if boot.command_line:
        line += ["-append", boot.command_line]
    line += _firmware(boot)
    if boot.root >= 0:
        line += ["-add-fd", f"fd={boot.root},set=1"]
        line += [
            "-blockdev",
            "driver=raw,node-name=root,read-only=on,file.driver=file,file.filename=/dev/fdset/1",
        ]
        line += ["-device", "virtio-blk-pci,drive=root,serial=kluis-root"]
    line += ["-chardev", f"socket,id=console,fd={hardware.console}", "-serial", "chardev:console"]
    line += ["-device", f"virtio-serial-pci,max_ports={MOST_PORTS + 2}"]
    for number, (name, descriptor) in enumerate(hardware.ports, 1):
        # A port listens, so that the guest sees when one host leaves it, and another comes.
        ways = "" if name == PORT else ",server=on,wait=off"
        line += ["-chardev", f"socket,id=port{number},fd={descriptor}{ways}"]
        line += ["-device", f"virtserialport,nr={number},chardev=port{number},name={name}"]
    if hardware.tpm >= 0:
        line += ["-chardev", f"socket,id=tpm,fd={hardware.tpm}", "-tpmdev", "emulator,id=tpm,chardev=tpm"]
        line += ["-device", "tpm-crb,tpmdev=tpm"]
    return line


def _memory(hardware: Hardware) -> list[str]:
    kind = "memory-backend-memfd,share=on,seal=off" if hardware.secret else "memory-backend-ram"
    memory = f"{kind},id=memory,size={hardware.memory_mb}M"
    return [
        "-object",
        memory,
        "-machine",
        "q35,memory-backend=memory,usb=off,vmport=off,smm=off,dump-guest-core=off",
    ]


def _firmware(boot: Boot) -> list[str]:
    if boot.variables < 0:
        return ["-bios", f"/proc/self/fd/{boot.firmware}"]
    line = ["-add-fd", f"fd={boot.firmware},set=2", "-add-fd", f"fd={boot.variables},set=3"]
    line += [
        "-blockdev",
        "driver=raw,node-name=code,read-only=on,file.driver=file,file.filename=/dev/fdset/2",
    ]
    line += ["-blockdev", "driver=raw,node-name=variables,file.driver=file,file.filename=/dev/fdset/3"]
    return [*line, "-machine", "pflash0=code,pflash1=variables"]
