"""What a guest requests of an SNP processor, and its answers: reports and derived keys, byte for byte.

Integers are little-endian. Nothing here has a secret.

Spec: AMD 56860, SEV-SNP Firmware ABI: tables "MSG_REPORT_REQ", "MSG_REPORT_RSP", "MSG_KEY_REQ",
"MSG_KEY_RSP"; Linux, include/uapi/linux/sev-guest.h, which pads the answer with a report to 4000 bytes.
"""

from __future__ import annotations

import enum
from typing import Final, Self

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.reader import Reader
from kluis.formats.sgx.quote import NO_HARDWARE
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import response
from kluis.formats.snp.flags import GuestPolicy
from kluis.frozen import frozen

REPORT_ANSWER_SIZE: Final = response.MAX_RESPONSE
KEY_ANSWER_SIZE: Final = 64
KEY_SIZE: Final = 32
INVALID_PARAMETERS: Final = 0x16
INVALID_KEY: Final = 0x27
LOWEST_VMPL: Final = 3
_SIZES: Final = {
    "measurement": 48, "host_data": 32, "report_id": 32, "family_id": 16, "image_id": 16,
    "id_key_digest": 48, "author_key_digest": 48,
}  # fmt: skip


def guest_policy(*, debug: bool) -> GuestPolicy:
    """The restrictions on the host with which Kluis launches a machine: firmware ABI 1.51, and no migration.

    Args:
        debug: whether the host may read the guest's memory.
    """
    return GuestPolicy(
        abi_minor=51,
        abi_major=1,
        smt=True,
        migrate_ma=False,
        debug=debug,
        single_socket=False,
        cxl=False,
        aes_256_xts=False,
        rapl_disabled=False,
        ciphertext_hiding=False,
        page_swap_disabled=False,
    )


@frozen(kw_only=True)
class Launch:
    """What a processor knows about one guest from its launch.

    Attributes:
        measurement: 48 bytes, the launch digest.
        report_id: 32 random bytes of this launch.
        policy: the restrictions on the host.
        host_data: 32 bytes from the host: the image id of a machine that runs one image, else zeros.
        vmpl: the privilege level at which the guest runs, 0..3; it gets no report of a more privileged one.
        guest_svn: from the id block, 32 bits.
        family_id: 16 bytes from the id block; by default it states that there is no hardware.
        image_id: 16 bytes from the id block.
        id_key_digest: 48 bytes, of the key that signed the id block; zeros if there is none.
        author_key_digest: 48 bytes, of the key that signed the id key; zeros if there is none.
    """

    measurement: bytes
    report_id: bytes
    policy: GuestPolicy
    host_data: bytes = bytes(32)
    vmpl: int = 0
    guest_svn: int = 0
    family_id: bytes = NO_HARDWARE[:16]
    image_id: bytes = bytes(16)
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)

    def __post_init__(self) -> None:
        for name, size in _SIZES.items():
            if len(getattr(self, name)) != size:
                raise UsageError(f"launch.{name}: want {size} bytes, got {len(getattr(self, name))}")
        if not 0 <= self.vmpl <= LOWEST_VMPL:
            raise UsageError(f"launch.vmpl: want 0..{LOWEST_VMPL}, got {self.vmpl}")


@frozen(kw_only=True)
class ReportRequest:
    """A request for a report.

    Attributes:
        report_data: 64 bytes that the report binds.
        vmpl: the privilege level that the report states.
    """

    report_data: bytes
    vmpl: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read 96 bytes.

        Raises:
            FormatError: another size, or reserved bytes that are not zero.
        """
        r = Reader(data, "SNP report request")
        request = cls(report_data=r.take(64, "report_data"), vmpl=r.u32("vmpl"))
        r.zeros(28, "reserved")
        r.end()
        return request


class Selection(enum.IntFlag):
    """What a derived key depends on, in addition to the processor."""

    POLICY = 1
    IMAGE_ID = 2
    FAMILY_ID = 4
    MEASUREMENT = 8
    GUEST_SVN = 16
    TCB_VERSION = 32


@frozen(kw_only=True)
class KeyRequest:
    """A request for a derived key.

    Attributes:
        root: 0 for the processor's key, 1 for a migration agent's.
        selected: what the key depends on.
        vmpl: the privilege level that it is for.
        guest_svn: at most the guest's.
        tcb: 8 bytes in the product's layout, at most the processor's.
    """

    root: int
    selected: Selection
    vmpl: int
    guest_svn: int
    tcb: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read 32 bytes.

        Raises:
            FormatError: another size, reserved bytes that are not zero, or an unknown selection.
        """
        r = Reader(data, "SNP key request")
        root = r.u32("root_key_select")
        r.zeros(4, "reserved")
        selected = r.u64("guest_field_select")
        if selected >= 1 << len(Selection):
            raise FormatError(f"SNP key request.guest_field_select: want 6 bits, got {selected:#x}")
        request = cls(
            root=root,
            selected=Selection(selected),
            vmpl=r.u32("vmpl"),
            guest_svn=r.u32("guest_svn"),
            tcb=r.take(8, "tcb_version"),
        )
        r.end()
        return request


def report_answer(report: bytes) -> bytes:
    """The firmware's answer with a report of 1184 bytes: 4000 bytes."""
    head = bytes(4) + snp_report.SIZE.to_bytes(4, "little") + bytes(24)
    return (head + report).ljust(REPORT_ANSWER_SIZE, b"\0")


def key_answer(key: bytes) -> bytes:
    """The firmware's answer with a derived key of 32 bytes: 64 bytes."""
    return bytes(32) + key


def refusal(status: int, size: int) -> bytes:
    """The firmware's answer that has only a status: ``size`` bytes."""
    return status.to_bytes(4, "little").ljust(size, b"\0")
