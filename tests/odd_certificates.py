"""Certificates that no library reads."""

from __future__ import annotations

from base64 import b64encode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def of_odd_version(pem: str) -> str:
    """A certificate as it is, but of version 19, for which the library raises another error."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    changed = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12", 1)
    assert changed != der
    return f"-----BEGIN CERTIFICATE-----\n{b64encode(changed).decode()}\n-----END CERTIFICATE-----\n"
