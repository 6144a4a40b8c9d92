"""Functions of policies tell JSON from text."""

from __future__ import annotations

import pytest

from kluis.errors import PolicyError
from kluis.services.attestation.language.functions import Values, call
from kluis.services.attestation.language.queries import Work


@pytest.mark.parametrize("text", ["abc", "NaN", "[Infinity]", '{"a":-Infinity}', "", "1 2"])
def test_text_that_is_no_json_is_text(text: str) -> None:
    """What JSON has no word for is the text that it is, Python's own numbers among it."""
    assert call("JsonToClaimValue", [Values((text,))], Work()).members == (text,)


@pytest.mark.parametrize(
    "text", ["[" * 100_000 + "]" * 100_000, "9" * 5000, f"[{'9' * 5000}]", '"' + "x" * (4 << 20) + '"']
)
def test_json_that_nobody_reads_is_refused(text: str) -> None:
    """Depth, digits and length without an end are JSON all the same, and no text."""
    with pytest.raises(PolicyError, match="policy: JsonToClaimValue: "):
        call("JsonToClaimValue", [Values((text,))], Work())
