"""A signed root as a ledger holds it: a node's signature as JSON, and the service's as COSE.

The node's is ECDSA over the root itself, as if it were a SHA-256 digest; the service's is a COSE_Sign1
whose payload, the root, is detached, and whose protected header names the entry.

Spec: CCF, ``src/node/signatures.h``; draft-ietf-scitt-receipts-ccf-profile, "Signature".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, cbor, jcs
from kluis.formats.encoding.entries import Entries
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members
from kluis.formats.ietf import cose
from kluis.formats.ietf.cose import Sign1
from kluis.frozen import frozen

TREE_ALGORITHM: Final = 395
CCF_LEDGER_SHA256: Final = 2
PROOFS: Final = 396
INCLUSION: Final = -1
CLAIMS: Final = 15
ISSUER: Final = 1
SUBJECT: Final = 2
ISSUED_AT: Final = 6
CCF: Final = "ccf.v1"
MAX_SIZE: Final = 16 * 1024
_HEX32: Final = re.compile(rb"[0-9a-f]{64}")
_SOME_TXID: Final = TxId(1, 1)
_SOME_TIME: Final = (1 << 63) - 1
_KNOWN: Final = frozenset({"node", "view", "seqno", "root", "sig", "cert"})
_NAMES: Final = {1: "alg", 4: "kid", CLAIMS: "claims", TREE_ALGORITHM: "vds"}


@frozen(kw_only=True)
class NodeSignature:
    """A node's signature over a root, from ``public:ccf.internal.signatures``. Nothing here is verified.

    Attributes:
        node: the node's id, 64 hexadecimal digits.
        view: of the entry that holds it.
        seqno: of the entry that holds it, so that the root covers the leaves before this one.
        root: 32 bytes.
        signature: DER.
        certificate: PEM of the node; empty or None where it was not endorsed yet.
        others: further members, as written by older services.
    """

    node: str
    view: int
    seqno: int
    root: bytes
    signature: bytes
    certificate: str | None = None
    others: tuple[tuple[str, Json], ...] = ()

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read the table's value.

        Raises:
            FormatError: not the canonical JSON of a signature.
        """
        members = Members(jcs.loads_canonical(data, what), what)
        entries = members.entries(most=32)
        return cls(
            node=members.hex("node", 32, lower=True).hex(),
            view=members.integer("view", least=0, most=(1 << 31) - 1),
            seqno=members.integer("seqno", least=1, most=jcs.MAX_INTEGER),
            root=members.hex("root", 32, lower=True),
            signature=b64.decode(members.text("sig"), f"{what}.sig"),
            certificate=members.text("cert") if "cert" in members else None,
            others=tuple((name, entries[name]) for name in sorted(entries) if name not in _KNOWN),
        )

    def encode(self) -> bytes:
        """Write the table's value, canonical JSON."""
        return jcs.dumps(
            {
                **dict(self.others),
                **({} if self.certificate is None else {"cert": self.certificate}),
                "node": self.node,
                "root": self.root.hex(),
                "seqno": self.seqno,
                "sig": b64.encode(self.signature),
                "view": self.view,
            }
        )


@frozen
class ServiceSignature:
    """The service's signature over a root, from ``public:ccf.internal.cose_signatures``; not verified.

    Attributes:
        message: with a detached payload, the root.
        txid: of the entry that holds it, as its protected header names it.
        key_id: SHA-256 of the service key's SubjectPublicKeyInfo, 64 hexadecimal digits.
    """

    message: Sign1
    txid: TxId
    key_id: str

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read the message itself.

        Raises:
            UnsupportedError: an algorithm other than ES256, ES384 and ES512, or another kind of tree.
            FormatError: anything else than a signature over a root.
        """
        message = Sign1.parse(data, what, max_size=MAX_SIZE, detached=True)
        message.scheme(what, tuple(cose.SCHEMES))
        return cls(message, *read_protected(message.headers, f"{what}.protected"))

    @classmethod
    def parse_value(cls, data: bytes, what: str) -> Self:
        """Read the table's value: the message in base64, as a JSON string.

        Raises:
            FormatError: anything else.
        """
        return cls.parse(read_value(data, what), what)


def read_value(data: bytes, what: str) -> bytes:
    """Read the COSE message in the table's value: in base64, as a JSON string; the message is not parsed.

    Raises:
        FormatError: anything else.
    """
    text = jcs.loads_canonical(data, what, max_size=2 * MAX_SIZE)
    if not isinstance(text, str):
        raise FormatError(f"{what}: want a string, got something else", code="bad_type")
    return b64.decode(text, what)


def encode_value(message: bytes) -> bytes:
    """Write the table's value that holds a COSE message: its base64 as a JSON string."""
    return b'"%b"' % base64.b64encode(message)


def protected_headers(
    txid: TxId, key_id: str, issuer: str, subject: str, issued_at: int
) -> dict[cbor.Key, cbor.Writable]:
    """The protected headers of a service's signature, but for the algorithm, which comes first.

    Args:
        txid: of the entry that holds the signature.
        key_id: SHA-256 of the service key's SubjectPublicKeyInfo, 64 hexadecimal digits.
        issuer: the service's name for itself.
        subject: what is signed.
        issued_at: seconds since 1970.
    """
    return {
        cose.KEY_ID: key_id.encode(),
        TREE_ALGORITHM: CCF_LEDGER_SHA256,
        CLAIMS: {ISSUED_AT: issued_at, ISSUER: issuer, SUBJECT: subject},
        CCF: {"txid": str(txid)},
    }


class ProtectedHeaders:
    """Encodes :func:`protected_headers` of one service, with the algorithm: only two values change.

    A node signs each batch. To encode all of them each time takes longer than to hash the entries.

    Args:
        curve: of the service's key.
        key_id, issuer, subject: as in :func:`protected_headers`.
    """

    __slots__ = ("_between", "_start")

    def __init__(self, curve: ec.EllipticCurve, key_id: str, issuer: str, subject: str) -> None:
        headers = protected_headers(_SOME_TXID, key_id, issuer, subject, _SOME_TIME)
        raw = cbor.dumps({cose.ALGORITHM: cose.algorithm_of(curve), **headers})
        self._start, _, rest = raw.partition(cbor.dumps(_SOME_TIME))
        self._between = rest.removesuffix(cbor.dumps(str(_SOME_TXID)))

    def encode(self, txid: TxId, issued_at: int) -> bytes:
        """The bytes, of one entry and time."""
        return self._start + cbor.dumps(issued_at) + self._between + cbor.dumps(str(txid))


def read_protected(headers: Mapping[cbor.Key, cbor.Value], what: str) -> tuple[TxId, str]:
    """The entry and the key that the protected headers of a service's signature name.

    Raises:
        UnsupportedError: another kind of tree.
        FormatError: one is missing or of another form.
    """
    read = Entries(dict(headers), what, _NAMES)
    tree = read.integer(TREE_ALGORITHM, most=cbor.MAX_INTEGER)
    if tree != CCF_LEDGER_SHA256:
        raise UnsupportedError(f"{what}.vds: want {CCF_LEDGER_SHA256}, got {tree}", code="bad_type")
    key_id = read.octets(cose.KEY_ID, (64,))
    if not _HEX32.fullmatch(key_id):
        raise FormatError(f"{what}.kid: want 64 hexadecimal digits", code="bad_encoding")
    own = Entries(read.map(CCF, least=1, most=8), f"{what}.ccf.v1")
    return TxId.parse(own.text("txid", limit=40), f"{what}.ccf.v1.txid"), key_id.decode()
