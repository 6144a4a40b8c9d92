"""Parse X.509 certificates and revocation lists into plain fields. Nothing here is verified.

A strict reader of the few types that vendors use. Names, keys and signatures keep their original bytes, so
issuer and subject are compared as bytes and a signature covers what was received.

Spec: RFC 5280, "Certificate and Certificate Extensions Profile", "CRL and CRL Extensions Profile".
"""

from kluis.formats.x509.certificate import Certificate, KeyUsage, parse
from kluis.formats.x509.crl import Crl, parse_crl
from kluis.formats.x509.pem import parse_pem, split_pem, write_pem
from kluis.formats.x509.public_key import PublicKey, parse_public_key
from kluis.formats.x509.scheme import KeyKind, Scheme

__all__ = [
    "Certificate",
    "Crl",
    "KeyKind",
    "KeyUsage",
    "PublicKey",
    "Scheme",
    "parse",
    "parse_crl",
    "parse_pem",
    "parse_public_key",
    "split_pem",
    "write_pem",
]
