"""Recovery shares that members submit: counted one by one, and opened together."""

from __future__ import annotations

import json

import pytest

from kluis.formats.ccf import tables
from kluis.formats.ccf.shares import Share
from kluis.formats.encoding import b64
from kluis.ledger import shares
from kluis.ledger.governance import recovery, requests
from kluis.ledger.governance.documents import write_json
from kluis.ledger.governance.faults import InvalidInput, NotWaitingForShares, OtherMember, SharesDoNotFit
from kluis.ledger.governance.recovery import Submitted
from kluis.ledger.governance.requests import Kind
from kluis.ledger.secrets import LedgerSecret
from tests.ledger.governance.consortium import NOW, Consortium, Party, opened

PRESENT = LedgerSecret(b"p" * 32, 100)


def waiting(count: int = 3, threshold: int = 2, members: list[Party] | None = None) -> Consortium:
    """A service after a disaster: its tables are there, its secret is not."""
    consortium = opened(count, threshold=threshold, members=members)
    info = {**consortium.json(tables.SERVICE_INFO), "status": "WaitingForRecoveryShares"}
    consortium.commit({tables.SERVICE_INFO: {tables.ONLY: write_json(info)}})
    return consortium


def own(consortium: Consortium, party: Party) -> Share:
    assert party.rsa is not None
    return shares.decrypt_share(
        recovery.encrypted_share(consortium.store.begin(), party.id), party.rsa, "share"
    )


def submit(consortium: Consortium, party: Party, share: Share | object, of: Party | None = None) -> Submitted:
    payload = {"share": b64.encode(share.encode())} if isinstance(share, Share) else share
    request = requests.parse(party.sign(Kind.RECOVERY_SHARE, payload), Kind.RECOVERY_SHARE)
    found = consortium.run(
        lambda t: recovery.submit(t, request, (of or party).id, PRESENT, 1, consortium.random)
    )
    assert isinstance(found, Submitted)
    return found


def test_enough_shares_open_the_secret() -> None:
    """Also when a member submits twice, which counts once; what is kept of them is encrypted."""
    consortium = waiting()
    one, _, three = consortium.members
    assert submit(consortium, three, own(consortium, three)) == Submitted(1, 2, None)
    assert submit(consortium, three, own(consortium, three)).count == 1
    kept = b64.decode(json.loads(consortium.get(tables.SUBMITTED_SHARES, three.id) or b""), "share")
    assert len(kept) == 72
    assert own(consortium, three).encode() not in kept

    found = submit(consortium, one, own(consortium, one))
    assert found.count == 2
    assert found.secret is not None
    assert found.secret.reveal() == bytes(range(32))
    consortium.run(recovery.clear)
    assert consortium.get(tables.SUBMITTED_SHARES, one.id) is None


def test_an_owner_alone() -> None:
    """One share is enough, if it is the whole."""
    owner = Party(2, role="Owner")
    consortium = waiting(members=[Party(0), Party(1), owner])
    found = submit(consortium, owner, own(consortium, owner))
    assert found.secret is not None
    assert found.secret.reveal() == bytes(range(32))


def test_a_wrong_share() -> None:
    """Another member's, a changed one or none at all is refused, and does not count."""
    consortium = waiting()
    one, two, _ = consortium.members
    mine = own(consortium, one)
    wrong: list[object] = [
        own(consortium, two), Share(0, mine.y), {"share": b64.encode(mine.encode()[:-1])}, {"share": "!"},
        {"share": 1}, {}, b"[]", b"x", {"share": b64.encode(b"\xff" * 44)},
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(InvalidInput):
            submit(consortium, one, each)
    with pytest.raises(OtherMember):
        submit(consortium, one, mine, of=two)
    assert consortium.get(tables.SUBMITTED_SHARES, one.id) is None


def test_a_share_that_does_not_fit() -> None:
    """It has the right point and another value: known once there are enough. All are submitted again."""
    consortium = waiting()
    one, two, _ = consortium.members
    mine = own(consortium, one)
    submit(consortium, one, Share(mine.x, (mine.y[0] ^ 1, *mine.y[1:])))
    with pytest.raises(SharesDoNotFit):
        submit(consortium, two, own(consortium, two))
    assert consortium.get(tables.SUBMITTED_SHARES, two.id) is None
    consortium.run(recovery.clear)

    submit(consortium, one, mine)
    found = submit(consortium, two, own(consortium, two))
    assert found.secret is not None


def test_when_nobody_waits() -> None:
    """An open service takes no shares; a member without one has none to give."""
    consortium = opened(2, threshold=2)
    with pytest.raises(NotWaitingForShares) as caught:
        submit(consortium, consortium.members[0], own(consortium, consortium.members[0]))
    assert caught.value.http_status == 403
    alone = Party(4, encrypts=False)
    consortium = waiting(members=[Party(0), Party(1), alone])
    with pytest.raises(InvalidInput):
        submit(consortium, alone, Share(1, (1,) * 10))


def test_the_share_of_a_removed_member() -> None:
    """It is of the secret before, and refused."""
    consortium = opened(3, threshold=2)
    one, two, three = consortium.members
    old = own(consortium, one)
    consortium.accept({"name": "remove_member", "args": {"member_id": one.id}}, created_at=NOW + 1)
    info = {**consortium.json(tables.SERVICE_INFO), "status": "WaitingForRecoveryShares"}
    consortium.commit({tables.SERVICE_INFO: {tables.ONLY: write_json(info)}})

    with pytest.raises(Exception, match="no member has the id"):
        submit(consortium, one, old)
    submit(consortium, two, own(consortium, two))
    found = submit(consortium, three, own(consortium, three))
    assert found.secret is not None
    assert found.secret.reveal() == consortium.secrets.latest.reveal()
