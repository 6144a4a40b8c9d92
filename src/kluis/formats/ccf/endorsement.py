"""One identity of a service signs the one before it, so that receipts of before a recovery still count.

    {"endorsement": COSE_Sign1 of the previous key, "endorsing_key": DER, "endorsement_epoch_begin": ID,
     "endorsement_epoch_end": ID, "previous_version": seqno}

The first identity endorses itself, without an end. The signature's protected header repeats the epoch.

Spec: CCF, ``src/node/rpc/cose_endorsement.h``; ``cddl/ccf-cose-endorsement-service-identity.cddl``.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.ccf.signature import CCF, CLAIMS, ISSUED_AT
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, cbor, jcs
from kluis.formats.encoding.entries import Entries
from kluis.formats.encoding.members import Members
from kluis.formats.ietf.cose import Sign1
from kluis.frozen import frozen

START: Final = "epoch.start.txid"
END: Final = "epoch.end.txid"
ROOT: Final = "epoch.end.merkle.root"
MAX_SIZE: Final = 8 * 1024


@frozen(kw_only=True)
class Endorsement:
    """One link of the chain. Nothing here is verified.

    Attributes:
        message: whose payload is the endorsed key, DER of a SubjectPublicKeyInfo.
        start: the first entry of the endorsed identity.
        end: its last; None where a service endorses itself.
        root: the last root that it signed, as the header has it; None where it is not stated.
        endorsing_key: DER of the key that signed.
        previous: seqno of the entry with the link before; None if there is none.
    """

    message: Sign1
    start: TxId
    end: TxId | None
    root: bytes | None
    endorsing_key: bytes
    previous: int | None

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read the value of ``public:ccf.internal.previous_service_identity_endorsement``.

        Raises:
            FormatError: not of that form, or its header states another epoch.
        """
        members = Members(jcs.loads_canonical(data, what), what)
        raw = b64.decode(members.text("endorsement", limit=2 * MAX_SIZE), f"{what}.endorsement")
        message = Sign1.parse(raw, f"{what}.endorsement", max_size=MAX_SIZE)
        message.scheme(f"{what}.endorsement")
        start = TxId.parse(members.text("endorsement_epoch_begin"), f"{what}.endorsement_epoch_begin")
        end = None
        if "endorsement_epoch_end" in members:
            end = TxId.parse(members.text("endorsement_epoch_end"), f"{what}.endorsement_epoch_end")
        headers = Entries(dict(message.headers), f"{what}.protected")
        epoch = Entries(headers.map(CCF, least=1, most=8), f"{what}.protected.ccf.v1")
        signed_end = epoch.text_or_none(END, limit=40)
        if epoch.text(START, limit=40) != str(start) or signed_end != (None if end is None else str(end)):
            raise FormatError(f"{what}: states another epoch than its signed header", code="bad_encoding")
        return cls(
            message=message,
            start=start,
            end=end,
            root=epoch.octets_or_none(ROOT, (32,)),
            endorsing_key=b64.decode(members.text("endorsing_key"), f"{what}.endorsing_key"),
            previous=members.integer("previous_version") if "previous_version" in members else None,
        )


def headers_of(start: TxId, issued_at: int) -> dict[cbor.Key, cbor.Writable]:
    """The protected headers, but for the algorithm, by which a service's first identity endorses itself.

    Args:
        start: the entry that created it.
        issued_at: seconds since 1970.
    """
    return {CLAIMS: {ISSUED_AT: issued_at}, CCF: {START: str(start)}}


def encode_first(message: bytes, start: TxId, key: bytes) -> bytes:
    """Write the value for a service's first identity: its own endorsement, and DER of its key."""
    return jcs.dumps(
        {
            "endorsement": b64.encode(message),
            "endorsement_epoch_begin": str(start),
            "endorsing_key": b64.encode(key),
        }
    )
