"""Parse SEV-SNP attestation reports and write them back. Nothing here is verified.

Spec: AMD 56860, SEV-SNP Firmware ABI, table "ATTESTATION_REPORT Structure", versions 2 to 5.
Integers are little-endian, and so are the two halves of the signature.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding.layout import U8, U32, U64, Struct, at, layout

SIZE: Final = 0x4A0
SIGNED_SIZE: Final = 0x2A0
ECDSA_P384: Final = 1
HOST_VMPL: Final = 0xFFFFFFFF


class Cpuid(NamedTuple):
    """The processor: combined family and model, and stepping; 0..255 each."""

    family: int
    model: int
    stepping: int


class FirmwareVersion(NamedTuple):
    """Version of the secure processor's SNP firmware, which can be compared: 0..255 each."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"


@layout("SNP report v2", SIZE)
class Report(Struct):
    """A version 2 report; later versions claim bytes that version 2 reserves.

    TCB versions remain 8 bytes here: their layout depends on the product, which only the chain states.
    """

    version: int = at(0x000, U32)
    guest_svn: int = at(0x004, U32)
    policy: int = at(0x008, U64)
    family_id: bytes = at(0x010, 16)
    image_id: bytes = at(0x020, 16)
    vmpl: int = at(0x030, U32)
    signature_algo: int = at(0x034, U32)
    current_tcb: bytes = at(0x038, 8)
    platform_info: int = at(0x040, U64)
    flags: int = at(0x048, U32)
    report_data: bytes = at(0x050, 64)
    measurement: bytes = at(0x090, 48)
    host_data: bytes = at(0x0C0, 32)
    id_key_digest: bytes = at(0x0E0, 48)
    author_key_digest: bytes = at(0x110, 48)
    report_id: bytes = at(0x140, 32)
    report_id_ma: bytes = at(0x160, 32)
    reported_tcb: bytes = at(0x180, 8)
    chip_id: bytes = at(0x1A0, 64)
    committed_tcb: bytes = at(0x1E0, 8)
    current_build: int = at(0x1E8, U8)
    current_minor: int = at(0x1E9, U8)
    current_major: int = at(0x1EA, U8)
    committed_build: int = at(0x1EC, U8)
    committed_minor: int = at(0x1ED, U8)
    committed_major: int = at(0x1EE, U8)
    launch_tcb: bytes = at(0x1F0, 8)
    r: bytes = at(0x2A0, 48)
    s: bytes = at(0x2E8, 48)

    @property
    def cpuid(self) -> Cpuid | None:
        """The processor, from version 3 on."""
        return None

    @property
    def launch_mitigations(self) -> int | None:
        """Mitigations in force at launch, 64 bits, from version 5 on."""
        return None

    @property
    def current_mitigations(self) -> int | None:
        """Mitigations in force now, 64 bits, from version 5 on."""
        return None

    @property
    def current_version(self) -> FirmwareVersion:
        """The version of the running firmware."""
        return FirmwareVersion(self.current_major, self.current_minor, self.current_build)

    @property
    def committed_version(self) -> FirmwareVersion:
        """The firmware version that cannot be rolled back."""
        return FirmwareVersion(self.committed_major, self.committed_minor, self.committed_build)

    @property
    def signature(self) -> bytes:
        """The signature in the usual byte order: r and s, 48 bytes each, big-endian."""
        return self.r[::-1] + self.s[::-1]


@layout("SNP report v3", SIZE)
class ReportV3(Report):
    """Version 3 adds the CPUID family, model and stepping."""

    cpuid_family: int = at(0x188, U8)
    cpuid_model: int = at(0x189, U8)
    cpuid_stepping: int = at(0x18A, U8)

    @property
    def cpuid(self) -> Cpuid | None:
        """The processor."""
        return Cpuid(self.cpuid_family, self.cpuid_model, self.cpuid_stepping)


@layout("SNP report v4", SIZE)
class ReportV4(ReportV3):
    """Version 4 has version 3's fields."""


@layout("SNP report v5", SIZE)
class ReportV5(ReportV4):
    """Version 5 adds the mitigation vectors."""

    launch_mit_vector: int = at(0x1F8, U64)
    current_mit_vector: int = at(0x200, U64)

    @property
    def launch_mitigations(self) -> int | None:
        """Mitigations in force at launch, 64 bits."""
        return self.launch_mit_vector

    @property
    def current_mitigations(self) -> int | None:
        """Mitigations in force now, 64 bits."""
        return self.current_mit_vector


VERSIONS: Final[dict[int, type[Report]]] = {2: Report, 3: ReportV3, 4: ReportV4, 5: ReportV5}


def parse(data: bytes, *, base: int = 0) -> Report:
    """Parse one report of exactly 1184 bytes.

    Args:
        data: the report; the signature covers its first 0x2A0 bytes.
        base: offset of ``data`` in what the caller reads, for messages.

    Raises:
        UnsupportedError: another version, or a signature algorithm other than ECDSA P-384.
        FormatError: another length, or a byte that is reserved or pads the signature is not zero.
    """
    version = version_of(data, base=base)
    kind = VERSIONS.get(version)
    if kind is None:
        raise UnsupportedError(f"SNP report version {version}; supported: {[*VERSIONS]}", code="bad_version")
    report = kind.parse(data, base=base)
    if report.signature_algo != ECDSA_P384:
        raise UnsupportedError(
            f"{report.NAME}.signature_algo at {base + 0x34:#x}: "
            f"want {ECDSA_P384}, ECDSA P-384 with SHA-384, got {report.signature_algo}",
            code="bad_type",
        )
    return report


def version_of(data: bytes, *, base: int = 0) -> int:
    """Read only the version.

    Raises:
        FormatError: fewer than 4 bytes.
    """
    if len(data) < 4:
        raise FormatError(
            f"SNP report at {base:#x}: is {len(data)} bytes, must be {SIZE}",
            hint="the file may be cut short",
            code="truncated",
        )
    return int.from_bytes(data[:4], "little")
