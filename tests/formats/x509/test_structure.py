"""X.509's structures are distinguished by how they begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.formats.x509.structure import Structure, structure_of

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([])
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_structures() -> None:
    """A certificate, a revocation list and a public key; nothing else."""
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(KEY, hashes.SHA256())
    )
    crl = x509.CertificateRevocationListBuilder(NAME, NOW, NOW + timedelta(days=1)).sign(KEY, hashes.SHA256())
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert structure_of(certificate.public_bytes(Encoding.DER)) is Structure.CERTIFICATE
    assert structure_of(crl.public_bytes(Encoding.DER)) is Structure.CRL
    assert structure_of(spki) is Structure.PUBLIC_KEY
    for data in (b"", b"0", b"\x30\x00", b"\x30\x02\x30\x00", bytes.fromhex("300530030101ff")):
        assert structure_of(data) is None
