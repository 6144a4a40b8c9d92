"""Nitro documents: exactly the keys of one kind, each typed and bounded; what parses is written back."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.nitro.document import MAX_SIZE, Document, DocumentKind
from tests.strategies import PROPERTY, mutations

PROTECTED = bytes.fromhex("a1013822")
PCRS = {index: bytes((index,)) * 48 for index in range(16)}
GOOD: dict[str, Any] = {
    "module_id": "i-0-enc1",
    "digest": "SHA384",
    "timestamp": 1,
    "pcrs": PCRS,
    "certificate": b"leaf",
    "cabundle": [b"root", b"authority"],
    "public_key": b"key",
    "user_data": b"",
    "nonce": None,
}


def fields(**changes: Any) -> dict[str, Any]:
    """Good fields, with some changed; those set to ``...`` are left out."""
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}


def signed(payload: bytes, *, protected: bytes = PROTECTED, unprotected: Any = None, size: int = 96) -> bytes:
    """A message whose signature is no one's."""
    return cbor2.dumps([protected, unprotected or {}, payload, bytes(size)])


def document(**changes: Any) -> bytes:
    """A document with fields changed."""
    return signed(cbor2.dumps(fields(**changes)))


def test_reads() -> None:
    """Each field has the document's value."""
    read = Document.parse(document())
    assert read.kind is DocumentKind.ENCLAVE
    assert (read.module_id, read.timestamp, read.pcrs) == ("i-0-enc1", 1, PCRS)
    assert (read.certificate, read.cabundle) == (b"leaf", (b"root", b"authority"))
    assert (read.public_key, read.user_data, read.nonce) == (b"key", b"", None)
    assert read.encode() == document()


@pytest.mark.parametrize("key", ["public_key", "user_data", "nonce"])
def test_optional(key: str) -> None:
    """Three fields may be null, or not be there."""
    for nothing in (None, ...):
        data = document(**{key: nothing})
        read = Document.parse(data)
        assert getattr(read, key) is None
        assert read.encode() == data


def test_bounds() -> None:
    """The largest document that is still one."""
    data = document(
        module_id="i" * 256,
        timestamp=253_402_300_799_999,
        pcrs={index: bytes(48) for index in range(32)},
        certificate=bytes(1024),
        cabundle=[bytes(1024)] * 8,
        public_key=bytes(1024),
        user_data=bytes(1024),
        nonce=bytes(1024),
    )
    assert Document.parse(data).encode() == data


def test_indefinite_map_and_tag() -> None:
    """A payload of indefinite length, and tag 18, are read and written back as they came."""
    payload = b"\xbf" + cbor2.dumps(fields())[1:] + b"\xff"
    for data in (signed(payload), b"\xd2" + signed(payload)):
        read = Document.parse(data)
        assert (read.module_id, read.encode()) == ("i-0-enc1", data)


def test_kinds() -> None:
    """The key of the PCRs tells an enclave's document from a NitroTPM's."""
    data = document(pcrs=..., nitrotpm_pcrs=PCRS)
    read = Document.parse(data)
    assert (read.kind, read.kind.what) == (DocumentKind.NITROTPM, "NitroTPM document")
    assert read.encode() == data
    assert Document.parse(document()).kind.what == "Nitro document"


