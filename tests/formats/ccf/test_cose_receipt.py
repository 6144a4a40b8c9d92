"""COSE receipts: strictly read, and written back to the same bytes."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.ccf import cose_receipt, signature
from kluis.formats.ccf.cose_receipt import CoseReceipt, Proof
from kluis.formats.ccf.receipt import Components, Step
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.formats.ietf.cose import Sign1
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

KEY = ec.generate_private_key(ec.SECP384R1())
HEADERS = signature.protected_headers(TxId(2, 16), "cd" * 32, "issuer", "subject", 1)
SIGNED = Sign1.parse(cose.sign1(bytes(32), KEY, HEADERS, detached=True), "signature", detached=True)
PROOF = Proof(Components(b"w" * 32, "ce:2.3:00", bytes(32)), (Step(True, b"l" * 32), Step(False, b"r" * 32)))
GOOD = cose_receipt.encode(SIGNED, [PROOF])
LEAF = "receipt.proof.leaf: want 32 bytes, text and 32 bytes"


def message(unprotected: Any, payload: bytes | None = None) -> bytes:
    """A receipt with this unprotected header."""
    return cbor2.dumps(cbor2.CBORTag(18, [SIGNED.protected, unprotected, payload, SIGNED.signature]))


def proof(leaf: Any = (b"w" * 32, "e", bytes(32)), path: Any = ()) -> bytes:
    """A receipt with one proof of these parts."""
    return message({396: {-1: [cbor2.dumps({1: list(leaf), 2: list(path)})]}})


def test_layout() -> None:
    """The signature's own headers, and proofs as byte strings in the unprotected one."""
    value = cbor2.loads(GOOD).value
    assert (value[0], value[2], value[3]) == (SIGNED.protected, None, SIGNED.signature)
    assert list(value[1]) == [396]
    assert cbor2.loads(value[1][396][-1][0]) == {
        1: [b"w" * 32, "ce:2.3:00", bytes(32)],
        2: [[True, b"l" * 32], [False, b"r" * 32]],
    }
    read = CoseReceipt.parse(GOOD, "receipt")
    assert (read.proofs, read.signed.txid, read.encode()) == ((PROOF,), TxId(2, 16), GOOD)
    twice = cose_receipt.encode(SIGNED, [PROOF, PROOF])
    assert CoseReceipt.parse(twice, "receipt").encode() == twice


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (message({}), FormatError, "receipt.unprotected: proofs is missing"),
        (message({396: {-1: [b"\xa0"]}, 1: 1}), FormatError, "receipt.unprotected: holds what must be "),
        (message({396: {}}), FormatError, "receipt.unprotected.proofs: has 0 entries, want 1 to 1"),
        (message({396: {-2: [b"\xa0"]}}), FormatError, "receipt.proofs: inclusion is missing"),
        (message({396: {-1: []}}), FormatError, "receipt.proofs.inclusion: has 0 items, want 1 to 64"),
        (message({396: {-1: ["x"]}}), FormatError, "receipt.proofs.inclusion: want bytes, got text"),
        (message({396: {-1: [b"\xa0"]}}), FormatError, "receipt.proof: leaf is missing"),
        (message({396: {-1: [b"\xa0"]}}, b"p"), UnsupportedError, "receipt.payload: is attached"),
        (proof(leaf=(b"w", "e", bytes(32))), FormatError, LEAF),
        (proof(leaf=(b"w" * 32, b"e", bytes(32))), FormatError, LEAF),
        (proof(path=[[1, bytes(32)]]), FormatError, "receipt.proof.path: want a boolean and 32 bytes"),
        (proof(path=[[True, bytes(31)]]), FormatError, "receipt.proof.path: want a boolean and 32 bytes"),
        (proof(path=[[True, bytes(32)]] * 65), FormatError, "receipt.proof.path: has 65 items, want 0 to 64"),
    ],
)  # fmt: skip
def test_refused(data: bytes, error: type[FormatError], said: str) -> None:
    """What is no receipt is refused, with what and where."""
    with pytest.raises(error) as caught:
        CoseReceipt.parse(data, "receipt")
    assert str(caught.value).startswith(said)


@given(mutations(GOOD))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = CoseReceipt.parse(data, "receipt")
    except FormatError:
        return
    assert read.encode() == data


@real.needed
def test_real() -> None:
    """The receipt of another writer is written back to the same bytes."""
    raw = (real.CCF / "poc_dual" / "out" / "receipt.cose").read_bytes()
    read = CoseReceipt.parse(raw, "receipt")
    assert read.encode() == raw
    assert read.proofs[0].components.evidence.startswith("ce:2.6:")
