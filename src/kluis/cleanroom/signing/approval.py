"""Sign a proposed agreement: check it against the signer's record, store it there, and publish it."""

from __future__ import annotations

from kluis.cleanroom.agreement import agreement as agreements
from kluis.cleanroom.agreement.agreement import Agreement, Signature
from kluis.cleanroom.agreement.documents import hash_of
from kluis.cleanroom.receipts.verdict import policy_of
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.records.trust import Trust
from kluis.errors import PolicyError
from kluis.formats.kluis.runtime_data import Purpose


def read_proposal(room: Room, agreement_hash: str | None = None) -> Agreement:
    """The room's proposal, whose analyses ask only for what the data's terms allow.

    Args:
        room: the folder.
        agreement_hash: the only acceptable one, 64 hex digits; None: any.

    Raises:
        UnavailableError: there is none.
        PolicyError: it belongs to another room, is another one, or contradicts itself.
        QueryError: an analysis is not allowed.
    """
    from kluis.cleanroom.signing import plan  # which wants the extra

    agreement = room.proposal()
    room.require_own(agreement)
    if agreement_hash is not None and agreement.hash != agreement_hash:
        raise PolicyError(
            f"agreement: want {agreement_hash[:16]}.., got {agreement.hash[:16]}..", code="agreement"
        )
    plan.check_analyses(agreement)
    return agreement


def check_against_record(home: Home, trust: Trust, agreement: Agreement) -> None:
    """Check an agreement against its signer's record: own keys and data, the roots, what it amends.

    Raises:
        PolicyError: the signer stopped it, or it has other terms, files, root or parent.
        AuthenticityError: it gives a party keys other than the confirmed ones.
    """
    if home.has_withdrawn(agreement.hash):  # its client would release nothing, and it replaces one in force
        raise PolicyError(
            f"agreement {agreement.hash[:16]}: {home.party} stopped it",
            hint="a stop is permanent: propose it again, and sign that",
            code="stopped",
        )
    trust.require_parties(agreement.parties)
    trust.require_roots(agreement.code.roots)
    trust.require_parent(agreement)
    policy_of(agreement.code, Purpose.RELEASE_KEY)  # which refuses unknown levels
    for dataset in agreement.owned_by(home.party):
        data_key = home.key(agreement.room, dataset.id, dataset.version)
        # Anyone who controls the folder can remove a later version, and its stricter terms with it.
        newest = home.next_version(agreement.room, dataset.id) - 1
        if dataset.version != newest:
            raise PolicyError(
                f"data set {dataset.id}: want version {newest}, the last that you sealed, "
                f"got {dataset.version}",
                hint="propose again with that version in the folder",
                code="terms",
            )
        if data_key.terms != hash_of(dataset.terms) or data_key.parts != tuple(
            each.sha256 for each in dataset.parts
        ):
            raise PolicyError(f"data set {dataset.id}: the proposal has other terms or files than you sealed")


def sign(room: Room, home: Home, trust: Trust, agreement: Agreement) -> Signature:
    """Check an agreement against the signer's record, and sign it. Nothing is stored yet.

    Args:
        room: its folder, which must be the room that the signer joined there.
        home: the signer's own folder.
        trust: the signer's.
        agreement: of that room.

    Raises:
        PolicyError, AuthenticityError: as :func:`check_against_record`, it contradicts itself, or it is of
            another room than the one that the signer joined in this folder.
    """
    room.require_joined(home)
    room.require_own(agreement)
    check_against_record(home, trust, agreement)
    return agreements.sign(agreement, home.party, home.signing)


def remember(home: Home, trust: Trust, agreement: Agreement) -> None:
    """Save an agreement in its signer's own record before the signature becomes visible to others."""
    trust.remember_roots(agreement.code.roots)
    home.agree(agreement)


def publish(room: Room, home: Home, trust: Trust, agreement: Agreement, signature: Signature) -> list[str]:
    """Save a signed agreement in the signer's record, then put the signature into the room.

    Returns:
        The parties that have not signed yet, in order.
    """
    remember(home, trust, agreement)
    room.add_signature(signature)
    signed = agreements.signers(agreement, room.signed_agreement().signatures)
    return sorted({each.id for each in agreement.parties} - signed)
