"""Documents: one form for one value, and nothing but our errors for anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cleanroom.agreement.documents import MAX_BYTES, decode, encode
from kluis.errors import FormatError
from tests.cleanroom import samples
from tests.strategies import examples


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return encode(samples.setting(tmp_path_factory.mktemp("homes")).agreement)


@settings(max_examples=examples(300))
@given(st.data())
def test_same_bytes_or_refused(raw: bytes, data: st.DataObject) -> None:
    """A mutated agreement either reads and writes back to the same bytes, or is refused by our error."""
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(
            st.one_of(st.sampled_from(b'0123456789abcdefZ"{}[],:-+ '), st.integers(0, 255))
        )
    try:
        read = decode(bytes(changed), Agreement, "agreement")
    except FormatError:
        return
    assert encode(read) == bytes(changed)


def test_too_large() -> None:
    """Size is checked before anything is parsed."""
    with pytest.raises(FormatError) as caught:
        decode(b" " * (MAX_BYTES + 1), Agreement, "agreement")
    assert caught.value.message == f"agreement: is {MAX_BYTES + 1} bytes, must be at most {MAX_BYTES}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            b'"created":"2026-11-24T12:00:00Z"',
            b'"created":"2026-11-24T13:00:00+01:00"',
            "agreement: created: want a time in UTC, got 2026-11-24 13:00:00+01:00",
        ),
        (b'"k_min":5,"kind"', b'"k_min":2,"kind"', "agreement: expected `int` >= 3 - at `$.k_min`"),
        (
            b'"kind":"kluis-agreement/1"',
            b'"kind":"kluis-agreement/2"',
            "agreement: invalid enum value 'kluis-agreement/2' - at `$.kind`",
        ),
        (b'"any_owner_may_stop":true', b'"any_owner_may_stop":false', "agreement: expected `true`"),
    ],
    ids=["time", "bound", "version", "stop"],
)
def test_refused(raw: bytes, old: bytes, new: bytes, message: str) -> None:
    """Another form of a time, a value out of bounds, another version, a right taken away: refused."""
    assert old in raw
    with pytest.raises(FormatError) as caught:
        decode(raw.replace(old, new), Agreement, "agreement")
    if old != b'"any_owner_may_stop":true':
        assert caught.value.message == message


def test_path_of_samples(tmp_path: Path) -> None:
    """A document's hash is that of its bytes, and changes with any of them."""
    one, other = samples.setting(tmp_path / "a").agreement, samples.setting(tmp_path / "b").agreement
    assert one.hash != other.hash
    assert decode(encode(one), Agreement, "agreement").hash == one.hash
