"""RA-TLS extensions: Gramine's, both, and tagged evidence."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given

from kluis.errors import AuthenticityError, KluisError, UnsupportedError
from kluis.formats.encoding import cbor
from kluis.formats.wrappers import ratls
from kluis.formats.wrappers.ratls import RaTls
from kluis.formats.x509.parts import format_oid
from tests.strategies import PROPERTY, mutations

SPKI = b"a key"


def _claims(name: str = "sha256", number: int = 1, spki: bytes = SPKI) -> bytes:
    return cbor.dumps({"pubkey-hash": cbor.dumps([number, hashlib.new(name, spki).digest()])})


def _tagged(claims: bytes) -> bytes:
    return cbor.dumps(cbor.Tagged(60000, [b"quote", claims]))


def _read(data: bytes) -> RaTls | None:
    return ratls.read({ratls.DICE_OID: data}, SPKI)


def test_raw_quote() -> None:
    """Gramine's extension is the quote, under its own identifier or Intel's."""
    gramine = format_oid(bytes.fromhex("060b06092a864886f84d8a3906"))
    assert gramine == ratls.GRAMINE_OIDS[0]
    for name in ratls.GRAMINE_OIDS:
        assert ratls.read({name: b"quote"}, SPKI) == RaTls(b"quote", SPKI)
    assert ratls.read({"2.5.29.15": b""}, SPKI) is None


@pytest.mark.parametrize(("name", "number"), [("sha256", 1), ("sha384", 7), ("sha512", 8)])
def test_tagged(name: str, number: int) -> None:
    """Tagged evidence binds claims, which name the key; it has precedence over a raw quote."""
    claims = _claims(name, number)
    both = {ratls.GRAMINE_OIDS[0]: b"other", ratls.DICE_OID: _tagged(claims)}
    assert ratls.read(both, SPKI) == RaTls(b"quote", claims)


def test_gramine_writes_these_bytes() -> None:
    """The encoding is Gramine's, byte for byte."""
    digest = hashlib.sha256(SPKI).digest()
    claims = b"\xa1\x6bpubkey-hash\x58\x24\x82\x01\x58\x20" + digest
    assert _claims() == claims
    assert _tagged(claims).startswith(b"\xd9\xea\x60\x82\x45quote\x58\x33")


def test_another_key() -> None:
    """Claims that name another key are refused before anything is verified."""
    with pytest.raises(AuthenticityError) as caught:
        _read(_tagged(_claims(spki=b"other")))
    assert caught.value.code == "key_binding"


@pytest.mark.parametrize(
    "data",
    [
        cbor.dumps([b"quote", _claims()]),
        cbor.dumps(cbor.Tagged(60000, [b"quote"])),
        _tagged(cbor.dumps({"pubkey-hash": b"", "nonce": b""})),
        _tagged(cbor.dumps({"nonce": b""})),
        _tagged(cbor.dumps({"pubkey-hash": cbor.dumps([2, b""])})),
        _tagged(cbor.dumps({"pubkey-hash": cbor.dumps([1])})),
    ],
)
def test_other_shapes(data: bytes) -> None:
    """Another shape is not guessed at."""
    with pytest.raises(UnsupportedError):
        _read(data)


@PROPERTY
@given(mutations(_tagged(_claims())))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        _read(data)
    except KluisError:
        return
