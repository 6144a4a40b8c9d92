"""Parse TPMS_ATTEST for a key that a TPM certifies as its own. Nothing here is verified. Big-endian.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPMS_ATTEST", "TPMS_CERTIFY_INFO".
"""

from __future__ import annotations

from typing import Final

from kluis.formats.tpm.attest import GENERATED, Clock, begin, encode_sized, read_sized
from kluis.frozen import frozen

WHAT: Final = "TPM certification"
CERTIFY: Final = 0x8017


@frozen(kw_only=True)
class Certification:
    """A parsed certification.

    Attributes:
        qualified_signer: the certifying key's qualified name, at most 66 bytes.
        extra_data: the verifier's data to sign, at most 66 bytes.
        clock: time of the certification, and the firmware version.
        name: of the certified key, at most 66 bytes.
        qualified_name: of the certified key, at most 66 bytes.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    name: bytes
    qualified_name: bytes

    def encode(self) -> bytes:
        """Write the TPMS_ATTEST."""
        return b"".join(
            (
                GENERATED.to_bytes(4, "big"),
                CERTIFY.to_bytes(2, "big"),
                encode_sized(self.qualified_signer),
                encode_sized(self.extra_data),
                self.clock.encode(),
                encode_sized(self.name),
                encode_sized(self.qualified_name),
            )
        )


def parse(data: bytes) -> Certification:
    """Parse one certification; no bytes may follow it.

    Args:
        data: at most 1 KiB.

    Raises:
        UnsupportedError: another kind of attestation.
        FormatError: not made by a TPM (code ``bad_magic``), or malformed.
    """
    r, begun = begin(data, WHAT, CERTIFY)
    name, qualified = read_sized(r, "name", 66), read_sized(r, "qualified_name", 66)
    r.end()
    return Certification(**begun._asdict(), name=name, qualified_name=qualified)
