"""Replays and times of proposals."""

from __future__ import annotations

import pytest

from kluis.formats.ccf import tables
from kluis.ledger.governance import recent
from kluis.ledger.governance.faults import InvalidCreatedAt, ProposalReplay, ProposalTooOld
from kluis.ledger.governance.requests import Kind
from tests.ledger.governance.consortium import NOW, Consortium, opened

CHUNK = {"actions": [{"name": "trigger_ledger_chunk"}]}


def submit(consortium: Consortium, created_at: int, now: int = NOW) -> str:
    return consortium.submit(
        consortium.members[0].sign(Kind.PROPOSAL, CHUNK, created_at=created_at), now=now
    ).id


def kept(consortium: Consortium) -> list[str]:
    return [key.decode() for key, _ in consortium.store.begin().items(tables.RECENT_PROPOSALS)]


def test_the_same_request_again() -> None:
    """It is refused, and the proposal that it made is named."""
    consortium = opened()
    raw = consortium.members[0].sign(Kind.PROPOSAL, CHUNK)
    first = consortium.submit(raw)

    with pytest.raises(ProposalReplay, match=first.id):
        consortium.submit(raw)
    consortium.withdraw(first.id, consortium.members[0])
    with pytest.raises(ProposalReplay, match=first.id):
        consortium.submit(raw)


def test_older_than_the_middle() -> None:
    """A proposal of before the middle one is refused; of the same second, not."""
    consortium = opened()
    for second in range(1, 5):
        submit(consortium, NOW + second)
    middle = int(kept(consortium)[len(kept(consortium)) // 2][:10])

    with pytest.raises(ProposalTooOld):
        submit(consortium, middle - 1)
    submit(consortium, middle)


def test_far_dated() -> None:
    """A time that is later than now moves no middle: it is refused beyond what clocks differ by."""
    consortium = opened()
    with pytest.raises(InvalidCreatedAt, match="it is 1790000000 now"):
        submit(consortium, NOW + recent.AHEAD + 1)
    with pytest.raises(InvalidCreatedAt):
        submit(consortium, 9_999_999_999)
    submit(consortium, NOW + recent.AHEAD)


def test_the_window() -> None:
    """The oldest leave once there are as many as the service's configuration keeps."""
    consortium = opened()
    change = {"name": "set_service_configuration", "args": {"recent_cose_proposals_window_size": 4}}
    consortium.accept(change, created_at=NOW + 1)
    for second in range(2, 12):
        submit(consortium, NOW + second)

    assert [key[:10] for key in kept(consortium)] == [str(NOW + second) for second in range(8, 12)]
    assert consortium.replayed() == []


def test_a_proposal_of_the_past_has_no_clock() -> None:
    """An auditor does again what was accepted when it was dated far ahead, as by CCF itself."""
    consortium = opened()
    raw = consortium.members[0].sign(Kind.PROPOSAL, CHUNK, created_at=9_999_999_999)
    consortium.submit(raw, now=None)
    assert consortium.replayed() == []
