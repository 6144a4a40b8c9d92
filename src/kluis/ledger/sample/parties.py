"""Who takes part in a sample ledger: its service, one node, one member, one user, with their keys."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.jcs import Writable
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.ledger import certificates
from kluis.ledger.signer import key_id

MEASUREMENT = "Insecure hard-coded virtual measurement v1"


@frozen(kw_only=True)
class Parties:
    """Keys and certificates, made for one sample.

    Attributes:
        service_key: on P-384.
        service: PEM of its certificate.
        node_key: on P-384.
        node: PEM of its certificate.
        member_key: on P-384, which signs what the member decides.
        member: PEM of its certificate.
        member_encryption: RSA, for the member's recovery share.
        user: PEM of a user's certificate.
    """

    service_key: ec.EllipticCurvePrivateKey
    service: str
    node_key: ec.EllipticCurvePrivateKey
    node: str
    member_key: ec.EllipticCurvePrivateKey
    member: str
    member_encryption: rsa.RSAPrivateKey
    user: str

    @classmethod
    def make(cls, now: datetime) -> Self:
        """Make new ones, valid at ``now``."""
        service_key, node_key, member_key, user_key = (
            ec.generate_private_key(ec.SECP384R1()) for _ in range(4)
        )
        service = certificates.service_certificate(service_key, now)
        return cls(
            service_key=service_key,
            service=service,
            node_key=node_key,
            node=certificates.node_certificate(node_key.public_key(), service_key, service, now),
            member_key=member_key,
            member=certificates.member_certificate(member_key, now),
            member_encryption=rsa.generate_private_key(65537, 2048),
            user=certificates.member_certificate(user_key, now, name="user0"),
        )

    @property
    def node_id(self) -> str:
        """64 hexadecimal digits."""
        return key_id(self.node_key.public_key())

    @property
    def member_id(self) -> str:
        """64 hexadecimal digits."""
        return certificate_id(self.member)

    @property
    def service_spki(self) -> bytes:
        """DER of the service's public key."""
        return self.service_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def node_info(self) -> bytes:
        """The node's value in the table of nodes: of a virtual platform, whose quote is worth nothing."""
        address = "127.0.0.1:8000"
        quote = {
            "host_data": sha256(b"").hex(),
            "measurement": MEASUREMENT,
            "report_data": b64.encode(bytes.fromhex(self.node_id)),
        }
        return jcs.dumps(
            {
                "code_digest": MEASUREMENT.encode().hex(),
                "encryption_pub_key": _public_pem(self.member_encryption.public_key()),
                "node_to_node_interface": {"bind_address": "127.0.0.1:0", "published_address": "127.0.0.1:0"},
                "public_key": _public_pem(self.node_key.public_key()),
                "quote_info": {
                    "endorsements": "",
                    "format": "Insecure_Virtual",
                    "quote": b64.encode(jcs.dumps(quote)),
                },
                "rpc_interfaces": {
                    "primary_rpc_interface": {"bind_address": address, "published_address": address}
                },
                "status": "Trusted",
            }
        )

    def service_info(self, status: str, previous: int | None = None) -> bytes:
        """The service's value in its table."""
        value: dict[str, Writable] = {
            "cert": self.service,
            "current_service_create_txid": "2.1",
            "recovery_count": 0,
            "status": status,
        }
        if previous is not None:
            value["previous_service_identity_version"] = previous
        return jcs.dumps(value)

    def member_encryption_pem(self) -> str:
        """PEM of the member's public RSA key."""
        return _public_pem(self.member_encryption.public_key())


def certificate_id(pem: str) -> str:
    """How a ledger names a member or a user: SHA-256 of the certificate, in hexadecimal."""
    return sha256(load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)).hex()


def _public_pem(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
