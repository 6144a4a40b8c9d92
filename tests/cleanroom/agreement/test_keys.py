"""Keys: what is made for one use is good for no other."""

from __future__ import annotations

import pytest

from kluis.cleanroom.agreement.keys import SEALING_SIZE, SealingKey, SigningKey, check_signature, seal
from kluis.errors import AuthenticityError, FormatError


def test_seal_and_open() -> None:
    """What is sealed to a key under an info opens with both, 1136 bytes longer."""
    key = SealingKey.generate()
    sealed = seal(key.public, b"k" * 32, b"info")
    assert (len(key.public), len(sealed)) == (SEALING_SIZE, 32 + 1136)
    assert SealingKey(key.secret).open(sealed, b"info") == b"k" * 32


@pytest.mark.parametrize("what", ["key", "info", "bit", "short", "empty"])
def test_does_not_open(what: str) -> None:
    """Another key, another use, a flipped bit, a cut end: one message, whatever it was."""
    key = SealingKey.generate()
    sealed, info = seal(key.public, b"k" * 32, b"info"), b"info"
    if what == "key":
        key = SealingKey.generate()
    elif what == "info":
        info = b"other"
    else:
        sealed = {"bit": sealed[:-1] + bytes([sealed[-1] ^ 1]), "short": sealed[:-1], "empty": b""}[what]
    with pytest.raises(AuthenticityError) as caught:
        key.open(sealed, info)
    assert caught.value.message == "sealed key: cannot be opened here"


def test_not_a_public_key() -> None:
    """Bytes of another length are no key."""
    with pytest.raises(FormatError) as caught:
        seal(bytes(32), b"k", b"info")
    assert caught.value.message == "sealing key: want 1216 bytes, got 32"


def test_signature_is_for_one_use() -> None:
    """A signature made for one kind of document is refused on another."""
    key = SigningKey.generate()
    signature = key.sign("agreement/1", b"document")
    check_signature(key.public, signature, "agreement/1", b"document", "agreement")
    for context, document in (("stop/1", b"document"), ("agreement/1", b"other")):
        with pytest.raises(AuthenticityError) as caught:
            check_signature(key.public, signature, context, document, "agreement")
        assert caught.value.message == "agreement: the signature is not by this key over these bytes"


def test_a_public_key_that_is_none() -> None:
    """A signing key that is no point, or of another length, is refused as a signature is."""
    for public in (bytes(31), b"\xff" * 32):
        with pytest.raises(AuthenticityError):
            check_signature(public, bytes(64), "agreement/1", b"", "agreement")
