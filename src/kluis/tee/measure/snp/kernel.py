"""The table of hashes with which a firmware checks kernel, initrd and command line.

Spec: QEMU, target/i386/sev.c, sev_add_kernel_loader_hashes; EDK II,
OvmfPkg/AmdSev/BlobVerifierLibSevHashes. Integers are little-endian.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import UsageError
from kluis.formats.encoding import guid
from kluis.formats.snp.firmware import PAGE
from kluis.frozen import frozen
from kluis.hashes import sha256

_TABLE: Final = guid.encode("9438d606-4f22-4cc9-b479-a793d411fd21")
_KERNEL: Final = guid.encode("4de79437-abd2-427f-b835-d5b172d2045b")
_INITRD: Final = guid.encode("44baf731-3a2f-4bd7-9af1-41e29169781d")
_COMMAND_LINE: Final = guid.encode("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_HEAD: Final = 18
_ENTRY: Final = _HEAD + 32
_SIZE: Final = _HEAD + 3 * _ENTRY
_ALIGNED: Final = (_SIZE + 15) & ~15


@frozen
class KernelHashes:
    """SHA-256 of the kernel's file, of the initrd's, and of the command line with its NUL."""

    kernel: bytes
    initrd: bytes
    command_line: bytes

    def page(self, address: int) -> bytes:
        """The page with the table at ``address``, 4096 bytes.

        Raises:
            UsageError: the table would exceed the page.
        """
        entries = ((_COMMAND_LINE, self.command_line), (_INITRD, self.initrd), (_KERNEL, self.kernel))
        table = _TABLE + _SIZE.to_bytes(2, "little")
        for name, digest in entries:
            table += name + _ENTRY.to_bytes(2, "little") + digest
        offset = address % PAGE
        if offset + _ALIGNED > PAGE:
            raise UsageError(f"OVMF: table of kernel hashes at {address:#x} passes its page's end")
        return (bytes(offset) + table).ljust(PAGE, b"\0")


def hashes(kernel: bytes, initrd: bytes = b"", command_line: str = "") -> KernelHashes:
    """Hash the files and text of QEMU's ``-kernel``, ``-initrd`` and ``-append``."""
    return KernelHashes(sha256(kernel), sha256(initrd), sha256(command_line.encode() + b"\0"))
