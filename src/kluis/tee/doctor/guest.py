"""A guest of eleven bytes for /dev/kvm: writes one letter to the serial port and halts.

Run as a program, by file name, in a child process that may be killed; it needs only the standard library.

Spec: Documentation/virt/kvm/api.rst, sections 4.1 to 4.35.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import sys

#       mov dx, 0x3f8     mov al, 'K'  out dx, al  hlt
CODE = b"\xba\xf8\x03" + b"\xb0K" + b"\xee" + b"\xf4" + b"\x90" * 4
LOAD_AT = 0x1000

KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_CREATE_VCPU = 0xAE41
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
KVM_EXIT_IO = 2
KVM_EXIT_HLT = 5
SREGS_BYTES = 312
CS_BASE_AT, CS_SELECTOR_AT = 0, 12


class _Region(ctypes.Structure):
    _fields_ = (
        ("slot", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("guest_at", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("host_at", ctypes.c_uint64),
    )


class _Registers(ctypes.Structure):
    _fields_ = (("general", ctypes.c_uint64 * 16), ("rip", ctypes.c_uint64), ("rflags", ctypes.c_uint64))


def run() -> bytes:
    """Run the guest until it halts.

    Returns:
        The byte it wrote to the serial port.

    Raises:
        OSError: KVM refused a step, or the guest exited for another reason than a write or a halt.
    """
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    if fcntl.ioctl(kvm, KVM_GET_API_VERSION) != 12:
        raise OSError("KVM API: want version 12")
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[: len(CODE)] = CODE
    region = _Region(0, 0, LOAD_AT, mmap.PAGESIZE, ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
    cpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    shared = mmap.mmap(cpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
    special = bytearray(SREGS_BYTES)
    fcntl.ioctl(cpu, KVM_GET_SREGS, special)
    special[CS_BASE_AT : CS_BASE_AT + 8] = bytes(8)
    special[CS_SELECTOR_AT : CS_SELECTOR_AT + 2] = bytes(2)
    fcntl.ioctl(cpu, KVM_SET_SREGS, special)
    registers = _Registers(rip=LOAD_AT, rflags=2)
    fcntl.ioctl(cpu, KVM_SET_REGS, registers)
    written = b""
    while True:
        fcntl.ioctl(cpu, KVM_RUN, 0)
        reason = int.from_bytes(shared[8:12], sys.byteorder)
        if reason == KVM_EXIT_HLT:
            return written
        if reason != KVM_EXIT_IO:
            raise OSError(f"the guest left with reason {reason}")
        at = int.from_bytes(shared[40:48], sys.byteorder)
        written += shared[at : at + 1]


if __name__ == "__main__":
    try:
        letter = run()
    except OSError as error:
        sys.exit(f"{error.strerror or error}")
    sys.exit(None if letter == b"K" else f"wrote {letter!r}, want b'K'")
