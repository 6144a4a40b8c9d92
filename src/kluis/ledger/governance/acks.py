"""Acknowledgements: a member is given the state's digest, signs it, and is active from then on.

Spec: CCF, "Governance API", "State digests"; ``src/node/gov/handlers/acks.h``.
"""

from __future__ import annotations

from kluis.errors import FormatError
from kluis.formats.ccf import tables
from kluis.formats.encoding import b64
from kluis.ledger.governance import requests
from kluis.ledger.governance.documents import member, read_object, service_info, write_json
from kluis.ledger.governance.faults import InvalidInput, NoSuchResource, OtherMember, StateDigestMismatch
from kluis.ledger.governance.requests import Request
from kluis.ledger.governance.scripts.effects import Effects
from kluis.ledger.store import Transaction


def update(transaction: Transaction, request: Request, member_id: str, root: bytes) -> str:
    """Give a member the digest of the present state.

    Args:
        transaction: to run in.
        request: of kind ``state_digest``.
        member_id: of the path.
        root: the latest that was signed, 32 bytes.

    Returns:
        the digest, in hexadecimal.

    Raises:
        GovernanceError: it is refused.
    """
    _same(transaction, request, member_id)
    transaction.put(tables.MEMBER_ACKS, member_id.encode(), write_json({"state_digest": root.hex()}))
    return root.hex()


def digest(transaction: Transaction, member_id: str) -> str:
    """The digest that a member was last given, in hexadecimal; empty if it was given none.

    Raises:
        NoSuchResource: there is no such member.
    """
    data = None
    if requests.is_id(member_id):
        data = transaction.get(tables.MEMBER_ACKS, member_id.encode())
    if data is None:
        raise NoSuchResource(f"member {member_id[:64]!a}: there is none in the tables")
    return str(read_object(data, tables.MEMBER_ACKS).get("state_digest", ""))


def acknowledge(transaction: Transaction, request: Request, member_id: str, effects: Effects) -> None:
    """Take a member's acknowledgement, and let it be active.

    A member that becomes active while the service is open, and has a key for it, gets a recovery share.

    Args:
        transaction: to run in.
        request: of kind ``ack``.
        member_id: of the path.
        effects: the node's side.

    Raises:
        GovernanceError: it is refused; nothing may be committed.
    """
    _same(transaction, request, member_id)
    expected = digest(transaction, member_id)
    try:
        signed = read_object(request.payload, "acknowledgement").get("stateDigest")
    except FormatError as error:
        raise InvalidInput(error.message) from None
    if not expected or signed != expected:
        raise StateDigestMismatch(
            "acknowledgement: is of another state digest than the member was given",
            hint="request the state digest again, and sign that one",
        )
    value = {"cose_sign1_req": b64.encode(request.raw), "state_digest": expected}
    transaction.put(tables.MEMBER_ACKS, member_id.encode(), write_json(value))
    known = member(transaction, member_id)
    if known is not None and not known.active:
        transaction.put(tables.MEMBERS, member_id.encode(), write_json({**known.info, "status": "Active"}))
        if service_info(transaction)["status"] == "Open" and known.recovery_role != "NonParticipant":
            effects.refresh_shares(transaction)


def _same(transaction: Transaction, request: Request, member_id: str) -> None:
    signer = requests.authenticate(transaction, request, active=False)
    if signer != member_id:
        raise OtherMember(f"request: want a signature of {member_id[:64]!a}, got one of {signer}")
