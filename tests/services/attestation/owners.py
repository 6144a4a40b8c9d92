"""Those who sign policies: a key, a certificate, and documents in every form that Azure's tools write."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.evidence.forge import NOW
from tests.keys import next_rsa_key
from tests.services.attestation.world import b64u


class Owner:
    """A signer of policies.

    Args:
        name: of the certificate.
        key: RSA or on P-256; by default a new RSA key.
        issuer: who issues the certificate; None: the owner.
        ca: whether the certificate is a CA's.
        expired: whether it has run out.
    """

    def __init__(
        self,
        name: str,
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
        issuer: Owner | None = None,
        *,
        ca: bool = False,
        expired: bool = False,
    ) -> None:
        self.key = key or next_rsa_key()
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by = issuer or self
        start = NOW - timedelta(days=800 if expired else 1)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(by.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=400))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .sign(by.key, hashes.SHA256())
        )
        self.der = self.certificate.public_bytes(Encoding.DER)
        self.chain = [self.x5c, *(issuer.chain if issuer else ())]

    @property
    def x5c(self) -> str:
        """The certificate, as a JWS carries it."""
        return base64.b64encode(self.der).decode()

    def sign(self, body: bytes, header: dict[str, Any] | None = None) -> str:
        """A JWS over ``body``; by default as Microsoft's signing tool writes it."""
        usual = "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else "ES256"
        made = {"alg": usual, "x5c": self.chain} if header is None else header
        signed = f"{b64u(json.dumps(made).encode())}.{b64u(body)}"
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signed}.{b64u(signature)}"

    def policy(self, text: str, header: dict[str, Any] | None = None) -> str:
        """A signed policy."""
        body = json.dumps({"AttestationPolicy": b64u(text.encode())}).encode()
        return self.sign(body, header)

    def certificate_of(self, other: Owner, claim: str = "policyCertificate") -> str:
        """A signed wish to add or remove another's certificate."""
        return self.sign(json.dumps({claim: {"kty": "RSA", "x5c": other.chain}}).encode())


@cache
def owner(name: str) -> Owner:
    """An owner of this name, made once: keys are dear."""
    return Owner(name)


@cache
def on_a_curve() -> Owner:
    """One whose key is on P-256."""
    return Owner("curve", ec.generate_private_key(ec.SECP256R1()))
