"""Requests that are not what they should be: each is refused before anything is done."""

# ruff: noqa: E501 # hostile messages are read more easily one a line

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from kluis.formats.ccf import tables
from kluis.formats.encoding import cbor
from kluis.formats.ietf import cose
from kluis.ledger.governance import requests
from kluis.ledger.governance.faults import (
    GovernanceError,
    InvalidAuthentication,
    InvalidCreatedAt,
    InvalidInput,
)
from kluis.ledger.governance.requests import CREATED_AT, PROPOSAL_ID, TYPE, Kind
from tests.ledger.governance.consortium import NOW, Consortium, Party, key, opened

MEMBER = Party(1)
GOOD: dict[cbor.Key, Any] = {cose.KEY_ID: MEMBER.id.encode(), TYPE: "proposal", CREATED_AT: NOW}


def parts(raw: bytes) -> list[Any]:
    value = cbor.loads(raw, "request", tags=(18,))
    assert isinstance(value, cbor.Tagged)
    assert isinstance(value.value, list)
    return value.value


def signed(headers: dict[cbor.Key, Any]) -> bytes:
    return cose.sign1(b"{}", MEMBER.key, headers)


RAW = signed(GOOD)
PROTECTED, UNPROTECTED, PAYLOAD, SIGNATURE = parts(RAW)


def message(*items: bytes, tag: bytes = b"\xd2", head: bytes = b"\x84") -> bytes:
    return tag + head + b"".join(items)