D = "Nitro document"
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *[
        ({key: ...}, f"{D}: {key} is missing", "bad_type")
        for key in ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle")
    ],
    *[
        ({key: None}, f"{D}.{key}: want {want}, got null", "bad_type")
        for key, want in {
            "module_id": "text",
            "digest": "text",
            "timestamp": "an integer",
            "pcrs": "a map",
            "certificate": "bytes",
            "cabundle": "a list",
        }.items()
    ],
    ({"extra": 1}, f"{D}: key 'extra' is not known here", "bad_type"),
    ({"nitrotpm_pcrs": PCRS}, "NitroTPM document: key 'pcrs' is not known here", "bad_type"),
    ({"module_id": ""}, f"{D}.module_id: is 0 long, want 1 to 256", "bad_length"),
    ({"digest": "SHA256"}, f"{D}.digest: want SHA384, got 'SHA256'", "bad_type"),
    ({"timestamp": 0}, f"{D}.timestamp: want 1..253402300799999, got 0", "bad_encoding"),
    ({"timestamp": -1}, f"{D}.timestamp: want 1..253402300799999, got -1", "bad_encoding"),
    ({"timestamp": 1 << 63}, f"{D}.timestamp: want 1..253402300799999, got {1 << 63}", "bad_encoding"),
    ({"pcrs": {}}, f"{D}.pcrs: has 0 entries, want 1 to 32", "bad_length"),
    (
        {"pcrs": {index: bytes(48) for index in range(33)}},
        f"{D}.pcrs: has 33 entries, want 1 to 32",
        "bad_length",
    ),
    ({"pcrs": {32: bytes(48)}}, f"{D}.pcrs: want an index 0..31, got 32", "bad_encoding"),
    ({"pcrs": {-1: bytes(48)}}, f"{D}.pcrs: want an index 0..31, got -1", "bad_encoding"),
    ({"pcrs": {"0": bytes(48)}}, f"{D}.pcrs: want an index 0..31, got '0'", "bad_encoding"),
    ({"pcrs": {0: bytes(32)}}, f"{D}.pcrs.0: want 48 bytes", "bad_length"),
    ({"pcrs": {0: bytes(64)}}, f"{D}.pcrs.0: want 48 bytes", "bad_length"),
    ({"pcrs": {0: "0" * 48}}, f"{D}.pcrs.0: want 48 bytes", "bad_length"),
    ({"certificate": b""}, f"{D}.certificate: is 0 bytes, want 1 to 1024", "bad_length"),
    ({"certificate": bytes(1025)}, f"{D}.certificate: is 1025 bytes, want 1 to 1024", "bad_length"),
    ({"cabundle": []}, f"{D}.cabundle: has 0 items, want 1 to 8", "bad_length"),
    ({"cabundle": [b"x"] * 9}, f"{D}.cabundle: has 9 items, want 1 to 8", "bad_length"),
    ({"cabundle": [b""]}, f"{D}.cabundle: holds 0 bytes, want 1 to 1024", "bad_length"),
    ({"cabundle": [bytes(1025)]}, f"{D}.cabundle: holds 1025 bytes, want 1 to 1024", "bad_length"),
    ({"cabundle": [None]}, f"{D}.cabundle: want bytes, got null", "bad_type"),
    ({"public_key": b""}, f"{D}.public_key: is 0 bytes, want 1 to 1024", "bad_length"),
    *[
        ({key: bytes(1025)}, f"{D}.{key}: is 1025 bytes, want {least} to 1024", "bad_length")
        for key, least in {"public_key": 1, "user_data": 0, "nonce": 0}.items()
    ],
]


@pytest.mark.parametrize(("change", "message", "code"), REFUSED, ids=[message for _, message, _ in REFUSED])
def test_refused(change: dict[str, Any], message: str, code: str) -> None:
    """A missing, additional, mistyped or out-of-range field is refused, with its name."""
    with pytest.raises(FormatError) as caught:
        Document.parse(document(**change))
    assert (str(caught.value), caught.value.code) == (message, code)


P = cbor2.dumps(fields())
TWICE = b"\xaa" + P[1:] + cbor2.dumps("nonce") + b"\x41n"
ENVELOPES = {
    "the algorithm comes from the evidence": (
        signed(P, protected=bytes.fromhex("a10126")),
        UnsupportedError,
        f"{D}.protected: want a1013822, only ES384, got a10126",
    ),
    "no algorithm": (
        signed(P, protected=b""),
        UnsupportedError,
        f"{D}.protected: want a1013822, only ES384, got ",
    ),
    "unprotected": (signed(P, unprotected={4: b"k"}), FormatError, f"{D}.unprotected: want nothing"),
    "short signature": (signed(P, size=95), FormatError, f"{D}.signature: is 95 bytes, want 96"),
    "long signature": (signed(P, size=97), FormatError, f"{D}.signature: is 97 bytes, want 96"),
    "another tag": (b"\xd1" + signed(P), FormatError, f"{D} at 0x0: tag 17 is not used here"),
    "trailing data": (
        signed(P) + bytes(16),
        FormatError,
        f"{D} at {len(signed(P)):#x}: 16 bytes after the end",
    ),
    "trailing data inside": (
        signed(P + b"\0"),
        FormatError,
        f"{D}.payload at {len(P):#x}: 1 bytes after the end",
    ),
    "a key twice": (signed(TWICE), FormatError, f"{D}.payload at {len(P):#x}: key 'nonce' appears twice"),
    "no map": (signed(b"\x80"), FormatError, f"{D}: want a map, got a list"),
    "too large": (bytes(MAX_SIZE + 1), FormatError, f"{D}: is 32769 bytes, must be at most 32768"),
}


@pytest.mark.parametrize("case", ENVELOPES)
def test_envelope(case: str) -> None:
    """Only ES384 in the protected header, no unprotected one, 96 bytes of signature, no trailing bytes."""
    data, error, message = ENVELOPES[case]
    with pytest.raises(FormatError) as caught:
        Document.parse(data)
    assert (type(caught.value), str(caught.value)) == (error, message)


SMALL = document(pcrs={0: bytes(48), 4: bytes(48)})


@given(mutations(SMALL, b"\xd2" + SMALL, signed(b"\xbf" + P[1:] + b"\xff")))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = Document.parse(data)
    except FormatError:
        return
    assert read.encode() == data
