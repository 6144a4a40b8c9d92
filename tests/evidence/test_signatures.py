"""Signature checks raise; they never answer."""

from __future__ import annotations

import pytest

from kluis.errors import AuthenticityError
from kluis.evidence import signatures
from kluis.tee.platform import issuing
from tests.evidence.forge import key

HIGH = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize(
    "signature",
    [bytes(64), b"\xff" * 64, HIGH.to_bytes(32, "big") * 2, bytes(32) + b"\1" * 32],
    ids=["zeros", "ones", "the group's order", "r is zero"],
)
def test_garbage_is_refused(signature: bytes) -> None:
    """Signatures outside the curve's range are refused like any other that does not fit."""
    with pytest.raises(AuthenticityError) as caught:
        signatures.check_raw(signature, b"data", key().public_key(), "thing", code="sig")
    assert (str(caught.value), caught.value.code) == ("thing: is not signed by the key it should be", "sig")


def test_good() -> None:
    """A signature of the key over the bytes passes, and over other bytes does not."""
    own = key()
    signature = issuing.sign(own, b"data")
    signatures.check_raw(signature, b"data", own.public_key(), "thing", code="sig")
    with pytest.raises(AuthenticityError):
        signatures.check_raw(signature, b"Data", own.public_key(), "thing", code="sig")