ITEMS = [cbor.dumps(each) for each in (PROTECTED, UNPROTECTED, PAYLOAD, SIGNATURE)]
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "JSON": b'{"actions": []}',
    "no tag": message(*ITEMS, tag=b""),
    "another tag": message(*ITEMS, tag=b"\xd1"),
    "a tag within a tag": message(*ITEMS, tag=b"\xd2\xd2"),
    "the tag in two bytes": message(*ITEMS, tag=b"\xd8\x12"),
    "an indefinite list": message(*ITEMS, head=b"\x9f") + b"\xff",
    "three items": message(*ITEMS[:3], head=b"\x83"),
    "five items": message(*ITEMS, b"\xf6", head=b"\x85"),
    "bytes after it": RAW + b"\x00",
    "a detached payload": message(ITEMS[0], ITEMS[1], b"\xf6", ITEMS[3]),
    "an indefinite payload": message(ITEMS[0], ITEMS[1], b"\x5f" + ITEMS[2] + b"\xff", ITEMS[3]),
    "an indefinite unprotected header": message(ITEMS[0], b"\xbf\xff", ITEMS[2], ITEMS[3]),
    "an unprotected key id": message(ITEMS[0], cbor.dumps({4: MEMBER.id.encode()}), ITEMS[2], ITEMS[3]),
    "an unprotected header": message(ITEMS[0], cbor.dumps({"x": 1}), ITEMS[2], ITEMS[3]),
    "an indefinite protected header": message(
        cbor.dumps(b"\xbf" + PROTECTED[1:] + b"\xff"), *ITEMS[1:]
    ),
    "a protected header twice": message(
        cbor.dumps(bytes([PROTECTED[0] + 1]) + PROTECTED[1:] + cbor.dumps(TYPE) + cbor.dumps("ballot")), *ITEMS[1:]
    ),
    "no protected header": message(b"\x40", *ITEMS[1:]),
    "a long integer": message(cbor.dumps(PROTECTED.replace(cbor.dumps(NOW), b"\x1b" + NOW.to_bytes(8, "big"))), *ITEMS[1:]),
    "a critical header": message(cbor.dumps(bytes([PROTECTED[0] + 1]) + PROTECTED[1:] + b"\x02\x81\x04"), *ITEMS[1:]),
    "too deep": b"\xd2" + b"\x81" * 200,
    "too large": signed(GOOD) + bytes(1 << 20),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_messages(what: str) -> None:
    """Anything but the one strict form is refused."""
    with pytest.raises(InvalidInput):
        requests.parse(HOSTILE[what], Kind.PROPOSAL)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({TYPE: "ballot"}, "want type proposal, got 'ballot'"),
        ({TYPE: 1}, "want type proposal"),
        ({TYPE: None}, "want type proposal"),
        ({cose.KEY_ID: MEMBER.id}, "want a member id as key id"),
        ({cose.KEY_ID: MEMBER.id.upper().encode()}, "want a member id as key id"),
        ({cose.KEY_ID: b"\xff" * 64}, "want a member id as key id"),
        ({cose.KEY_ID: MEMBER.id.encode()[:-1]}, "want a member id as key id"),
        ({CREATED_AT: "2026-01-01"}, "in seconds since 1970"),
        ({CREATED_AT: -1}, "in seconds since 1970"),
        ({CREATED_AT: True}, "in seconds since 1970"),
        ({PROPOSAL_ID: "00" * 32}, "belongs to ballots and withdrawals only"),
        ({"ccf.gov.msg.other": 1}, "has unknown members"),
        ({3: "application/json"}, "has unknown members"),
    ],
)
def test_headers(changes: dict[cbor.Key, Any], error: str) -> None:
    """Each header is there, of its type, and no other is."""
    headers = {key_: value for key_, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(InvalidInput, match=error):
        requests.parse(signed(headers), Kind.PROPOSAL)


def test_headers_of_ballots() -> None:
    """They name their proposal."""
    for wrong in (None, 1, "00" * 31, "zz" * 32):
        headers = {**GOOD, TYPE: "ballot", **({} if wrong is None else {PROPOSAL_ID: wrong})}
        with pytest.raises(InvalidInput):
            requests.parse(signed(headers), Kind.BALLOT)
    assert requests.parse(signed({**GOOD, TYPE: "ballot", PROPOSAL_ID: "00" * 32}), Kind.BALLOT).proposal_id


def test_a_time_of_eleven_digits() -> None:
    """It would not sort among the others."""
    with pytest.raises(InvalidCreatedAt):
        requests.parse(signed({**GOOD, CREATED_AT: 10_000_000_000}), Kind.PROPOSAL)


@pytest.mark.parametrize("bits", [256, 384, 521])
def test_curves(bits: int) -> None:
    """A member's key is on P-256, P-384 or P-521, and signs by the curve's algorithm."""
    party = Party(7, bits=bits)
    consortium = Consortium(members=[party])
    consortium.activate()

    assert consortium.propose({"name": "trigger_ledger_chunk"}).info["proposer_id"] == party.id


def authenticate(consortium: Consortium, raw: bytes) -> str:
    return requests.authenticate(consortium.store.begin(), requests.parse(raw, Kind.PROPOSAL))


def forged(act: Callable[[list[Any]], None]) -> bytes:
    items = parts(RAW)
    act(items)
    return b"\xd2" + cbor.dumps(items)


@pytest.mark.parametrize(
    "raw",
    [
        forged(lambda items: items.__setitem__(2, b"{ }")),
        forged(lambda items: items.__setitem__(3, bytes(96))),
        forged(lambda items: items.__setitem__(3, items[3] + b"\0")),
        forged(lambda items: items.__setitem__(3, b"")),
        cose.sign1(b"{}", key(2), GOOD),
        cose.sign1(b"{}", key(1, 256), GOOD),
        Party(66).sign(Kind.PROPOSAL, {}),
    ],
    ids=["payload", "zeros", "longer", "empty", "another key", "another curve", "a stranger"],
)
def test_who_signed(raw: bytes) -> None:
    """Nobody but the member, with the key of the certificate in the tables."""
    consortium = opened(members=[Party(0), MEMBER])
    with pytest.raises(InvalidAuthentication):
        authenticate(consortium, raw)
    assert authenticate(consortium, RAW) == MEMBER.id


def test_a_removed_member() -> None:
    """Signs nothing any more."""
    consortium = opened(members=[Party(0), MEMBER, Party(2)])
    consortium.accept({"name": "remove_member", "args": {"member_id": MEMBER.id}})
    with pytest.raises(InvalidAuthentication):
        authenticate(consortium, RAW)


def test_the_last_request_is_kept() -> None:
    """Anyone checks it against the member's certificate: the bytes are those that came."""
    consortium = opened()
    raw = consortium.members[0].sign(Kind.PROPOSAL, {"actions": [{"name": "trigger_ledger_chunk"}]})
    consortium.submit(raw)
    kept = json.loads(consortium.get(tables.COSE_HISTORY, consortium.members[0].id) or b"")
    assert base64.b64decode(kept) == raw
    parsed = cose.Sign1.parse(raw, "request")
    public = MEMBER.key.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    cose.check(parsed, consortium.members[0].key.public_key(), "request")


@given(at=st.integers(0, len(RAW) - 1), bit=st.integers(0, 7), cut=st.booleans())
def test_changed_messages(at: int, bit: int, cut: bool) -> None:
    """A message with one changed bit, or cut short, is refused with an error of ours, or another signature."""
    raw = RAW[:at] if cut else RAW[:at] + bytes([RAW[at] ^ 1 << bit]) + RAW[at + 1 :]
    try:
        request = requests.parse(raw, Kind.PROPOSAL)
    except GovernanceError:
        return
    with pytest.raises(GovernanceError):
        requests.authenticate(_CONSORTIUM.store.begin(), request)


_CONSORTIUM = Consortium(members=[Party(0), MEMBER])
