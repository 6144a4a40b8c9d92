"""Verify a TPM quote under a vendor's certificates, compared with the public-key operations that it needs.

Vendors' roots are on P-384 and attestation keys are RSA: so are these, which are made here for one run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import NameOID, ObjectIdentifier

from bench.harness import Harness, Row, duration, timed
from kluis.evidence import ProtectionLevel, TpmEndorsements, TrustAnchors, Verifier, verify
from kluis.formats.ietf import cmw
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import RSASSA, HashId
from kluis.formats.tpm.attest import Clock, Quote, Selection
from kluis.formats.tpm.signature import RsaSignature

TIMES = 10
ROUNDS = 151
NOW = datetime.now(UTC)
AK_CERTIFICATE = ObjectIdentifier("2.23.133.8.3")


def rows(take: Harness) -> list[Row]:
    """One row: nothing held; an additional figure is what a held key saves."""
    root, ca, ak = _curve(), _curve(), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificates = (
        _certificate("AK", ak, "CA", ca, ca_length=None),
        _certificate("CA", ca, "Root", root, ca_length=0),
        _certificate("Root", root, "Root", root, ca_length=1),
    )
    collateral = TpmEndorsements(
        certificate=certificates[0].public_bytes(Encoding.DER),
        chain=b"".join(each.public_bytes(Encoding.PEM) for each in certificates[1:]),
    )
    anchors = TrustAnchors.from_pem(certificates[2].public_bytes(Encoding.PEM), ProtectionLevel.VTPM)
    evidence, message, signature = _quote(ak)
    named = TrustAnchors.from_pem(
        ak.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), ProtectionLevel.VTPM
    )
    held = Verifier(named)

    def ours() -> None:
        for _ in range(TIMES):
            verify(evidence, anchors=anchors, collateral=collateral, now=NOW)

    def ours_held() -> None:
        for _ in range(TIMES):
            held.verify(evidence, collateral=None, now=NOW)

    theirs = _alone(certificates, message, signature)
    one = load_der_public_key(_spki(ak))
    assert isinstance(one, rsa.RSAPublicKey)

    def also() -> dict[str, str]:
        alone = min(timed(lambda: _check(one, signature, message)) for _ in range(ROUNDS))
        mine = min(timed(ours_held) / TIMES for _ in range(ROUNDS))
        return {"key named and held": f"{duration(mine)}, of them {duration(alone)} for one RSA-2048 check"}

    return [
        take.compare(
            "tpm quote of 24 PCRs, AK certificate chain on P-384, nothing held",
            "its keys loaded and its 3 signatures checked by cryptography",
            1.5,
            ours=lambda: timed(ours) / TIMES,
            theirs=lambda: timed(theirs) / TIMES,
            rounds=ROUNDS,
            also=also,
        )
    ]


def _curve() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _spki(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: str, key: Any, issuer: str, signer: ec.EllipticCurvePrivateKey, *, ca_length: int | None
) -> x509.Certificate:
    ca = ca_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=ca_length), critical=True)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([AK_CERTIFICATE]), critical=False)
    return builder.sign(signer, hashes.SHA384())


def _quote(ak: rsa.RSAPrivateKey) -> tuple[bytes, bytes, bytes]:
    """The evidence, and which part of it each signature covers."""
    values = {HashId.SHA256: {index: bytes([index]) * 32 for index in range(24)}}
    message = Quote(
        qualified_signer=b"\x00\x0b" + bytes(32),
        extra_data=bytes(32),
        clock=Clock(milliseconds=1, reset_count=1, restart_count=0, safe=1, firmware_version=1),
        selections=(Selection.of(HashId.SHA256, *range(24)),),
        pcr_digest=hashlib.sha256(b"".join(values[HashId.SHA256].values())).digest(),
    ).encode()
    signature = ak.sign(message, padding.PKCS1v15(), hashes.SHA256())
    parts = {
        "tpm_quote": message,
        "tpm_signature": RsaSignature(RSASSA, HashId.SHA256, signature).encode(),
        "pcrs": pcrs.dumps(values),
    }
    collection = cmw.Collection({name: cmw.Part(cmw.OCTETS, value) for name, value in parts.items()})
    return collection.encode(), message, signature


def _check(key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> None:
    key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def _alone(
    certificates: tuple[x509.Certificate, ...], message: bytes, signature: bytes
) -> Callable[[], None]:
    """The same three signatures by the same keys, which are loaded each time as a cold verifier must."""
    links = [(each.signature, each.tbs_certificate_bytes) for each in certificates[:2]]
    leaf, ca, root = (
        each.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for each in certificates
    )
    algorithm = ec.ECDSA(hashes.SHA384())

    def work() -> None:
        for _ in range(TIMES):
            for spki, link in zip((ca, root), links, strict=True):
                issuer = load_der_public_key(spki)
                assert isinstance(issuer, ec.EllipticCurvePublicKey)
                issuer.verify(*link, algorithm)
            key = load_der_public_key(leaf)
            assert isinstance(key, rsa.RSAPublicKey)
            _check(key, signature, message)

    return work
