"""A forger of CCA tokens with a test platform key: only what a test names is wrong."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.evidence import CcaEndorsements, Claims, ProtectionLevel, TrustAnchors, verify

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
IMPLEMENTATION = bytes(range(32))
INSTANCE = b"\x01" + bytes(range(32, 64))
LEGACY = "http://arm.com/CCA-SSD/1.0.0"
PLATFORM = "tag:arm.com,2023:cca_platform#1.0.0"
REALM = "tag:arm.com,2023:realm#1.0.0"
# The claims of the latest generation in addition to the common ones.
NEW_PLATFORM = {"c265": "tag:arm.com,2024:cca_platform#2.0.0", "c2394": 1}
NEW_REALM = {"c265": "tag:arm.com,2024:realm#2.0.0", "c44243": "private", "c256": b"\x01" + b"r" * 32}
ALGORITHMS = {"secp256r1": (-7, hashes.SHA256(), 32), "secp384r1": (-35, hashes.SHA384(), 48)}


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """A key, on P-384 unless another curve is named."""
    return ec.generate_private_key(curve or ec.SECP384R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER of the public key."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PEM of the public key."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Its uncompressed point."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def cose_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """It as a COSE_Key."""
    raw = point(key)[1:]
    size = len(raw) // 2
    return cbor2.dumps({1: 2, -1: {32: 1, 48: 2}[size], -2: raw[:size], -3: raw[size:]})


def signed(payload: bytes, key: ec.EllipticCurvePrivateKey, **changes: Any) -> bytes:
    """A COSE_Sign1 by the algorithm of the key's curve, with headers or tag changed."""
    algorithm, hash_of, size = ALGORITHMS[key.curve.name]
    protected = cbor2.dumps(changes.get("protected", {1: algorithm}))
    structure = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(key.sign(structure, ec.ECDSA(hash_of)))
    signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    parts = [protected, changes.get("unprotected", {}), payload, changes.get("signature", signature)]
    return cbor2.dumps(cbor2.CBORTag(18, parts))


class Forge:
    """A platform's key and a realm's, and tokens by both.

    Args:
        curve: of the platform's key.
        legacy: of the generation before profiles.
    """

    def __init__(self, curve: ec.EllipticCurve | None = None, *, legacy: bool = False) -> None:
        self.cpak, self.rak = new_key(curve), new_key()
        self.legacy = legacy
        self.anchors = TrustAnchors.from_pem(pem(self.cpak), ProtectionLevel.HARDWARE_CCA)
        self.endorsements = CcaEndorsements(
            cpak=pem(self.cpak), implementation_id=IMPLEMENTATION, instance_id=INSTANCE
        )

    def realm_key(self) -> bytes:
        """The realm's key as its claims carry it."""
        return point(self.rak) if self.legacy else cose_key(self.rak)

    def realm_claims(self, **changes: Any) -> dict[Any, Any]:
        """The realm's claims by number, ``c10`` and so on, with some changed; ``...`` leaves one out."""
        good = {
            "c265": ... if self.legacy else REALM,
            "c10": b"c" * 64,
            "c44235": b"p" * 64,
            "c44236": "sha-256",
            "c44237": self.realm_key(),
            "c44238": b"m" * 32,
            "c44239": [bytes((index,)) * 32 for index in range(4)],
            "c44240": "sha-256",
        }
        return _numbered({**good, **changes})

    def platform_claims(self, **changes: Any) -> dict[Any, Any]:
        """The platform's claims, likewise."""
        component = {1: "BL", 2: b"f" * 32, 4: "1.2", 5: b"s" * 32, 6: "sha-256"}
        good = {
            "c265": LEGACY if self.legacy else PLATFORM,
            "c10": hashlib.sha256(self.realm_key()).digest(),
            "c2396": IMPLEMENTATION,
            "c256": INSTANCE,
            "c2401": b"config",
            "c2395": 0x3003,
            "c2399": [component, {2: b"g" * 48, 5: b"t" * 64}],
            "c2400": "https://verify.example",
            "c2402": "sha-256",
        }
        return _numbered({**good, **changes})

    def realm(self, claims: dict[Any, Any] | None = None, **changes: Any) -> bytes:
        """The realm's part, by the realm's key or another."""
        key = changes.pop("key", self.rak)
        return signed(cbor2.dumps(claims or self.realm_claims()), key, **changes)

    def platform(self, claims: dict[Any, Any] | None = None, **changes: Any) -> bytes:
        """The platform's part, by the platform's key or another."""
        key = changes.pop("key", self.cpak)
        return signed(cbor2.dumps(claims or self.platform_claims()), key, **changes)

    def token(self, *, realm: bytes | None = None, platform: bytes | None = None, tag: int = 399) -> bytes:
        """A token, with a part replaced, or as a collection of messages (tag 907)."""
        parts: dict[int, Any] = {44234: platform or self.platform(), 44241: realm or self.realm()}
        if tag == 907:
            parts = {key: [263, part] for key, part in parts.items()}
        return cbor2.dumps(cbor2.CBORTag(tag, parts))

    def verify(self, token: bytes | None = None, **other: Any) -> Claims:
        """Verify, by default with everything good."""
        given = {"anchors": self.anchors, "now": NOW, "collateral": self.endorsements, **other}
        return verify(token or self.token(), **given).value


def _numbered(claims: dict[str, Any]) -> dict[Any, Any]:
    return {int(name[1:]): value for name, value in claims.items() if value is not ...}
