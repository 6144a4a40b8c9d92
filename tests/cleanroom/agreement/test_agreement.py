"""What makes an agreement whole."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import Agreement, Signature, SignedAgreement, check_signed
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.errors import AuthenticityError, FormatError, PolicyError
from tests.cleanroom import samples


def test_signed_by_all(tmp_path: Path) -> None:
    """An agreement that every party signed is read back as it was, and its hash is its name."""
    room = samples.setting(tmp_path)
    assert check_signed(room.signed()) == room.agreement
    assert decode(encode(room.agreement), Agreement, "agreement").hash == room.agreement.hash


def test_one_missing(tmp_path: Path) -> None:
    """One missing signature is named."""
    room = samples.setting(tmp_path)
    with pytest.raises(PolicyError) as caught:
        check_signed(room.signed("clinic"))
    want = f"agreement {room.agreement.hash[:16]}: want a signature of every party, missing ['laboratory']"
    assert caught.value.message == want


def test_someone_else_signs(tmp_path: Path) -> None:
    """A signature by another key than the agreement names is refused."""
    room = samples.setting(tmp_path)
    good = room.signed()
    forged = Signature(party="laboratory", signature=good.signatures[0].signature)
    with pytest.raises(AuthenticityError) as caught:
        check_signed(SignedAgreement(agreement=good.agreement, signatures=(good.signatures[0], forged)))
    assert caught.value.message == "agreement, laboratory: the signature is not by this key over these bytes"


def test_changed_after_signing(tmp_path: Path) -> None:
    """One byte changed after signing breaks every signature."""
    good = samples.setting(tmp_path).signed()
    changed = good.agreement.replace(b'"k_min":5,"kind"', b'"k_min":3,"kind"')
    assert changed != good.agreement
    with pytest.raises(AuthenticityError):
        check_signed(SignedAgreement(agreement=changed, signatures=good.signatures))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"analyses": (msgspec.structs.replace(samples.QUERY, inputs=("others",)),)},
            "agreement: names no data set 'others'",
        ),
        (
            {"analyses": (msgspec.structs.replace(samples.QUERY, recipients=("eve",)),)},
            "agreement: names no party 'eve'",
        ),
        (
            {"analyses": (samples.QUERY, samples.QUERY)},
            "agreement: want each analysis once, got ['by-sex', 'by-sex']",
        ),
        (
            {"expires": samples.NOW},
            "agreement: want expires after 2026-11-24 12:00:00+00:00, got 2026-11-24 12:00:00+00:00",
        ),
    ],
)
def test_contradictions(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """An agreement that refers to what is not there is not signed."""
    agreement = msgspec.structs.replace(samples.setting(tmp_path).agreement, **change)
    with pytest.raises(PolicyError) as caught:
        agreement.check()
    assert caught.value.message == message


def test_not_canonical(tmp_path: Path) -> None:
    """The same values in another form are refused: a hash has one preimage."""
    raw = encode(samples.setting(tmp_path).agreement)
    with pytest.raises(FormatError) as caught:
        decode(raw.replace(b'":', b'": '), Agreement, "agreement")
    assert caught.value.message == "agreement: is not in canonical form (RFC 8785)"


def test_unknown_field(tmp_path: Path) -> None:
    """A field nobody defined is refused, not ignored."""
    raw = encode(samples.setting(tmp_path).agreement)
    with pytest.raises(FormatError) as caught:
        decode(raw[:-1] + b',"zz":1}', Agreement, "agreement")
    assert caught.value.message == "agreement: object contains unknown field `zz`"


def test_debug_cannot_be_agreed(tmp_path: Path) -> None:
    """There is no agreement that accepts a debug enclave."""
    raw = encode(samples.setting(tmp_path).agreement).replace(b'"debug":false', b'"debug":true')
    with pytest.raises(FormatError):
        decode(raw, Agreement, "agreement")


def test_most_restrictive_wins(tmp_path: Path) -> None:
    """The largest group size and the earliest end of all terms hold."""
    from kluis.cleanroom.agreement.terms import earliest, strictest_k

    each = tuple(dataset.terms for dataset in samples.setting(tmp_path).agreement.datasets)
    stricter = msgspec.structs.replace(each[0], k_min=30, expires=samples.NOW + datetime.timedelta(days=1))
    assert strictest_k(10, (*each, stricter)) == 30
    assert earliest(samples.LATER, (*each, stricter)) == stricter.expires
