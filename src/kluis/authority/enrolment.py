"""A platform's certification request to another machine's authority, with proof of possession.

The request is a canonical JSON document, signed by the PCK over everything else in it. It names the root that
should certify the platform, so no other authority accepts it. It states its time, so it cannot be replayed
later.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.authority import issuing
from kluis.errors import AuthenticityError, FreshnessError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen
from kluis.hashes import sha256

WHAT: Final = "enrolment"
MAX_SIZE: Final = 4096
FRESH: Final = timedelta(minutes=10)
_DOMAIN: Final = b"kluis platform enrolment 1\0"


@frozen(kw_only=True)
class Enrolment:
    """A platform's certification request.

    Attributes:
        ppid: 16 bytes, identifies the platform.
        key: the public PCK, P-256, 65 bytes: 04, x and y.
        cpusvn: 16 bytes, one component SVN each.
        pcesvn: 0..65535.
        level: the protection level of the platform.
        root: SHA-256 of the root certificate (DER) that should certify it.
        made: time of the request, such as ``2026-01-31T00:00:00Z``.
    """

    ppid: bytes
    key: bytes
    cpusvn: bytes
    pcesvn: int
    level: str
    root: bytes
    made: str

    def sign(self, pck: ec.EllipticCurvePrivateKey) -> bytes:
        """The document, signed by the platform's PCK; canonical JSON."""
        statement = self._statement()
        signature = issuing.sign(pck, _DOMAIN + jcs.dumps(statement))
        return jcs.dumps({**statement, "signature": signature.hex()})

    @classmethod
    def open(cls, data: bytes, *, root: bytes, level: str, now: datetime) -> Self:
        """Parse a request and check that its sender has the key, and means this authority, now.

        Args:
            data: untrusted.
            root: SHA-256 of this authority's root certificate.
            level: of the platforms that this authority certifies.
            now: aware.

        Raises:
            FormatError: not a request.
            AuthenticityError: the key did not sign it, or it is for another root or another level.
            FreshnessError: it was made more than ten minutes from ``now``.
        """
        value = Members(jcs.loads_canonical(data, WHAT, max_size=MAX_SIZE), WHAT)
        value.version(1)
        enrolment = cls(
            ppid=value.hex("ppid", 16),
            key=value.hex("key", 65),
            cpusvn=value.hex("cpusvn", 16),
            pcesvn=value.integer("pcesvn", most=0xFFFF),
            level=value.text("level", limit=32),
            root=value.hex("root", 32),
            made=value.text("made", limit=32),
        )
        signature = value.hex("signature", 64)
        value.only((*enrolment._statement(), "signature"))
        made = value.time("made")
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enrolment.key)
            point.verify(
                _raw(signature), _DOMAIN + jcs.dumps(enrolment._statement()), ec.ECDSA(hashes.SHA256())
            )
        except (InvalidSignature, ValueError):
            raise AuthenticityError(f"{WHAT}: its key did not sign it", code="enrolment_signature") from None
        if enrolment.root != root:
            raise AuthenticityError(
                f"{WHAT}.root: want {root.hex()}, got {enrolment.root.hex()}",
                hint="name the root certificate of this service, as its owner gave it",
                code="enrolment_root",
            )
        if enrolment.level != level:
            raise AuthenticityError(
                f"{WHAT}.level: want {level}, got {enrolment.level}",
                hint="this service certifies platforms of one level only, which its root names",
                code="enrolment_level",
            )
        if abs(now - made) > FRESH:
            raise FreshnessError(
                f"{WHAT}.made: want a time within 10 minutes of {issuing.zulu(now)}, got {enrolment.made}",
                hint="set the clock, and ask again",
                code="enrolment_stale",
            )
        return enrolment

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public PCK."""
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.key)

    def _statement(self) -> dict[str, jcs.Writable]:
        return {
            "version": 1,
            "ppid": self.ppid.hex(),
            "key": self.key.hex(),
            "cpusvn": self.cpusvn.hex(),
            "pcesvn": self.pcesvn,
            "level": self.level,
            "root": self.root.hex(),
            "made": self.made,
        }


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public point of ``key``, P-256: 65 bytes, 04, x and y."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def name_of(key: bytes) -> str:
    """The name by which people compare a platform's key: 32 hex digits of the SHA-256 of its 65 bytes."""
    return sha256(key).hex()[:32]


def _raw(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
