"""An owner's sealed file that opens under two keys, of which the owner releases another one in each run.

The noise of a room's models is keyed by the data keys. AES-GCM does not bind a ciphertext to one key. With a
nonce that fits, and one block that balances the tags, a Parquet footer has a meaning under either key, and
what is for the other key is inside a field that no reader knows.
"""

from __future__ import annotations

import hmac
import io
import itertools
from collections.abc import Callable

import msgspec
import polars as pl
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.cleanroom.data import datasets
from kluis.errors import AuthenticityError, FormatError
from tests.cleanroom import samples

FIRST, SECOND = b"\1" * 32, b"\2" * 32
BYTES_OF_FIELD_20 = b"\x08\x28"
FIELD_1 = b"\x05\x02"
"""Headers of fields in Thrift's compact form, with the field's number, not the step from the last one."""


def test_one_file_under_two_keys() -> None:
    """Polars opens it under both. In a room it opens under the key that it is committed to, and no other."""
    table = samples.people()
    described, sealed = samples.dataset("people", "clinic", table, samples.PEOPLE_USES, FIRST)
    prefix = datasets.aad_prefix(samples.ROOM, "people", 1, 0, described.terms)
    file = _two_keyed(table, sealed[: -datasets.COMMITMENT_SIZE], prefix, (FIRST, SECOND))
    for key in (FIRST, SECOND):
        decryption = pl.ParquetDecryptionProperties(footer_key=key, aad_prefix=prefix)
        assert pl.read_parquet(io.BytesIO(file), decryption=decryption).equals(table)
    for mine, other in ((FIRST, SECOND), (SECOND, FIRST)):
        committed = file + datasets.commitment(mine, prefix)
        dataset = msgspec.structs.replace(described, parts=datasets.describe([committed]))
        assert datasets.open_sealed([committed], mine, samples.ROOM, dataset).equals(table)
        with pytest.raises(AuthenticityError, match="cannot be opened as the agreement has it"):
            datasets.open_sealed([committed], other, samples.ROOM, dataset)


def test_one_commitment_under_two_keys() -> None:
    """A short key, and the same with zeros after it, have one HMAC; a room takes keys of one size only."""
    short = b"\1" * 16
    long = short + bytes(16)
    table = samples.people()
    described, sealed = samples.dataset("people", "clinic", table, samples.PEOPLE_USES, long)
    prefix = datasets.aad_prefix(samples.ROOM, "people", 1, 0, described.terms)
    label = b"kluis-dataset-key/1|" + prefix
    assert hmac.digest(short, label, "sha256") == datasets.commitment(long, prefix)
    file = _two_keyed(table, sealed[: -datasets.COMMITMENT_SIZE], prefix, (short, long))
    for key in (short, long):
        decryption = pl.ParquetDecryptionProperties(footer_key=key, aad_prefix=prefix)
        assert pl.read_parquet(io.BytesIO(file), decryption=decryption).equals(table)
    committed = file + datasets.commitment(long, prefix)
    dataset = msgspec.structs.replace(described, parts=datasets.describe([committed]))
    assert datasets.open_sealed([committed], long, samples.ROOM, dataset).equals(table)
    with pytest.raises(AuthenticityError, match="cannot be opened as the agreement has it"):
        datasets.open_sealed([committed], short, samples.ROOM, dataset)
    with pytest.raises(FormatError, match=r"^data key: want 32 bytes, got 16$"):
        datasets.seal(table, short, samples.ROOM, "people", 1, described.terms)


def with_sealed_footer(plain: bytes, like: bytes, prefix: bytes, key: bytes) -> bytes:
    """A Parquet file with plain pages, and its footer encrypted.

    Args:
        plain: the file.
        like: a sealed file, whose description of the encryption it takes over.
        prefix: of the additional data.
        key: of the footer.
    """
    nonce = bytes(12)
    return _with_footer(
        plain, like, prefix, lambda footer, aad: nonce + AESGCM(key).encrypt(nonce, footer, aad)
    )


