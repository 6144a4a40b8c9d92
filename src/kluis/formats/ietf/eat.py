"""Entity Attestation Tokens (EAT): the claims that profiles share, by CBOR number.

An EAT is a CWT whose claims describe an entity. Each profile specifies the claims and their sizes. A token
with an unknown profile is refused, because the profile defines what a claim means.

Spec: RFC 9711, "Claims Characterising an Entity"; RFC 8392, "Claims Registry"; RFC 9999, "cmw" claim.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding.entries import Entries, Sizes

# Claims of every CWT.
ISSUER: Final = 1
SUBJECT: Final = 2
AUDIENCE: Final = 3
EXPIRATION: Final = 4
NOT_BEFORE: Final = 5
ISSUED_AT: Final = 6
TOKEN_ID: Final = 7
# Claims of EATs.
NONCE: Final = 10
UEID: Final = 256
PROFILE: Final = 265
SUBMODULES: Final = 266
MEASUREMENTS: Final = 273
CMW: Final = 299

MAX_PROFILE: Final = 256
UEID_RANDOM: Final = 0x01
UEID_SIZE: Final = 33


def nonce(claims: Entries, sizes: Sizes = range(8, 65)) -> bytes:
    """Read the one nonce.

    Raises:
        FormatError: no nonce, several, or one of another size.
    """
    return claims.octets(NONCE, sizes)


def random_ueid(claims: Entries) -> bytes:
    """Read the UEID of type RAND: 0x01 and 32 bytes.

    Raises:
        FormatError: no UEID, or one of another type or size.
    """
    value = claims.octets(UEID, (UEID_SIZE,))
    if value[0] != UEID_RANDOM:
        raise FormatError(
            f"{claims.what}.ueid: want type {UEID_RANDOM:#04x}, got {value[0]:#04x}", code="bad_type"
        )
    return value


def profile(claims: Entries) -> str | None:
    """Read the profile's name; None if the token has none.

    Raises:
        FormatError: not text of 1 to 256 characters.
    """
    return claims.text_or_none(PROFILE, limit=MAX_PROFILE)
