"""Governance requests: COSE_Sign1 messages of members, read strictly, and checked against the members' table.

    protected header    1: algorithm, 4: member id as text in bytes, "ccf.gov.msg.type": text,
                        "ccf.gov.msg.created_at": seconds since 1970,
                        "ccf.gov.msg.proposal_id": text, of ballots and withdrawals

Spec: CCF, "Governance", "Signing Governance Requests"; RFC 9052.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import AuthenticityError, FormatError
from kluis.formats.ccf import tables
from kluis.formats.encoding import b64
from kluis.formats.ietf import cose
from kluis.frozen import frozen
from kluis.ledger.governance.documents import certificate_id, load_certificate, member, write_json
from kluis.ledger.governance.faults import (
    InvalidAuthentication,
    InvalidCreatedAt,
    InvalidInput,
    NotAuthorized,
)
from kluis.ledger.store import Transaction

MAX_SIZE: Final = 1 << 20
MAX_CREATED_AT: Final = 9_999_999_999
TYPE: Final = "ccf.gov.msg.type"
CREATED_AT: Final = "ccf.gov.msg.created_at"
PROPOSAL_ID: Final = "ccf.gov.msg.proposal_id"
_ID: Final = re.compile(r"[0-9a-f]{64}")
_ALGORITHMS: Final = {
    cose.ES256: ec.SECP256R1,
    cose.ES384: ec.SECP384R1,
    cose.ES512: ec.SECP521R1,
}
_WHAT: Final = "request"


class Kind(enum.Enum):
    """The kinds of members' requests."""

    PROPOSAL = "proposal"
    BALLOT = "ballot"
    WITHDRAWAL = "withdrawal"
    ACK = "ack"
    STATE_DIGEST = "state_digest"
    RECOVERY_SHARE = "recovery_share"
    ENCRYPTED_SHARE = "encrypted_recovery_share"


_OF_PROPOSALS: Final = (Kind.BALLOT, Kind.WITHDRAWAL)


@frozen(kw_only=True)
class Request:
    """A request as received. Only :func:`authenticate` determines its signer.

    Attributes:
        raw: the message.
        message: parsed.
        kind: of the request.
        claimed: the id of the member that it states.
        created_at: seconds since 1970, by the member's clock.
        proposal_id: that it is about; None for other kinds.
    """

    raw: bytes
    message: cose.Sign1
    kind: Kind
    claimed: str
    created_at: int
    proposal_id: str | None

    @property
    def payload(self) -> bytes:
        """What is signed, usually JSON."""
        return self.message.payload


def is_id(text: str) -> bool:
    """Whether a text has the form of the id of a member, user, node or proposal."""
    return _ID.fullmatch(text) is not None


def parse(data: bytes, kind: Kind) -> Request:
    """Read a request of one kind.

    Raises:
        InvalidInput: not a COSE_Sign1 under tag 18 with these headers, or of another kind.
        InvalidCreatedAt: its time has more than ten digits.
    """
    try:
        message = cose.Sign1.parse(data, _WHAT, max_size=MAX_SIZE)
    except FormatError as error:
        raise InvalidInput(error.message) from None
    if not message.tagged:
        raise InvalidInput(f"{_WHAT}: want tag {cose.TAG}, got none")
    if message.unprotected:
        raise InvalidInput(f"{_WHAT}.unprotected: want an empty header, got one with members")
    headers = dict(message.headers)
    claimed, named = headers.pop(cose.KEY_ID, None), headers.pop(TYPE, None)
    created_at, proposal_id = headers.pop(CREATED_AT, None), headers.pop(PROPOSAL_ID, None)
    algorithm = headers.pop(cose.ALGORITHM, None)
    if headers:
        raise InvalidInput(f"{_WHAT}.protected: has unknown members, as {next(iter(headers))!a:.60}")
    if type(algorithm) is not int or algorithm not in _ALGORITHMS:
        raise InvalidInput(f"{_WHAT}.protected: want algorithm -7, -35 or -36, got another or none")
    if named != kind.value:
        raise InvalidInput(f"{_WHAT}.protected: want type {kind.value}, got {named!a:.60}")
    if type(claimed) is not bytes or not is_id(text := claimed.decode("latin-1")):
        raise InvalidInput(f"{_WHAT}.protected: want a member id as key id, got something else")
    if type(created_at) is not int or created_at < 0:
        raise InvalidInput(f"{_WHAT}.protected: want {CREATED_AT} in seconds since 1970, got something else")
    if created_at > MAX_CREATED_AT:
        raise InvalidCreatedAt(
            f"{_WHAT}.protected: want {CREATED_AT} up to {MAX_CREATED_AT}, got {created_at}"
        )
    if (kind in _OF_PROPOSALS) != (proposal_id is not None):
        raise InvalidInput(f"{_WHAT}.protected: {PROPOSAL_ID} belongs to ballots and withdrawals only")
    if proposal_id is not None and (not isinstance(proposal_id, str) or not is_id(proposal_id)):
        raise InvalidInput(f"{_WHAT}.protected: want a proposal id, got something else")
    return Request(
        raw=data, message=message, kind=kind, claimed=text, created_at=created_at, proposal_id=proposal_id
    )


def authenticate(transaction: Transaction, request: Request, *, active: bool = True) -> str:
    """Check that a member of the service signed a request.

    Args:
        transaction: that the request runs in.
        request: from :func:`parse`.
        active: whether the member must have acknowledged the state before.

    Returns:
        the member's id.

    Raises:
        InvalidAuthentication: no member of that id, or another key signed.
        NotAuthorized: the member is not active.
    """
    pem = transaction.get(tables.MEMBER_CERTIFICATES, request.claimed.encode())
    known = member(transaction, request.claimed)
    if pem is None or known is None:
        raise InvalidAuthentication(f"{_WHAT}: no member has the id {request.claimed}")
    key = load_certificate(pem, "member certificate").public_key()
    if (
        not isinstance(key, ec.EllipticCurvePublicKey)
        or certificate_id(pem, "member certificate") != known.id
    ):
        raise InvalidAuthentication(f"{_WHAT}: the certificate of {request.claimed} is not one that signs")
    algorithm = request.message.headers[cose.ALGORITHM]
    if type(algorithm) is not int or not isinstance(key.curve, _ALGORITHMS[algorithm]):
        raise InvalidAuthentication(f"{_WHAT}: its algorithm is not that of the member's key")
    try:
        cose.check(request.message, key, _WHAT)
    except AuthenticityError as error:
        raise InvalidAuthentication(error.message) from None
    if active and not known.active:
        raise NotAuthorized(f"member {known.id}: is not active", hint="acknowledge the state digest first")
    return known.id


def record(transaction: Transaction, request: Request) -> None:
    """Keep the member's latest signed request in the ledger, for anyone to check."""
    transaction.put(tables.COSE_HISTORY, request.claimed.encode(), write_json(b64.encode(request.raw)))
