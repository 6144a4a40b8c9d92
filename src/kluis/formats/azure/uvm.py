"""Parse the endorsements of utility VMs that Azure's confidential containers carry. Nothing here is verified.

An endorsement is a COSE_Sign1 over a launch digest. Older ones have ``iss`` and ``feed`` in the protected
header and a JSON payload. Newer ones have CWT claims (issuer, subject, ``svn``), and the payload is the
digest itself.

Spec: RFC 9360, "x5chain"; RFC 9597, "CWT Claims in COSE headers"; draft-ietf-cose-hash-envelope, labels 258
and 259; microsoft/did-x509, "did:x509 Method Specification"; CCF, "UVM endorsements", for the older form.
"""

from __future__ import annotations

import re
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.entries import Entries
from kluis.formats.encoding.members import Members
from kluis.formats.ietf.cose import ALGORITHM, Sign1
from kluis.formats.x509 import Scheme
from kluis.frozen import frozen

WHAT: Final = "UVM endorsement"
MAX_SIZE: Final = 64 * 1024
MAX_CHAIN: Final = 8
MAX_SVN: Final = (1 << 32) - 1
MEASUREMENT: Final = 48
SCHEMES: Final = {-35: Scheme.ES384, -38: Scheme.PS384}
# COSE: content type, x5chain, CWT claims, payload hash algorithm (-43 is SHA-384); CWT: issuer, subject.
CONTENT_TYPE, CHAIN, CWT, HASHED = 3, 33, 15, 258
ISSUER, SUBJECT = 1, 2
SHA384: Final = -43
_DATE: Final = 1
_NAMES: Final = {1: "alg", 3: "content_type", 15: "cwt", 33: "x5chain", 258: "payload_hash"}
_CWT_NAMES: Final = {1: "iss", 2: "sub"}
_GUEST_SVN: Final = "x-ms-sevsnpvm-guestsvn"
_MEASUREMENT: Final = "x-ms-sevsnpvm-launchmeasurement"
_DID: Final = re.compile(r"did:x509:0:sha256:([A-Za-z0-9_-]{43})::eku:([0-9.]{3,128})", re.ASCII)


@frozen(kw_only=True)
class Endorsement:
    """A parsed endorsement.

    Attributes:
        issuer: the did:x509 of the signer.
        feed: the product line.
        svn: security version of the product, 0 to 2^32-1.
        measurement: launch measurement of the utility VM, 48 bytes.
        chain: certificates in DER; the signer's first, then the issuer of each.
        scheme: the signature scheme.
        signed: the bytes that the signature covers.
        signature: in COSE's encoding.
    """

    issuer: str
    feed: str
    svn: int
    measurement: bytes
    chain: tuple[bytes, ...]
    scheme: Scheme
    signed: bytes
    signature: bytes


@frozen
class Did:
    """A did:x509 that requires one extended key usage.

    Attributes:
        fingerprint: base64url of the SHA-256 of a certificate above the signer's in the chain.
        usage: the extended key usage that the signer's certificate must have, dotted.
    """

    fingerprint: str
    usage: str


def parse(data: bytes) -> Endorsement:
    """Parse one endorsement.

    Raises:
        UnsupportedError: another signature algorithm or payload type.
        FormatError: not an endorsement.
    """
    message = Sign1.parse(data, WHAT, max_size=MAX_SIZE, tags=(_DATE,))
    headers = Entries(dict(message.headers), f"{WHAT}.protected", _NAMES)
    algorithm = headers.integer(ALGORITHM, least=-(1 << 32), most=1 << 32)
    scheme = SCHEMES.get(algorithm)
    if scheme is None:
        raise UnsupportedError(f"{WHAT}.alg: want one of {sorted(SCHEMES)}, got {algorithm}", code="bad_type")
    chain = headers.octets_array(CHAIN, range(1, 16 * 1024), least=2, most=MAX_CHAIN)
    if CWT in headers:
        cwt = Entries(headers.map(CWT, least=1, most=16), f"{WHAT}.cwt", _CWT_NAMES)
        issuer, feed = cwt.text(ISSUER, limit=1024), cwt.text(SUBJECT, limit=256)
        svn = cwt.integer("svn", most=MAX_SVN)
        if headers.integer(HASHED, least=-(1 << 32), most=1 << 32) != SHA384:
            raise UnsupportedError(f"{WHAT}.payload_hash: want {SHA384}, SHA-384", code="bad_type")
        measurement = message.payload
    else:
        issuer, feed = headers.text("iss", limit=1024), headers.text("feed", limit=256)
        if headers.text(CONTENT_TYPE, limit=64) != "application/json":
            raise UnsupportedError(f"{WHAT}.content_type: want application/json", code="bad_type")
        svn, measurement = _payload(message.payload)
    if len(measurement) != MEASUREMENT:
        raise FormatError(
            f"{WHAT}: want a launch digest of {MEASUREMENT} bytes, got {len(measurement)}", code="bad_length"
        )
    return Endorsement(
        issuer=issuer,
        feed=feed,
        svn=svn,
        measurement=measurement,
        chain=chain,
        scheme=scheme,
        signed=message.signed_bytes(),
        signature=message.signature,
    )


def parse_did(text: str) -> Did:
    """Parse a did:x509 of version 0 and SHA-256 that requires one extended key usage.

    Raises:
        UnsupportedError: any other did:x509.
    """
    match = _DID.fullmatch(text)
    if match is None:
        raise UnsupportedError(
            f"{WHAT}: want an issuer did:x509:0:sha256:..::eku:.., got {text[:40]!a}", code="bad_type"
        )
    return Did(match[1], match[2])


def _payload(data: bytes) -> tuple[int, bytes]:
    members = Members(jcs.loads(data, f"{WHAT}.payload", max_size=4096, max_depth=2), f"{WHAT}.payload")
    number, text = members.text(_GUEST_SVN, limit=10), members.text(_MEASUREMENT, limit=2 * MEASUREMENT)
    if not number.isascii() or not number.isdigit() or int(number) > MAX_SVN:
        raise FormatError(f"{WHAT}.payload.{_GUEST_SVN}: want a number, got {number!a}", code="bad_encoding")
    try:
        return int(number), bytes.fromhex(text)
    except ValueError:
        raise FormatError(f"{WHAT}.payload.{_MEASUREMENT}: is not hex", code="bad_encoding") from None
