"""What a ledger reads of its members: signed requests, proposals, ballots, shares."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from kluis.ledger.governance import explain, recovery, requests
from kluis.ledger.governance.constitution import Constitution, Rules
from kluis.ledger.governance.requests import Kind
from kluis.ledger.js import Limits

Read = Callable[[bytes], Any]
Starts = Callable[[], Iterator[bytes]]
# Small, for a script that does not end to cost little.
RULES = Rules(
    ballot=Limits(seconds=0.1, heap=4 << 20, stack=256 << 10), constitution=Limits(seconds=0.5, heap=16 << 20)
)


def readers() -> Iterator[tuple[str, Read, Starts]]:
    """Each reader's name, itself, and what to begin from."""
    for kind in Kind:
        yield (
            f"ledger.governance.{kind.value}",
            functools.partial(_request, kind),
            functools.partial(_signed, kind),
        )
    yield "ledger.governance.content", _proposal, _proposals
    yield "ledger.governance.script", _ballot, _ballots
    yield "ledger.governance.share", _share, _shares


@functools.cache
def _consortium() -> Any:
    from tests.ledger.governance import consortium

    return consortium.opened(2)


def _request(kind: Kind, data: bytes) -> None:
    requests.authenticate(_consortium().store.begin(), requests.parse(data, kind))


def _proposal(data: bytes) -> None:
    if len(data) <= requests.MAX_SIZE:  # a longer request is refused before
        explain.explain(_consortium().store, data.decode("utf-8", "replace"), RULES)


def _ballot(data: bytes) -> None:
    if len(data) > requests.MAX_SIZE:
        return
    rules = Constitution(_consortium().store.begin(), RULES)
    rules.vote(data.decode("utf-8", "replace"), "{}", "0" * 64, "1" * 64, "2" * 64)


def _share(data: bytes) -> None:
    from tests.ledger.governance import test_recovery as waiting

    member = _waiting().members[0]
    request = requests.parse(member.sign(Kind.RECOVERY_SHARE, data), Kind.RECOVERY_SHARE)
    recovery.submit(_waiting().store.begin(), request, member.id, waiting.PRESENT, 1, _waiting().random)


@functools.cache
def _waiting() -> Any:
    from tests.ledger.governance import test_recovery

    return test_recovery.waiting(2)


def _signed(kind: Kind) -> Iterator[bytes]:
    of = "00" * 32 if kind in (Kind.BALLOT, Kind.WITHDRAWAL) else None
    for member in _consortium().members:
        yield member.sign(kind, {"actions": []}, proposal_id=of)


def _proposals() -> Iterator[bytes]:
    from tests.ledger.governance.test_constitution import ACTIONS, given

    for name, args in ACTIONS:
        yield given(name, args).encode()


def _ballots() -> Iterator[bytes]:
    from tests.ledger.governance.consortium import NO, YES
    from tests.ledger.governance.test_proposals import ENDLESS, GROWING

    for script in (YES, NO, ENDLESS, GROWING):
        yield script.encode()
    yield b"export const vote = () => ccf.kv['public:ccf.gov.users.info'].get(new ArrayBuffer(8));"


def _shares() -> Iterator[bytes]:
    from kluis.formats.encoding import b64
    from tests.ledger.governance.test_recovery import own

    yield json.dumps({"share": b64.encode(own(_waiting(), _waiting().members[0]).encode())}).encode()
