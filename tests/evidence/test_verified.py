"""Verified: proof of verification that nobody makes by hand."""

from __future__ import annotations

import copy
import pickle

import pytest

from kluis.evidence import Verified
from kluis.evidence.verified import mint


def test_cannot_be_made() -> None:
    """Only a verifier makes one."""
    with pytest.raises(TypeError, match=r"^Verified: only a verifier makes one$"):
        Verified()


def test_cannot_be_subclassed() -> None:
    """A subclass could make one without a verifier."""
    with pytest.raises(TypeError, match=r"^Verified: cannot be subclassed$"):
        type("Fake", (Verified,), {})


def test_cannot_be_changed() -> None:
    """What was verified stays what it was."""
    proof = mint(1)
    with pytest.raises(AttributeError, match=r"^Verified: _value cannot be set$"):
        proof._value = 2  # type: ignore[misc]
    assert (proof.value, repr(proof)) == (1, "Verified(1)")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_cannot_be_copied(duplicate: object) -> None:
    """A stored proof would outlive the time it is good for."""
    with pytest.raises(
        TypeError, match=r"^Verified: cannot be copied or pickled; verify the evidence again$"
    ):
        duplicate(mint(1))  # type: ignore[operator]
