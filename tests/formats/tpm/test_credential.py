"""Credentials: what a TPM opens, written as its tools read it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError, UsageError
from kluis.formats.tpm import credential, public
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.credential import Credential
from tests.evidence.tpm import forge
from tests.keys import rsa_key
from tests.strategies import PROPERTY, mutations

KEYS: dict[str, forge.PRIVATE] = {
    "RSA": rsa_key(),
    "P-256": ec.generate_private_key(ec.SECP256R1()),
}
NAME = b"\0\x0b" + bytes(range(32))
SECRET, SEED = bytes(range(32)), bytes(range(32, 64))
GOOD = credential.make(forge.ek_area(KEYS["RSA"]), NAME, SECRET, SEED).encode()


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("bits", public.SYMMETRIC_BITS)
def test_what_a_tpm_opens(kind: str, bits: int) -> None:
    """The holder of the key opens it for the name that it was made for, and for no other."""
    area = forge.ek_area(KEYS[kind], symmetric=bits)
    data = credential.make(area, NAME, SECRET, SEED).encode()
    assert credential.matches(data)
    assert forge.activate(data, KEYS[kind], area, NAME) == SECRET
    with pytest.raises(ValueError, match="INTEGRITY"):
        forge.activate(data, KEYS[kind], area, NAME[:-1] + b"\0")


def test_a_larger_hash() -> None:
    """A key whose name is hashed with SHA-384 has all sizes of that."""
    area = forge.ek_area(KEYS["RSA"], name_hash=HashId.SHA384, symmetric=256)
    data = credential.make(area, NAME, SECRET, SEED + bytes(16)).encode()
    assert forge.activate(data, KEYS["RSA"], area, NAME) == SECRET


def test_made_wrong() -> None:
    """A key that receives nothing, a weak name, and secrets and seeds of other sizes are refused."""
    good = forge.ek_area(KEYS["RSA"])
    for area, secret, seed in (
        (replace(good, symmetric=None), SECRET, SEED),
        (replace(good, name_hash=HashId.SHA1), SECRET, SEED[:20]),
        (good, SECRET, SEED[:31]),
        (good, b"", SEED),
        (good, SECRET + b"\0", SEED),
    ):
        with pytest.raises(UsageError):
            credential.make(area, NAME, secret, seed)


def test_numbers_of_no_key() -> None:
    """A point off the curve, or an exponent that no key has, is malformed, even if signed."""
    rsa_area, ec_area = (forge.ek_area(KEYS[kind]) for kind in ("RSA", "P-256"))
    for area in (
        replace(rsa_area, key=replace(rsa_area.key, exponent=2)),
        replace(ec_area, key=replace(ec_area.key, x=bytes(32))),
    ):
        with pytest.raises(FormatError, match="TPM credential: want an endorsement key, got numbers of none"):
            credential.make(area, NAME, SECRET, SEED)


def test_storage_area() -> None:
    """The area of a storage key is read and written back, sized or not, and other keys' areas are not."""
    for key in KEYS.values():
        area = forge.ek_area(key)
        data = area.encode()
        assert public.parse_storage(data) == area
        assert public.parse_storage(len(data).to_bytes(2, "big") + data) == area
        assert public.parse_storage(data).encode() == data
        with pytest.raises(UnsupportedError):
            public.parse(data)
    for other in (
        forge.area(KEYS["RSA"]).encode(),
        forge.ek_area(KEYS["RSA"], symmetric=192).encode(),
    ):
        with pytest.raises(UnsupportedError, match="want AES of 128 or 256 bits in CFB"):
            public.parse_storage(other)
    signing = replace(forge.area(KEYS["RSA"], scheme=0x14), symmetric=128).encode()
    with pytest.raises(UnsupportedError, match="scheme"):
        public.parse_storage(signing)


def test_refused() -> None:
    """Another magic, bytes after the end, and sizes past the bounds are refused."""
    for data, code in (
        (b"\0" + GOOD[1:], "bad_magic"),
        (GOOD + b"\0", "trailing_data"),
        (GOOD[:-1], "truncated"),
        (credential.MAGIC + b"\xff\xff", "bad_length"),
    ):
        with pytest.raises(FormatError) as caught:
            Credential.parse(data)
        assert caught.value.code == code


@PROPERTY
@given(mutations(GOOD))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = Credential.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