def _two_keyed(table: pl.DataFrame, like: bytes, prefix: bytes, keys: tuple[bytes, bytes]) -> bytes:
    """A file of the table with plain pages, and a footer for both keys.

    Args:
        table: that it has under either key.
        like: a sealed file, whose description of the encryption it takes over.
        prefix: of the additional data.
        keys: the two.
    """
    out = io.BytesIO()
    table.write_parquet(out)
    return _with_footer(out.getvalue(), like, prefix, lambda footer, aad: _sealed(footer, aad, keys))


def _with_footer(plain: bytes, like: bytes, prefix: bytes, seal: Callable[[bytes, bytes], bytes]) -> bytes:
    footer = _footer(like)
    rest = (each for each in range(len(footer)) if _size(footer[each : each + 4]) == len(footer) - each - 4)
    at = next(rest)
    described = footer[:at]
    unique = described[(begin := described.index(b"\x08", 3) + 1) : begin + 8]
    body = seal(_footer(plain), prefix + unique + b"\0")
    whole = described + len(body).to_bytes(4, "little") + body
    pages = plain[4 : -8 - len(_footer(plain))]
    return b"PARE" + pages + whole + len(whole).to_bytes(4, "little") + b"PARE"


def _size(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _footer(file: bytes) -> bytes:
    return file[-8 - _size(file[-8:-4]) : -8]


def _sealed(metadata: bytes, aad: bytes, keys: tuple[bytes, bytes]) -> bytes:
    """Nonce, ciphertext and tag that are the metadata under both keys."""
    first, second = keys
    one = metadata[:-1] + BYTES_OF_FIELD_20  # and its end after that field
    two = FIELD_1 + metadata[1:]
    for number in itertools.count():
        nonce = number.to_bytes(12, "big")
        begins = _xor(_xor(one, _stream(first, nonce, 16)), _stream(second, nonce, 16))
        # Under the second key a field of bytes, 10 or later, whose size has two bytes and leads past ``one``.
        at = 3 + (begins[1] & 127 | begins[2] << 7)
        sized = begins[1] & 128 > begins[2] & 128
        if begins[0] & 15 == 8 and begins[0] >> 4 > 9 and sized and at > len(one) + 8:
            break
    end = at + len(two)
    free = -(-end // 16) * 16
    size = free + 17
    left = size - len(one) - 4
    one += bytes((left & 127 | 128, left >> 7 & 127 | 128, left >> 14))
    streams = _stream(first, nonce, size), _stream(second, nonce, size)
    made = bytearray(size)
    made[: len(one)] = _xor(one, streams[0])
    made[at:end] = _xor(two, streams[1][at:end])
    made[-1] = streams[0][-1]
    powers = [_power(_hash_key(each), -(-size // 16) - free // 16 + 1) for each in keys]
    apart = _tag(first, nonce, aad, made) ^ _tag(second, nonce, aad, made)
    made[free : free + 16] = _product(apart, _power(powers[0] ^ powers[1], (1 << 128) - 2)).to_bytes(
        16, "big"
    )
    whole = bytes(made) + _tag(first, nonce, aad, made).to_bytes(16, "big")
    for key in keys:
        AESGCM(key).decrypt(nonce, whole, aad)
    return nonce + whole


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=False))


def _encrypt(key: bytes, blocks: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    counted = (nonce + (2 + each).to_bytes(4, "big") for each in range(-(-size // 16)))
    return _encrypt(key, b"".join(counted))[:size]


def _hash_key(key: bytes) -> int:
    return int.from_bytes(_encrypt(key, bytes(16)), "big")


def _tag(key: bytes, nonce: bytes, aad: bytes, text: bytes | bytearray) -> int:
    sizes = (8 * len(aad)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    data = aad + bytes(-len(aad) % 16) + bytes(text) + bytes(-len(text) % 16) + sizes
    hashed, by = 0, _hash_key(key)
    for at in range(0, len(data), 16):
        hashed = _product(hashed ^ int.from_bytes(data[at : at + 16], "big"), by)
    return hashed ^ int.from_bytes(_encrypt(key, nonce + b"\0\0\0\1"), "big")


def _product(x: int, y: int) -> int:
    """In GCM's field, where the first bit is the constant term."""
    product = 0
    for bit in range(127, -1, -1):
        if y >> bit & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def _power(x: int, exponent: int) -> int:
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = _product(result, x)
        x, exponent = _product(x, x), exponent >> 1
    return result
