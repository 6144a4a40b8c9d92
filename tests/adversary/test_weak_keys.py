"""A party's public keys are of a kind that nobody generates: anyone can sign, or nothing can be sealed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import SIGNED_AS, Signature, SignedAgreement, check_signed
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.agreement.keys import MLKEM_PUBLIC_SIZE, check_signature
from kluis.cleanroom.records.rooms import Joined
from kluis.errors import AuthenticityError, FormatError
from tests.cleanroom.tables import Table

P = 2**255 - 19
# The neutral element, the point of order two, those of order four and eight, and other encodings of them.
SMALL = [
    *(each.to_bytes(32, "little") for each in (1, P - 1, 0, P + 1, P, 2**255, 2**255 + 1)),
    *(
        bytes.fromhex(each)
        for each in (
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        )
    ),
]


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(tmp_path, capsys)


@pytest.mark.parametrize("key", SMALL, ids=bytes.hex)
def test_a_signature_that_nobody_made(key: bytes) -> None:
    """Under a key of small order, one of these signatures was good for some document; it needs no secret."""
    for point in SMALL:
        for number in range(20):
            with pytest.raises(AuthenticityError):
                check_signature(key, point + bytes(32), SIGNED_AS, b"%d" % number, "agreement")


def test_an_owner_that_signed_nothing(table: Table) -> None:
    """An owner whose signature anyone can make could later say that it never signed: nobody signs with it."""
    neutral = SMALL[0]
    forged = msgspec.structs.replace(table.agreement.parties[1], signing_key=neutral)
    raw = encode(forged)
    joined = Joined(party=raw, signature=neutral + bytes(32))
    (table.room.path / "parties" / "laboratory.json").write_bytes(encode(joined))
    with pytest.raises(AuthenticityError):
        table.room.party("laboratory")
    agreement = msgspec.structs.replace(table.agreement, parties=(table.agreement.parties[0], forged))
    message = "party laboratory: want a signing key that only its owner can sign with"
    signed = SignedAgreement(
        agreement=encode(agreement),
        signatures=(
            Signature(
                party="clinic", signature=table.homes["clinic"].signing.sign(SIGNED_AS, encode(agreement))
            ),
            Signature(party="laboratory", signature=neutral + bytes(32)),
        ),
    )
    with pytest.raises(FormatError) as caught:
        check_signed(signed)
    assert caught.value.message == message
    table.room.propose(agreement)
    code, _, err = table.approve("clinic")
    assert (code, message in err, table.signatures()) == (3, True, [])


@pytest.mark.parametrize("part", ["post-quantum", "curve"])
def test_a_recipient_that_nothing_can_be_sealed_to(table: Table, part: str) -> None:
    """Its key failed every run at the end, after the owners had released theirs: it is not signed."""
    one, two = table.agreement.parties
    key = two.sealing_key
    spoilt = (
        b"\xff" * MLKEM_PUBLIC_SIZE + key[MLKEM_PUBLIC_SIZE:]
        if part == "post-quantum"
        else key[:MLKEM_PUBLIC_SIZE] + bytes(32)
    )
    table.room.propose(
        msgspec.structs.replace(
            table.agreement, parties=(one, msgspec.structs.replace(two, sealing_key=spoilt))
        )
    )
    code, _, err = table.approve("clinic")
    assert (code, table.signatures()) == (3, [])
    assert "party laboratory: want a sealing key that can be sealed to" in err
