"""Certification data: how a quote names its platform's certificate."""

from __future__ import annotations

import pytest

from kluis.errors import UnsupportedError
from kluis.formats.sgx import certification


@pytest.mark.parametrize("value", [0, 8, 65535])
def test_unknown_types(value: int) -> None:
    """A type outside the seven is unsupported."""
    with pytest.raises(UnsupportedError) as caught:
        certification.kind(value, "it", 0x10)
    assert str(caught.value) == f"it.certification_type at 0x10: want 1 to 7, got {value}"
