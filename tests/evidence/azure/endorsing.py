"""Endorsements of utility VMs made by hand: a root, who is under it, and both forms of what they sign."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from kluis.formats.encoding import cbor
from kluis.formats.ietf.cose import Sign1
from kluis.hashes import sha256
from tests.keys import next_rsa_key

USAGE = "1.3.6.1.4.1.311.76.59.1.2"
FEED = "ContainerPlat-AMD-UVM"
MEASUREMENT = bytes(range(48))
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)


@dataclasses.dataclass(frozen=True)
class Signer:
    """A signer and its chain: the signer first, the root last."""

    key: rsa.RSAPrivateKey
    chain: tuple[bytes, ...]

    @property
    def issuer(self) -> str:
        """The name that the chain gives them."""
        fingerprint = base64.urlsafe_b64encode(sha256(self.chain[-1])).rstrip(b"=").decode()
        return f"did:x509:0:sha256:{fingerprint}::eku:{USAGE}"


def _certificate(
    name: str, key: rsa.RSAPrivateKey, issuer: str, by: rsa.RSAPrivateKey, *, ca: bool, usage: str
) -> bytes:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
    made = (
        x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        .serial_number(7).not_valid_before(BEGIN).not_valid_after(BEGIN + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )  # fmt: skip
    if usage:
        made = made.add_extension(x509.ExtendedKeyUsage([ObjectIdentifier(usage)]), critical=False)
    return made.sign(by, hashes.SHA384()).public_bytes(Encoding.DER)


def signer(*, usage: str = USAGE, ca: bool = True) -> Signer:
    """A root, an authority under it, and a signer."""
    root, middle, leaf = (next_rsa_key() for _ in range(3))
    return Signer(
        leaf,
        (
            _certificate("leaf", leaf, "middle", middle, ca=False, usage=usage),
            _certificate("middle", middle, "root", root, ca=ca, usage=""),
            _certificate("root", root, "root", root, ca=True, usage=""),
        ),
    )


def signed(by: Signer, protected: dict[Any, Any], payload: bytes) -> bytes:
    """A COSE_Sign1 by PS384."""
    raw = cbor.dumps({1: -38, 33: list(by.chain), **protected})
    message = Sign1(protected=raw, headers={}, unprotected={}, payload=payload, signature=b"")
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    signature = by.key.sign(message.signed_bytes(), pss, hashes.SHA384())
    return dataclasses.replace(message, signature=signature).encode()


def endorsement(
    by: Signer, measurement: bytes = MEASUREMENT, svn: int = 104, issuer: str = "", feed: str = FEED
) -> bytes:
    """The newer form: claims in the header, the digest itself as payload."""
    claims = {1: issuer or by.issuer, 2: feed, 6: cbor.Tagged(1, 1_700_000_000), "svn": svn}
    return signed(by, {15: claims, 258: -43, 259: "application/octet-stream"}, measurement)


def older(by: Signer, measurement: bytes = MEASUREMENT, svn: str = "100", **payload: Any) -> bytes:
    """The older form: issuer and feed in the header, JSON as payload."""
    said = {"x-ms-sevsnpvm-guestsvn": svn, "x-ms-sevsnpvm-launchmeasurement": measurement.hex(), **payload}
    return signed(by, {3: "application/json", "iss": by.issuer, "feed": FEED}, json.dumps(said).encode())
