"""Signed roots: a node's signature as JSON, the service's as COSE."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.ccf import signature, tables
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.signature import NodeSignature, ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, cbor, jcs
from kluis.formats.ietf import cose
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

NODE = "ab" * 32
MADE = NodeSignature(
    node=NODE,
    view=2,
    seqno=16,
    root=bytes(32),
    signature=b"\x30\x00",
    certificate="-----BEGIN CERTIFICATE-----\n",
    others=(("commit_seqno", 0), ("commit_view", 0), ("hashed_nonce", "0" * 64)),
)
GOOD = MADE.encode()
KEY = ec.generate_private_key(ec.SECP384R1())
HEADERS = signature.protected_headers(
    TxId(2, 16), "cd" * 32, "service.example.com", "ledger.signature", 1747084439
)
COSE = cose.sign1(bytes(32), KEY, HEADERS, detached=True)


def test_node_signature() -> None:
    """The members are in the order of the alphabet, as CCF writes them."""
    assert GOOD.decode() == (
        '{"cert":"-----BEGIN CERTIFICATE-----\\n","commit_seqno":0,"commit_view":0,'
        f'"hashed_nonce":"{"0" * 64}","node":"{NODE}","root":"{"0" * 64}","seqno":16,"sig":"MAA=","view":2}}'
    )
    assert NodeSignature.parse(GOOD, "signature") == MADE


def test_without_a_certificate() -> None:
    """A certificate that is empty, and none, are two things, and both are read."""
    for text, certificate in (('"cert":"",', ""), ("", None)):
        raw = f'{{{text}"node":"{NODE}","root":"{"0" * 64}","seqno":16,"sig":"MAA=","view":2}}'.encode()
        read = NodeSignature.parse(raw, "signature")
        assert (read.certificate, read.others, read.encode()) == (certificate, (), raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node": "ab"}, "signature.node: want 32 bytes, got 1"),
        ({"node": NODE.upper()}, "signature.node: is not lower-case hex"),
        ({"root": 1}, "signature.root: want text, got an integer"),
        ({"seqno": 0}, "signature.seqno: want 1..9007199254740991, got 0"),
        ({"view": 1 << 31}, "signature.view: want 0..2147483647, got 2147483648"),
        ({"sig": "MA"}, "signature.sig: is not base64, or not the one of its bytes"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    """A member that is missing or wrong is named."""
    value = jcs.loads(GOOD, "signature")
    assert isinstance(value, dict)
    with pytest.raises(FormatError) as caught:
        NodeSignature.parse(jcs.dumps({**value, **change}), "signature")
    assert str(caught.value) == message


def test_spaces_are_refused() -> None:
    """JSON with spaces would not be written back to the same bytes."""
    with pytest.raises(FormatError):
        NodeSignature.parse(GOOD.replace(b",", b", "), "signature")


def test_service_signature() -> None:
    """The protected header is, byte for byte, in CCF's order."""
    read = ServiceSignature.parse(COSE, "signature")
    assert (read.txid, read.key_id, read.message.encode()) == (TxId(2, 16), "cd" * 32, COSE)
    assert read.message.protected.hex() == (
        "a5013822045840" + b"cd".hex() * 32 + "19018b02"
        "0fa3061a68226497" + "0173" + b"service.example.com".hex() + "0270" + b"ledger.signature".hex() + "66"
        + b"ccf.v1".hex() + "a16474786964" + "64" + b"2.16".hex()
    )  # fmt: skip
    value = signature.encode_value(COSE)
    assert ServiceSignature.parse_value(value, "signature") == read
    assert value == b'"' + b64.encode(COSE).encode() + b'"'


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({395: 3}, UnsupportedError, "signature.protected.vds: want 2, got 3"),
        ({395: None}, FormatError, "signature.protected.vds: want an integer, got null"),
        ({4: b"cd" * 31}, FormatError, "signature.protected.kid: is 62 bytes, want 64"),
        ({4: b"CD" * 32}, FormatError, "signature.protected.kid: want 64 hexadecimal digits"),
        ({"ccf.v1": 1}, FormatError, "signature.protected.ccf.v1: want a map, got an integer"),
        ({"ccf.v1": {"txid": "2"}}, FormatError, "signature.protected.ccf.v1.txid: want VIEW.SEQNO, got '2'"),
        ({1: -8}, UnsupportedError, "signature.protected: want algorithm -7 or -35 or -36, got -8"),
    ],
)
def test_service_signature_refused(change: dict[Any, Any], error: type[FormatError], message: str) -> None:
    """A header that is missing or wrong is named."""
    protected = cbor2.dumps({1: -35, **HEADERS, **change})
    raw = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, None, bytes(96)]))
    with pytest.raises(error) as caught:
        ServiceSignature.parse(raw, "signature")
    assert str(caught.value) == message


@given(mutations(GOOD))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = NodeSignature.parse(data, "signature")
    except FormatError:
        return
    assert read.encode() == data


@given(mutations(COSE))
@PROPERTY
def test_same_message_or_refused(data: bytes) -> None:
    """Likewise the service's."""
    try:
        read = ServiceSignature.parse(data, "signature")
    except FormatError:
        return
    assert read.message.encode() == data


@real.needed
@pytest.mark.parametrize(
    ("name", "nodes", "services"), [("acme", 8, 8), ("flipflop", 23, 5), ("double_sealed", 156, 156)]
)
def test_real(name: str, nodes: int, services: int) -> None:
    """Every signature of real ledgers parses, and is written back to the same bytes."""
    found = [0, 0]
    for raw in real.entries(name):
        entry = Entry.parse(raw, "entry")
        writes = PublicDomain.parse(entry.public, "entry").writes
        if value := writes.get(tables.SIGNATURES, {}).get(tables.ONLY):
            read = NodeSignature.parse(value, "signature")
            assert (read.encode(), read.view, read.seqno) == (value, entry.view, entry.seqno)
            found[0] += 1
        if value := writes.get(tables.COSE_SIGNATURES, {}).get(tables.ONLY):
            signed = ServiceSignature.parse_value(value, "signature")
            assert (signature.encode_value(signed.message.encode()), signed.txid) == (
                value,
                TxId(entry.view, entry.seqno),
            )
            found[1] += 1
    assert found == [nodes, services]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
@pytest.mark.parametrize("issued_at", [0, 23, 24, 255, 1 << 16, 1_800_000_000, 1 << 40])
@pytest.mark.parametrize("issuer", ["service.example.com", "i" * 300, "1.1"])
def test_encoded_headers_are_those_of_the_map(curve: ec.EllipticCurve, issued_at: int, issuer: str) -> None:
    """For each time, transaction and name."""
    made = signature.ProtectedHeaders(curve, "cd" * 32, issuer, "subject")
    for txid in (TxId(1, 1), TxId(2, 16), TxId((1 << 31) - 1, 1 << 50)):
        headers = signature.protected_headers(txid, "cd" * 32, issuer, "subject", issued_at)
        whole = {cose.ALGORITHM: cose.algorithm_of(curve), **headers}
        assert made.encode(txid, issued_at) == cbor.dumps(whole)
