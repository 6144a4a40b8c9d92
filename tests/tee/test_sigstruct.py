"""SIGSTRUCT: the bytes SGX reads, and every way a signature can fail to hold."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.hashes import sha256
from kluis.tee import author_keys, sigstruct
from tests.keys import rsa_key
from tests.strategies import examples
from tests.tee.image import samples

HASH = bytes(range(32))


def unsigned(debug: bool = False) -> sigstruct.SigStruct:
    return sigstruct.build_unsigned(HASH, product_id=7, svn=3, date="20260131", debug=debug)


SIGNED = sigstruct.sign(unsigned(), samples.key())


def test_the_bytes_lie_where_sgx_reads_them() -> None:
    """Each field is at the Intel manual's offset, and the whole is 1808 bytes."""
    data = SIGNED.encode()

    assert len(data) == 1808
    assert data[0:16].hex() == "06000000e10000000000010000000000"
    assert data[16:20] == bytes(4)
    assert data[20:24] == bytes.fromhex("31012620")
    assert data[24:40].hex() == "01010000600000006000000001000000"
    assert data[128:512] == samples.key().public_key().public_numbers().n.to_bytes(384, "little")
    assert data[512:516] == b"\x03\x00\x00\x00"
    assert data[928:936] == b"\x85" + bytes(7)
    assert data[936:944] == b"\xe7" + bytes(7)
    assert data[944:952] == b"\xff" * 8
    assert data[960:992] == HASH
    assert data[1024:1028] == b"\x07\x00\x03\x00"


def test_mrsigner_is_the_hash_of_the_modulus() -> None:
    """MRSIGNER is SHA-256 over the 384 little-endian bytes of the modulus."""
    n = samples.key().public_key().public_numbers().n
    assert sigstruct.verify(SIGNED) == sha256(n.to_bytes(384, "little"))


def test_others_read_the_signature() -> None:
    """The signature is plain PKCS #1 v1.5 over bytes 0..127 and 900..1027, so any RSA library checks it."""
    data = SIGNED.encode()
    samples.key().public_key().verify(
        data[516:900][::-1], data[:128] + data[900:1028], padding.PKCS1v15(), hashes.SHA256()
    )


def test_the_quotients_spare_the_processor_its_divisions() -> None:
    """The signature opens by Q1 and Q2 only with multiplications and subtractions, as in EINIT."""
    n, s, q1, q2 = (
        int.from_bytes(part, "little") for part in (SIGNED.modulus, SIGNED.signature, SIGNED.q1, SIGNED.q2)
    )
    assert (s * s - q1 * n) * s - q2 * n == pow(s, 3, n)


def test_debug_is_an_attribute_and_nothing_else() -> None:
    """A debug signature differs in one bit of what is signed, not in the enclave's hash."""
    plain, debug = unsigned(), unsigned(debug=True)
    assert debug.debug
    assert not plain.debug
    assert dataclasses.replace(debug, flags=plain.flags) == plain


@given(st.integers(0, sigstruct.SIZE - 1), st.integers(1, 255))
@settings(max_examples=examples(300), deadline=None)
def test_any_changed_byte_is_refused(at: int, mask: int) -> None:
    """No byte of a signed structure can change: it is signed, or the signature, or must be a constant."""
    data = bytearray(SIGNED.encode())
    data[at] ^= mask
    with pytest.raises((AuthenticityError, FormatError)):
        sigstruct.verify(sigstruct.parse(bytes(data)))


def test_every_byte_is_covered() -> None:
    """Exhaustively: a flipped bit in each of the 1808 bytes is refused."""
    data = SIGNED.encode()
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((AuthenticityError, FormatError)):
            sigstruct.verify(sigstruct.parse(changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exponent": 65537}, "SIGSTRUCT key: want RSA-3072 with exponent 3, got 3072 bits, 65537"),
        (
            {"modulus": SIGNED.modulus[:-1] + b"\x01"},
            "SIGSTRUCT key: want RSA-3072 with exponent 3, got 3065 bits, 3",
        ),
        ({"signature": b"\xff" * 384}, "SIGSTRUCT signature: want below the modulus, got above"),
        ({"q1": bytes(384)}, "SIGSTRUCT q1, q2: want the quotients of the signature, got others"),
        ({"q2": bytes(384)}, "SIGSTRUCT q1, q2: want the quotients of the signature, got others"),
        ({"isvsvn": 4}, "SIGSTRUCT signature: was not made by its key over these bytes"),
        ({"modulus": bytes(384)}, "SIGSTRUCT: want a signature, got none"),
    ],
)
def test_each_step_of_verify(changed: dict[str, object], message: str) -> None:
    """Each numbered step refuses what breaks only it, and reports it."""
    with pytest.raises(AuthenticityError) as caught:
        sigstruct.verify(dataclasses.replace(SIGNED, **changed))  # type: ignore[arg-type]
    assert caught.value.message == message


