"""The endorsements of a report: OCSP responses."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError
from kluis.formats.nvidia.endorsements import MAX_SIZE, NvidiaEndorsements


def test_json() -> None:
    """There and back."""
    value = NvidiaEndorsements(ocsp=(b"one", b"two"))
    assert value.to_json() == b'{"ocsp":["b25l","dHdv"]}'
    assert NvidiaEndorsements.from_json(value.to_json()) == value


@pytest.mark.parametrize(
    "data", [b"{}", b'{"ocsp":"AA=="}', b'{"ocsp":["AA"]}', b'{"ocsp":[],"more":1}', b'{"ocsp":[1]}']
)
def test_refused(data: bytes) -> None:
    """Nothing else is read."""
    with pytest.raises(FormatError):
        NvidiaEndorsements.from_json(data)


def test_bounds() -> None:
    """At most 8 responses of 64 KiB."""
    for many in ((b"",) * 9, (bytes(MAX_SIZE + 1),)):
        with pytest.raises(FormatError) as caught:
            NvidiaEndorsements.from_json(NvidiaEndorsements(ocsp=many).to_json())
        assert caught.value.code == "too_large"
