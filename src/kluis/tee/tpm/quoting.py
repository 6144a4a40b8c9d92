"""Quote a TPM's PCRs, with the values that the quote signs and the firmware's event log."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.formats.tpm import attest, pcrs
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Selection
from kluis.frozen import frozen
from kluis.tee.tpm.tpm import Tpm

EVENT_LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
MAX_LOG: Final = 40 * 1024
"""A larger one does not fit into an endorsement."""
QUOTED: Final = tuple(range(16))
"""The PCRs that only a reset of the machine resets, except 16, for which debuggers exist."""
_TRIES: Final = 16
_REPORT_DATA: Final = 64
NONCE: Final = 32


@frozen
class Quoted:
    """A quote.

    Attributes:
        message: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        pcrs: the quoted values, JSON as in :mod:`kluis.formats.tpm.pcrs`.
    """

    message: bytes
    signature: bytes
    pcrs: bytes

    def parts(self) -> dict[str, bytes]:
        """The parts of an endorsement: ``quote``, ``signature`` and ``pcrs``."""
        return {"quote": self.message, "signature": self.signature, "pcrs": self.pcrs}


def nonce_of(report_data: bytes) -> bytes:
    """The 32 bytes that a TPM signs for 64 bytes of report data: all but the zeros at the end.

    A TPM without SHA-512 signs less than 64 bytes.

    Raises:
        UsageError: other sizes, or the last 32 bytes are not zeros.
    """
    if len(report_data) != _REPORT_DATA or any(report_data[NONCE:]):
        raise UsageError("report data: want 64 bytes, the last 32 of them zeros")
    return report_data[:NONCE]


def quote(tpm: Tpm, key: int, nonce: bytes, indices: tuple[int, ...] = QUOTED) -> Quoted:
    """Quote the bank of SHA-256 with the attestation key ``key``, and read the same values.

    Args:
        tpm: to quote.
        key: handle of the key.
        nonce: at most 32 bytes.
        indices: of the PCRs.

    Raises:
        UnavailableError: the TPM refuses, or PCRs keep changing while they are read.
        FormatError: a response is malformed, or a quote of something else.
    """
    selected = Selection.of(HashId.SHA256, *indices)
    for _ in range(_TRIES):
        values = tpm.pcrs(indices)
        message, signed = tpm.quote(key, nonce, selected)
        attested = attest.parse(message)
        if attested.extra_data != nonce or [each.indices for each in attested.selections] != [
            selected.indices
        ]:
            raise FormatError("TPM quote: is of another nonce or of other PCRs", code="bad_encoding")
        if attested.pcr_digest == hashlib.new(signed.hash.label, b"".join(values.values())).digest():
            return Quoted(message, signed.encode(), pcrs.dumps({HashId.SHA256: values}))
    raise UnavailableError("TPM: PCRs change while they are quoted", code="tpm_policy")


def event_log(path: Path = EVENT_LOG) -> bytes | None:
    """Read the firmware's event log; None if the kernel has none, or it has more than 40 KiB.

    Without it a verifier compares the PCRs themselves.

    Raises:
        UnavailableError: it exists, and cannot be read.
    """
    try:
        with path.open("rb") as log:
            data = log.read(MAX_LOG + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"event log {path}: {error.strerror}", hint="run it as root") from None
    return data if 0 < len(data) <= MAX_LOG else None