def test_padding_is_checked_whole() -> None:
    """Short padding with rubbish after it, which a small exponent lets anyone forge, is refused."""
    n = samples.key().public_key().public_numbers().n
    tail = bytes.fromhex("3031300d060960864801650304020105000420") + sha256(SIGNED.message())
    prefix = int.from_bytes(b"\x00\x01\xff\x00" + tail + bytes(384 - 4 - len(tail)), "big")
    s = _cube_root(prefix) + 1
    assert (s**3).to_bytes(384, "big").startswith(b"\x00\x01\xff\x00" + tail)
    q1, q2 = sigstruct.quotients(s, n)
    forged = dataclasses.replace(
        SIGNED,
        signature=s.to_bytes(384, "little"),
        q1=q1.to_bytes(384, "little"),
        q2=q2.to_bytes(384, "little"),
    )
    with pytest.raises(AuthenticityError, match="was not made by its key"):
        sigstruct.verify(forged)


def _cube_root(value: int) -> int:
    low, high = 0, 1 << (value.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= value else (low, middle - 1)
    return low


def test_a_signature_made_elsewhere_goes_in() -> None:
    """A signature by a key kept elsewhere gives the same structure as one by a local key."""
    made = samples.key().sign(unsigned().message(), padding.PKCS1v15(), hashes.SHA256())
    assert sigstruct.with_signature(unsigned(), samples.key().public_key(), made) == SIGNED


def test_a_signature_of_another_key_does_not_go_in() -> None:
    """A signature is checked against the key that is named before anything is written."""
    made = samples.key(1).sign(unsigned().message(), padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(AuthenticityError):
        sigstruct.with_signature(unsigned(), samples.key().public_key(), made)
    with pytest.raises(UsageError, match="signature: want 384 bytes, got 256"):
        sigstruct.with_signature(unsigned(), samples.key().public_key(), made[:256])


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"hello", "author.pem: want an unencrypted PEM private key, got something else"),
        (_pem(samples.key(), b"x"), "author.pem: want an unencrypted PEM private key, got something else"),
        (_pem(ec.generate_private_key(ec.SECP256R1())), "author.pem: want an RSA key, got another kind"),
        (
            _pem(rsa_key()),
            "author.pem: want RSA-3072 with exponent 3, got RSA-2048 with exponent 65537",
        ),
    ],
)
def test_a_key_that_sgx_does_not_take(pem: bytes, message: str) -> None:
    """A key of another kind is refused with a sentence that states what SGX accepts."""
    with pytest.raises(UsageError) as caught:
        author_keys.load(pem, "author.pem")
    assert caught.value.message == message


@pytest.mark.parametrize("date", ["2026", "20261301", "20260230", "today", "٢٠٢٦٠١٠١"])
def test_a_date_is_a_day(date: str) -> None:
    """SIGSTRUCT's date is eight ASCII digits of a day that exists."""
    with pytest.raises(UsageError):
        sigstruct.bcd(date)


@pytest.mark.parametrize(
    ("field", "value"),
    [("flags", 0x95), ("xfrm", 3), ("flags_mask", ~2 & (1 << 64) - 1), ("xfrm_mask", 0), ("miscselect", 1)],
)
def test_attributes_are_exact(field: str, value: int) -> None:
    """A signature that sets another attribute, or leaves DEBUG to the host, is not of a Kluis enclave."""
    with pytest.raises(AuthenticityError, match=f"SIGSTRUCT {field}: want "):
        sigstruct.check_attributes(dataclasses.replace(SIGNED, **{field: value}))  # type: ignore[arg-type]
