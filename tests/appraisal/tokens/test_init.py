"""The public face of signed results: the names that it lists, loaded late, and no other."""

from __future__ import annotations

import pytest

from kluis.appraisal import tokens
from kluis.appraisal.tokens import signing


def test_its_names_are_those_of_signing() -> None:
    """Each name is the function that signs or verifies."""
    assert all(getattr(tokens, name) is getattr(signing, name) for name in tokens.__all__)


def test_another_name() -> None:
    """What is not listed is not there, though signing has it."""
    with pytest.raises(
        AttributeError, match=r"^module 'kluis.appraisal.tokens' has no attribute 'MAX_SIZE'$"
    ):
        tokens.MAX_SIZE  # noqa: B018 - looking it up is the test
    assert signing.MAX_SIZE
