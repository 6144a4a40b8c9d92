"""Local keys, and keys kept elsewhere: the digest goes out, the signature comes in."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils

from kluis.errors import AuthenticityError, UnavailableError
from kluis.tee.image import signing
from tests.tee.image import samples


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image that nobody has signed."""
    path = tmp_path / "a.kluis"
    path.write_bytes(samples.image())
    return path


def elsewhere(digest: bytes, index: int = 0) -> bytes:
    """What an HSM does: PKCS #1 v1.5 over a digest that it is handed."""
    return samples.key(index).sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))


def test_a_key_kept_elsewhere(image: Path) -> None:
    """A signature made only from the digest gives the same image as a local key."""
    made = elsewhere(signing.digest(image))
    signer = signing.insert(image, samples.key().public_key(), made, image.parent / "b.kluis")
    assert (image.parent / "b.kluis").read_bytes() == samples.image(signer=samples.key())
    assert signing.sign(image, samples.key(), image) == signer
    assert image.read_bytes() == samples.image(signer=samples.key())


def test_a_signature_over_something_else(image: Path) -> None:
    """A signature of another digest, or by another key, is refused and nothing is written."""
    out = image.parent / "b.kluis"
    for made in (elsewhere(bytes(32)), elsewhere(signing.digest(image), 1)):
        with pytest.raises(AuthenticityError):
            signing.insert(image, samples.key().public_key(), made, out)
    assert not out.exists()


def test_signed_anew(image: Path) -> None:
    """Another author's signature replaces the first; the measurement stays."""
    signing.sign(image, samples.key(), image)
    first = signing.digest(image)
    signing.sign(image, samples.key(1), image)
    assert image.read_bytes() == samples.image(signer=samples.key(1))
    assert signing.digest(image) == first


def test_a_key_is_not_overwritten(tmp_path: Path) -> None:
    """A key that is there stays; one that cannot be written is said."""
    path = tmp_path / "author.pem"
    path.write_text("mine")
    assert signing.ensure_key(path) is False
    assert path.read_text() == "mine"
    with pytest.raises(UnavailableError) as caught:
        signing.ensure_key(tmp_path / "nowhere" / "author.pem")
    assert (
        caught.value.message == f"{tmp_path}/nowhere/author.pem: cannot be written: No such file or directory"
    )
