"""Recent proposals: no signed request counts twice, and none that is older than half of the last hundred.

A key is the request's time in ten digits, a colon, and the digest of its signature. Anyone can compute a
second signature from a member's, which verifies, too: a request with it is the same request. A request of a
later time than now is refused as well: a few would move the middle so far that no other proposal is recent.

Spec: CCF, "Governance", "Replay protection"; the second signature and the bound above are ours.
"""

from __future__ import annotations

from typing import Final

from kluis.formats.ccf import tables
from kluis.formats.ccf.values import read_json
from kluis.formats.ietf import cose
from kluis.hashes import sha256
from kluis.ledger.governance.documents import service_config, write_json
from kluis.ledger.governance.faults import InvalidCreatedAt, ProposalReplay, ProposalTooOld
from kluis.ledger.governance.requests import Request
from kluis.ledger.store import Transaction

WINDOW: Final = 100
MOST_WINDOW: Final = 10_000
AHEAD: Final = 600
"""By how many seconds a member's clock may be ahead of the service's."""


def remember(transaction: Transaction, request: Request, proposal_id: str, now: int | None) -> None:
    """Note a proposal's request.

    Args:
        transaction: of the proposal.
        request: whose signature was checked.
        proposal_id: of it.
        now: seconds since 1970; None for a proposal of the past.

    Raises:
        ProposalReplay: it was noted before.
        ProposalTooOld: it is older than the middle one of those that are kept.
        InvalidCreatedAt: it is of a later time than now.
    """
    if now is not None and request.created_at > now + AHEAD:
        raise InvalidCreatedAt(
            f"proposal: was created at {request.created_at}, and it is {now} now",
            hint="correct the clock of the machine that signs",
        )
    key, mirrored = _key(request, request.message.signature), _key(request, cose.mirror(request.message))
    for each in (key, mirrored):
        if (before := transaction.get(tables.RECENT_PROPOSALS, each)) is not None:
            raise ProposalReplay(
                f"proposal: already exists as proposal {read_json(before, tables.RECENT_PROPOSALS)}"
            )
    recent = [each for each, _ in transaction.items(tables.RECENT_PROPOSALS)]
    window = service_config(transaction).get("recent_cose_proposals_window_size", WINDOW)
    window = min(max(window, 1), MOST_WINDOW) if type(window) is int else WINDOW
    old = recent and key.partition(b":")[0] < recent[len(recent) // 2].partition(b":")[0]
    # It may be one that was kept, of the same second. Nodes of CCF do not look for the mirrored one.
    lower = key if now is None else min(key, mirrored)
    if old or (len(recent) >= window and lower < recent[0]):
        raise ProposalTooOld(
            f"proposal: was created at {request.created_at}, before the middle one of the recent ones",
            hint="sign it again",
        )
    for each in recent[: max(len(recent) - (window - 1), 0)]:
        transaction.remove(tables.RECENT_PROPOSALS, each)
    transaction.put(tables.RECENT_PROPOSALS, key, write_json(proposal_id))


def _key(request: Request, signature: bytes) -> bytes:
    return f"{request.created_at:010}:{sha256(signature).hex()}".encode()
