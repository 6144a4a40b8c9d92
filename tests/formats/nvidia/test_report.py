"""NVIDIA reports: every byte is claimed, and the signature is found by the lengths before it."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.nvidia import report
from kluis.formats.nvidia.opaque import Field
from kluis.formats.nvidia.report import Report
from tests.evidence.nvidia.forge import FWID, NONCE, Forge
from tests.strategies import PROPERTY, mutations

GOOD = Forge().report()
OPAQUE_AT = 45 + 3 * 55 + 32


def test_fields() -> None:
    """A report's fields are where SPDM's tables put them."""
    parsed = Report.parse(GOOD)
    assert (parsed.nonce, parsed.slot, parsed.trailing) == (NONCE, 0, b"")
    assert parsed.measurements() == {n: bytes((n - 1,)) * 48 for n in (1, 2, 3)}
    assert parsed.opaque.get(Field.FWID) == FWID
    assert parsed.signature == GOOD[-96:]
    assert parsed.signed_bytes() == GOOD[:-96]
    assert parsed.encode() == GOOD
    assert report.matches(GOOD)
    assert not report.matches(GOOD[1:])


def test_signature_is_found_by_lengths() -> None:
    """One zero byte may follow the signature, and does not move it; nothing else may follow."""
    parsed = Report.parse(GOOD + b"\0")
    assert (parsed.signature, parsed.trailing) == (GOOD[-96:], b"\0")
    assert parsed.encode() == GOOD + b"\0"
    for more in (b"\1", b"\0\0", bytes(96)):
        with pytest.raises(FormatError) as caught:
            Report.parse(GOOD + more)
        assert caught.value.code == "trailing_data"


def _set(at: int, value: int) -> bytes:
    return GOOD[:at] + bytes((value,)) + GOOD[at + 1 :]


REFUSED = {
    "cut": (GOOD[:-1], FormatError, "truncated"),
    "nothing": (b"", FormatError, "truncated"),
    "large": (GOOD + bytes(1 << 15), FormatError, "too_large"),
    "another request": (_set(1, 0xE1), UnsupportedError, "bad_version"),
    "unsigned request": (_set(2, 0), UnsupportedError, "bad_version"),
    "one measurement alone": (_set(3, 1), UnsupportedError, "bad_version"),
    "another answer": (_set(38, 0x61), UnsupportedError, "bad_version"),
    "slot past 7": (_set(36, 8), FormatError, "bad_encoding"),
    "slot of the answer": (_set(40, 1), FormatError, "bad_encoding"),
    "no measurements": (_set(41, 0), UnsupportedError, "bad_length"),
    "fewer measurements": (_set(41, 2), UnsupportedError, "bad_length"),
    "number of a measurement": (_set(45, 2), FormatError, "bad_encoding"),
    "specification": (_set(46, 2), UnsupportedError, "bad_type"),
    "size of a measurement": (_set(47 + 55, 50), UnsupportedError, "bad_type"),
    "size of a digest": (_set(50, 32), UnsupportedError, "bad_type"),
    "opaque length past the end": (_set(OPAQUE_AT + 1, 0xFF), FormatError, "truncated"),
    "field past the opaque end": (_set(OPAQUE_AT + 2 + 3, 0xFF), FormatError, "truncated"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Unknown content of a report is refused, with its position."""
    data, error, code = REFUSED[case]
    with pytest.raises(FormatError) as caught:
        Report.parse(data)
    assert type(caught.value) is error
    assert caught.value.code == code
    assert caught.value.message.startswith("NVIDIA report")


@PROPERTY
@given(mutations(GOOD, GOOD + b"\0"))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = Report.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
