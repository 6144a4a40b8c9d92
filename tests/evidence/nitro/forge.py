"""A forger with a test Nitro PKI: documents with a single fault chosen by the test."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.evidence import Claims, ProtectionLevel, TrustAnchors, verify
from tests.evidence.usages import usage

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
ROLES = ("root", "regional", "zonal", "instance", "leaf")
LIVES = {"root": 9000, "regional": 20, "zonal": 6, "instance": 1, "leaf": 0}
INSTANCE = "i-0123456789abcdef0"
MODULE = f"{INSTANCE}-enc0123456789abcdef"
PCRS = {i: hashlib.sha384(b"%d" % i).digest() if i < 4 else bytes(48) for i in range(16)}
PCRS[4] = hashlib.sha384(bytes(48) + INSTANCE.encode()).digest()
PROTECTED = bytes.fromhex("a1013822")


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key on P-384."""
    return ec.generate_private_key(ec.SECP384R1())


def der(certificate: x509.Certificate) -> bytes:
    """Its bytes."""
    return certificate.public_bytes(Encoding.DER)


def pem(certificate: x509.Certificate) -> bytes:
    """Its text."""
    return certificate.public_bytes(Encoding.PEM)


class Forge:
    """Five keys, and the certificates over them."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.keys = {role: new_key() for role in ROLES}
        self.certificates = {role: self.issue(role) for role in ROLES}
        self.anchors = TrustAnchors.from_pem(pem(self.certificates["root"]), ProtectionLevel.HARDWARE_NITRO)

    def issue(self, role: str, **changes: Any) -> x509.Certificate:
        """The certificate of a role, with what is said of it changed."""
        index = ROLES.index(role)
        authority = ROLES[max(index - 1, 0)]
        leaf = role == "leaf"
        said: dict[str, Any] = {
            "subject": "aws.nitro-enclaves" if role == "root" else f"{role}.aws.nitro-enclaves",
            "issuer": "aws.nitro-enclaves" if index < 2 else f"{authority}.aws.nitro-enclaves",
            "key": self.keys[role].public_key(),
            "signer": self.keys[authority],
            "hash": hashes.SHA384(),
            "start": self.now - timedelta(hours=1),
            "end": self.now + (timedelta(hours=2) if leaf else timedelta(days=LIVES[role])),
            "ca": not leaf,
            "path_length": None if role in ("root", "leaf") else 3 - index,
            "usage": {"digital_signature"} if leaf else {"key_cert_sign", "crl_sign"},
            **changes,
        }
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(said["subject"]))
            .issuer_name(_name(said["issuer"]))
            .public_key(said["key"])
            .serial_number(1000 + index)
            .not_valid_before(said["start"])
            .not_valid_after(said["end"])
            .add_extension(x509.BasicConstraints(said["ca"], said["path_length"]), critical=True)
        )
        if said["usage"] is not None:
            made = made.add_extension(usage(*said["usage"]), critical=True)
        return made.sign(said["signer"], said["hash"])

    def fields(self, **changes: Any) -> dict[str, Any]:
        """The payload's entries, with some changed; those set to ``...`` are left out."""
        chain = [der(self.certificates[role]) for role in ROLES]
        good: dict[str, Any] = {
            "module_id": MODULE,
            "digest": "SHA384",
            "timestamp": int(self.now.timestamp() * 1000),
            "pcrs": PCRS,
            "certificate": chain[-1],
            "cabundle": chain[:-1],
            "public_key": b"public key",
            "user_data": b"user data",
            "nonce": b"nonce",
        }
        return {key: value for key, value in {**good, **changes}.items() if value is not ...}

    def with_certificates(self, **roles: x509.Certificate) -> bytes:
        """A good document, but for the certificates of some roles."""
        chain = [der(roles.get(role, self.certificates[role])) for role in ROLES]
        return self.document(certificate=chain[-1], cabundle=chain[:-1])

    def document(self, **changes: Any) -> bytes:
        """A signed document, with entries of its payload changed."""
        return self.signed(cbor2.dumps(self.fields(**changes)))

    def signed(
        self,
        payload: bytes,
        *,
        protected: bytes = PROTECTED,
        unprotected: dict[Any, Any] | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        tag: int | None = None,
    ) -> bytes:
        """A COSE_Sign1 over ``payload``, by the leaf's key."""
        signer = key or self.keys["leaf"]
        structure = cbor2.dumps(["Signature1", protected, b"", payload])
        r, s = decode_dss_signature(signer.sign(structure, ec.ECDSA(hashes.SHA384())))
        parts = [protected, unprotected or {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")]
        return cbor2.dumps(parts if tag is None else cbor2.CBORTag(tag, parts))

    def verify(self, document: bytes | None = None, **other: Any) -> Claims:
        """Verify, by default with everything good."""
        given = {"anchors": self.anchors, "now": self.now, "collateral": None, **other}
        return verify(document or self.document(), **given).value


def _name(common_name: str) -> x509.Name:
    attributes = {x509.NameOID.ORGANIZATION_NAME: "Amazon", x509.NameOID.COMMON_NAME: common_name}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])
