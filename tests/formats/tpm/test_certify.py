"""A TPM's certification of its key: the same bytes, or refused; and the keys that it certifies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.tpm import certify, public
from kluis.formats.tpm.algorithm import OAEP, RSAES, HashId
from kluis.formats.tpm.certify import Certification
from kluis.formats.tpm.public import Public, RsaPublic
from tests.evidence.tpm.forge import CLOCK

MADE = Certification(
    qualified_signer=b"\0\x0b" + bytes(32),
    extra_data=b"nonce",
    clock=CLOCK,
    name=b"\0\x0b" + b"\1" * 32,
    qualified_name=b"\0\x0b" + b"\2" * 32,
).encode()


def test_written_and_read() -> None:
    """What is written is read as it was."""
    found = certify.parse(MADE)
    assert found.name == b"\0\x0b" + b"\1" * 32
    assert found.extra_data == b"nonce"
    assert found.encode() == MADE


@given(st.integers(0, len(MADE)), st.binary(max_size=3))
def test_same_bytes_or_refused(at: int, put: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    data = MADE[:at] + put + MADE[at + len(put) :]
    try:
        parsed = certify.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data


def test_other_attestations() -> None:
    """A quote is no certification, and what no TPM made is neither."""
    with pytest.raises(UnsupportedError) as refused:
        certify.parse(MADE[:4] + b"\x80\x18" + MADE[6:])
    assert refused.value.message == "TPM certification.type at 0x4: want 0x8017, got 0x8018"
    with pytest.raises(FormatError) as refused_magic:
        certify.parse(b"\0" + MADE[1:])
    assert refused_magic.value.code == "bad_magic"


def key(scheme: int | None, hashed: HashId | None) -> Public:
    """A key that decrypts."""
    held = RsaPublic(scheme=scheme, hash=hashed, bits=2048, exponent=0, modulus=b"\x80" + bytes(255))
    return Public(name_hash=HashId.SHA256, attributes=0x20072, policy=b"p" * 32, key=held)


@pytest.mark.parametrize(("scheme", "hashed"), [(None, None), (RSAES, None), (OAEP, HashId.SHA256)])
def test_keys_that_decrypt(scheme: int | None, hashed: HashId | None) -> None:
    """A key without a scheme, of RSAES or of OAEP is read, with its size before it or not."""
    made = key(scheme, hashed)
    data = made.encode()
    assert public.parse_decryption(data) == made
    assert public.parse_decryption(len(data).to_bytes(2, "big") + data) == made


def test_a_key_that_signs() -> None:
    """A scheme of signatures is no scheme of a key that decrypts, and the other way round."""
    with pytest.raises(UnsupportedError, match=r"TPM public area\.scheme"):
        public.parse_decryption(key(0x14, HashId.SHA256).encode())
    with pytest.raises(UnsupportedError, match=r"TPM public area\.scheme"):
        public.parse(key(RSAES, None).encode())
