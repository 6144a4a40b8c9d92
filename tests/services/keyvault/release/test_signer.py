"""The key that signs releases: its certificate is its issuer's or self-signed, with evidence."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kluis.errors import FormatError, KluisError, UsageError
from kluis.formats.encoding import b64
from kluis.formats.kluis.vouched import QUOTE_OID
from kluis.hashes import sha256
from kluis.services.keyvault.release.signer import Signer
from tests.odd_certificates import of_odd_version
from tests.services.keyvault.world import OTHER_KEY, certificate, thumbprint
from tests.services.web.issuer import NOW

NAME = bytes(32)


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    def __call__(self, request: bytes) -> bytes:
        """A chain for a request."""
        asked = x509.load_pem_x509_csr(request)
        assert asked.is_signature_valid
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        made = x509.CertificateBuilder().subject_name(asked.subject).issuer_name(name)
        made = made.public_key(asked.public_key()).serial_number(5).not_valid_before(NOW)
        leaf = made.not_valid_after(NOW + timedelta(days=1)).sign(self.key, hashes.SHA256())
        return leaf.public_bytes(Encoding.PEM) * 2


class Quoted:
    """Evidence, of nothing."""

    quote, runtime_data, launch_configuration = b"quote", b"{}", b"{}"


def signed(signer: Signer, jws: str) -> tuple[dict[str, Any], Any]:
    """Header and payload, once the leaf's key has been seen to have signed them."""
    head, body, signature = jws.split(".")
    leaf = x509.load_der_x509_certificate(signer.chain[0]).public_key()
    assert isinstance(leaf, rsa.RSAPublicKey)
    leaf.verify(
        b64.decode_url(signature, "s"), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    return json.loads(b64.decode_url(head, "h")), json.loads(b64.decode_url(body, "b"))


def test_header_is_azures() -> None:
    """The header names the leaf in every way that Azure's does."""
    signer = Signer(Authority(), lambda _: None, NOW, NAME)
    leaf = signer.chain[0]
    header, payload = signed(signer, signer.sign({"a": 1}))
    assert header == {
        "alg": "RS256",
        "kid": thumbprint(leaf),
        "typ": "JWT",
        "x5t": b64.encode_url(bytes.fromhex(thumbprint(leaf))),
        "x5t#S256": b64.encode_url(sha256(leaf)),
        "x5c": [b64.encode(each) for each in signer.chain],
        "x-kluis-vault": NAME.hex(),
        "x-kluis-certificate": b64.encode(signer.own),
    }
    assert payload == {"a": 1}
    assert len(signer.chain) == 2
    assert repr(signer) == "Signer()"


def test_a_statement_is_no_release() -> None:
    """A statement about a key has a different type."""
    signer = Signer(None, lambda _: None, NOW, NAME)
    assert signed(signer, signer.state({}))[0]["typ"] == "kluis-key+jwt"


def test_evidence_beside() -> None:
    """The self-made certificate carries the enclave's evidence, and is of the key that signs."""
    signer = Signer(Authority(), lambda _: Quoted(), NOW, NAME)
    own = x509.load_der_x509_certificate(signer.own)
    assert own.extensions.get_extension_for_oid(x509.ObjectIdentifier(QUOTE_OID)).value.value == b"quote"
    assert own.public_key() == x509.load_der_x509_certificate(signer.chain[0]).public_key()
    alone = Signer(None, lambda _: Quoted(), NOW, NAME)
    assert alone.chain == (alone.own,)


def pem(der: bytes) -> bytes:
    """PEM of a certificate."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("chain", "kind", "message"),
    [
        (b"", FormatError, "certificate chain: want PEM certificates, this key's first"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", FormatError,
         "certificate chain: want PEM certificates, this key's first"),
        (of_odd_version(pem(certificate(OTHER_KEY)).decode()).encode(), FormatError,
         "certificate chain: want PEM certificates, this key's first"),
        (b" " * 70_000, FormatError, "certificate chain: want at most 65536 bytes, got 70000"),
        (pem(certificate(OTHER_KEY)), UsageError,
         "certificate chain: want one for this service's key, got one for another"),
    ],
)  # fmt: skip
def test_chains_that_are_none(chain: bytes, kind: type[KluisError], message: str) -> None:
    """A chain that the host made up is refused at the start."""
    with pytest.raises(kind) as refused:
        Signer(lambda _: chain, lambda _: None, NOW, NAME)
    assert refused.value.message == message
