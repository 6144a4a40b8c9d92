"""Read the purposes of a key from a TPM's certificate. Nothing here is verified.

Spec: TCG "EK Credential Profile", "Extended Key Usage".
"""

from __future__ import annotations

from typing import Final

from kluis.formats.x509.extended_usage import read_usages

EK_CERTIFICATE: Final = "2.23.133.8.1"
AK_CERTIFICATE: Final = "2.23.133.8.3"


def parse_usages(data: bytes, what: str) -> tuple[str, ...]:
    """Parse an extended key usage; purposes that are not a TPM's are left out.

    Raises:
        FormatError: as for :func:`kluis.formats.x509.extended_usage.read_usages`.
    """
    return tuple(each for each in read_usages(data, what) if each in (EK_CERTIFICATE, AK_CERTIFICATE))
