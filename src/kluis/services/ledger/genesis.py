"""What the first entry of a ledger writes, and the first of each later node.

Spec: CCF, "Built-in Maps"; ``include/ccf/service/tables``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kluis.errors import FormatError, PolicyError, UsageError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import NewWrites, encode_writes
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.hashes import sha256
from kluis.ledger.governance import documents
from kluis.ledger.governance import genesis as governance
from kluis.ledger.governance.genesis import FirstMember, FirstNode
from kluis.ledger.store import Transaction
from kluis.services.ledger.callers import User, canonical_id
from kluis.services.ledger.identity import NodeIdentity, ServiceIdentity, public_pem
from kluis.services.ledger.settings import Issuer, Settings
from kluis.services.ledger.tables import USERS
from kluis.services.ledger.tokens import SigningKey

NO_HOST_DATA: Final = sha256(b"").hex()


class Quoted(msgspec.Struct, frozen=True):
    """A node's evidence.

    Attributes:
        measurement: of its code, hexadecimal: the image's id.
        endorsements: JSON: ``quote``, ``runtime_data`` and ``launch_configuration``, each base64; empty where
            there is no enclave.
    """

    measurement: str
    endorsements: bytes


def service_writes(settings: Settings, service: ServiceIdentity, created: TxId) -> NewWrites:
    """The first entry, but for its node.

    Args:
        settings: the operator's.
        service: whose certificate is pinned.
        created: the entry's own id.

    Raises:
        UsageError: no members, or a certificate, key or constitution that cannot be.
    """
    first = governance.genesis(
        service_certificate=service.certificate,
        members=[
            FirstMember(certificate=one.certificate, encryption_key=one.encryption_key, data=one.data)
            for one in settings.members
        ],
        node=FirstNode(id="", info={}, certificate="", admitted={}),
        threshold=settings.recovery_threshold,
        source=settings.constitution,
    )
    writes: NewWrites = {name: dict(rows) for name, rows in first.items() if name not in tables.OF_NODES}
    info = documents.read_object(writes[tables.SERVICE_INFO][tables.ONLY] or b"", "service")
    info["current_service_create_txid"] = str(created)
    writes[tables.SERVICE_INFO] = {tables.ONLY: documents.write_json(info)}
    for issuer in settings.issuers:
        _put_issuer(writes, issuer)
    for each in settings.principals:
        user = msgspec.json.encode(User(each.roles))
        writes.setdefault(USERS, {})[canonical_id(each.id).encode()] = user
    return writes


def digest_of(writes: NewWrites) -> bytes:
    """SHA-256 of what a genesis writes, but for its node, 32 bytes: what a node's evidence names."""
    ordered = {
        name: dict(sorted(writes[name].items())) for name in sorted(writes) if name not in tables.OF_NODES
    }
    return sha256(encode_writes(ordered))


def node_writes(node: NodeIdentity, quoted: Quoted, address: str) -> NewWrites:
    """What records a node, as trusted: no other can have the service's key.

    Args:
        node: its keys.
        quoted: its evidence.
        address: ``host:port`` that clients use.
    """
    quote = {
        "host_data": NO_HOST_DATA,
        "measurement": quoted.measurement,
        "report_data": b64.encode(bytes.fromhex(node.id)),
    }
    interface = {"bind_address": address, "published_address": address}
    info: dict[str, jcs.Writable] = {
        "certificate_signing_request": node.request(),
        "code_digest": quoted.measurement.encode().hex(),
        "encryption_pub_key": public_pem(node.encryption_key.public_key()),
        "node_to_node_interface": {"bind_address": address, "published_address": address},
        "public_key": public_pem(node.key.public_key()),
        "quote_info": {
            "endorsements": b64.encode(quoted.endorsements),
            "format": "Insecure_Virtual",
            "quote": b64.encode(jcs.dumps(quote)),
        },
        "rpc_interfaces": {
            "primary_rpc_interface": {
                **interface,
                "app_protocol": "HTTP1",
                "endorsement": {"authority": "Service"},
            }
        },
        "status": "Trusted",
    }
    key = node.id.encode()
    return {
        tables.NODES: {key: jcs.dumps(info)},
        tables.NODE_CERTIFICATES: {key: node.certificate.encode()},
        tables.HOST_DATA: {NO_HOST_DATA.encode(): bytes(8)},
        tables.MEASUREMENTS: {quoted.measurement.encode(): jcs.dumps("AllowedToJoin")},
    }


def check_admitted(state: Transaction, writes: NewWrites) -> None:
    """Check that members admitted a later node's code, and leave the tables of that as they are.

    Raises:
        PolicyError: they did not: another image needs their vote first.
    """
    admitted, _ = writes.pop(tables.MEASUREMENTS), writes.pop(tables.HOST_DATA)
    for key in admitted:
        if not state.has(tables.MEASUREMENTS, key):
            raise PolicyError(
                f"ledger: its members did not admit the image {key.decode()}",
                hint="with the old image, propose add_virtual_measurement for the new one, and vote",
                code="ledger_code",
            )


def retire_others(state: Transaction, writes: NewWrites) -> None:
    """Add to a new node's writes that those before it are retired: each ended when the next one began."""
    for key, value in state.items(tables.NODES):
        if key in writes[tables.NODES]:
            continue
        info = documents.read_object(value, "node")
        if info.get("status") != "Retired":
            retired = {**info, "retired_committed": True, "status": "Retired"}
            writes[tables.NODES][key] = documents.write_json(retired)


def _put_issuer(writes: NewWrites, issuer: Issuer) -> None:
    writes.setdefault(tables.JWT_ISSUERS, {})[issuer.url.encode()] = jcs.dumps({"auto_refresh": False})
    try:
        keys = msgspec.json.decode(issuer.keys, type=_Jwks).keys
        for one in keys:
            made, rows = SigningKey(b64.encode(one.der()), issuer.url), writes.setdefault(tables.JWT_KEYS, {})
            before = rows.get(one.kid.encode())  # of another issuer that names its key alike
            listed = [] if before is None else msgspec.json.decode(before, type=list[SigningKey])
            rows[one.kid.encode()] = msgspec.json.encode([*listed, made])
    except (*UNREADABLE, ValueError, FormatError):
        raise UsageError(f"issuer {issuer.url}: want public keys as JWKS, RSA or P-256") from None


class _Jwk(msgspec.Struct):
    kid: str
    kty: str
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""

    def der(self) -> bytes:
        """The key's SubjectPublicKeyInfo."""

        def number(text: str) -> int:
            return int.from_bytes(b64.decode_url(text, "JWK"), "big")

        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
        if self.kty == "EC" and self.crv == "P-256":
            key = ec.EllipticCurvePublicNumbers(number(self.x), number(self.y), ec.SECP256R1()).public_key()
        else:
            key = rsa.RSAPublicNumbers(number(self.e), number(self.n)).public_key()
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]
