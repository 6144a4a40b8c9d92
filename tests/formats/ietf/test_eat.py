"""EAT: the claims that profiles share have the numbers and the forms of RFC 9711."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kluis.errors import FormatError
from kluis.formats.encoding.entries import Entries
from kluis.formats.ietf import eat

NAMES = {eat.NONCE: "nonce", eat.UEID: "ueid", eat.PROFILE: "profile"}
UEID = b"\x01" + bytes(range(32))


def claims(**other: Any) -> Entries:
    """Good claims, with some changed."""
    good = {"nonce": bytes(32), "ueid": UEID, "profile": "tag:example", **other}
    numbers = {name: number for number, name in NAMES.items()}
    return Entries({numbers[name]: value for name, value in good.items()}, "token", NAMES)


def test_numbers() -> None:
    """The numbers are those of IANA's registry of CWT claims."""
    of_cwt = [eat.ISSUER, eat.SUBJECT, eat.AUDIENCE, eat.EXPIRATION, eat.NOT_BEFORE, eat.ISSUED_AT]
    assert [*of_cwt, eat.TOKEN_ID] == [1, 2, 3, 4, 5, 6, 7]
    assert (eat.NONCE, eat.UEID, eat.PROFILE, eat.SUBMODULES) == (10, 256, 265, 266)


def test_reads() -> None:
    """Nonce, UEID and profile are given as they are; a profile may be absent."""
    assert eat.nonce(claims()) == bytes(32)
    assert eat.random_ueid(claims()) == UEID
    assert eat.profile(claims()) == "tag:example"
    assert eat.profile(Entries({}, "token", NAMES)) is None


@pytest.mark.parametrize(
    ("read", "change", "message"),
    [
        (eat.nonce, {"nonce": bytes(7)}, "token.nonce: is 7 bytes, want 8 to 64"),
        (eat.nonce, {"nonce": [bytes(8)]}, "token.nonce: want bytes, got a list"),
        (eat.random_ueid, {"ueid": UEID[:32]}, "token.ueid: is 32 bytes, want 33"),
        (eat.random_ueid, {"ueid": b"\x02" + UEID[1:]}, "token.ueid: want type 0x01, got 0x02"),
        (eat.profile, {"profile": ""}, "token.profile: is 0 long, want 1 to 256"),
        (eat.profile, {"profile": b"oid"}, "token.profile: want text, got bytes"),
    ],
)
def test_refused(read: Callable[[Entries], Any], change: dict[str, Any], message: str) -> None:
    """Several nonces, other kinds of UEID and profiles by OID are refused."""
    with pytest.raises(FormatError) as caught:
        read(claims(**change))
    assert str(caught.value) == message
