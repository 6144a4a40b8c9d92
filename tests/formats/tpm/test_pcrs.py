"""PCR values, in the encodings that tools write."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId
from tests.strategies import PROPERTY, mutations
from tests.vectors import MISSING, Vector, found

VALUES = {HashId.SHA1: {16: b"a" * 20}, HashId.SHA256: {0: b"b" * 32, 7: b"c" * 32}}
REAL = [vector for tee in ("tpm", "azure") for vector in found(tee) if "pcrs" in vector]


def _tools(selections: list[tuple[int, bytes]], lists: list[list[bytes]]) -> bytes:
    """What ``tpm2 quote --pcrs`` writes."""
    out = len(selections).to_bytes(4, "little")
    for bank, bitmap in selections:
        out += bank.to_bytes(2, "little") + b"\x03" + bitmap + b"\0\0"
    out += bytes(8 * (16 - len(selections))) + len(lists).to_bytes(4, "little")
    for digests in lists:
        slots = b"".join(len(d).to_bytes(2, "little") + d.ljust(64, b"\0") for d in digests)
        out += len(digests).to_bytes(4, "little") + slots.ljust(8 * 66, b"\0")
    return out


TOOLS = _tools([(0x4, b"\x00\x00\x01"), (0xB, b"\x81\x00\x00")], [[b"a" * 20, b"b" * 32, b"c" * 32]])


def test_encodings() -> None:
    """JSON by name or number, a single bank, and the tools' own structure all give the same."""
    assert pcrs.parse(pcrs.dumps(VALUES)) == VALUES
    assert pcrs.parse(b'{"0xb": {"0": "%s"}}' % (b"62" * 32)) == {HashId.SHA256: {0: b"b" * 32}}
    assert pcrs.parse(b'{"0": "%s"}' % (b"62" * 32)) == {HashId.SHA256: {0: b"b" * 32}}
    assert pcrs.parse(b"{}") == {}
    assert pcrs.parse(TOOLS) == VALUES


@pytest.mark.skipif(not REAL, reason=MISSING)
@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.name)
def test_real(vector: Vector) -> None:
    """Real values are read."""
    data = vector.part("pcrs")
    recorded = json.loads(data)
    banks = recorded if any(isinstance(item, dict) for item in recorded.values()) else {"0xb": recorded}
    assert pcrs.parse(data) == {
        HashId(int(bank, 16)): {int(i): bytes.fromhex(v) for i, v in held.items()}
        for bank, held in banks.items()
    }


DUMP = [v for v in found("tpm") if "pcrs" not in v and "original" in v]


@pytest.mark.skipif(not DUMP, reason=MISSING)
@pytest.mark.parametrize("vector", DUMP, ids=lambda vector: vector.name)
def test_real_dump(vector: Vector) -> None:
    """The tools' PCR dump for a quote has the PCRs that the quote selects."""
    values = pcrs.parse(vector.part("original"))
    assert [[f"{bank:#x}", sorted(held)] for bank, held in values.items()] == vector.known["pcr_selection"]


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b'{"md5": {}}', "want banks", "bad_type"),
        (b'{"sha256": {}, "0xb": {}}', "bank sha256 appears twice", "duplicate_key"),
        (b'{"sha256": {"24": ""}}', "want indices 0..23, got '24'", "bad_encoding"),
        (b'{"sha256": {"00": ""}}', "want indices 0..23, got '00'", "bad_encoding"),
        (b'{"sha256": {"0": "aa"}}', "sha256.0: want 32 bytes of hex", "bad_length"),
        (b'{"sha256": {"0": "%s"}}' % (b"a " * 32), "sha256.0: want 32 bytes of hex", "bad_length"),
        (b'{"sha256": {"0": "%s"}}' % (b"g" * 64), "sha256.0: want 32 bytes of hex", "bad_length"),
        (b'{"sha256": {"0": 1}}', "sha256.0: want 32 bytes of hex", "bad_length"),
        (b'{"sha256": 1}', "want an object", "bad_type"),
        (b'{"0": "%s", "sha1": {}}' % (b"aa" * 32), "want indices 0..23, got 'sha1'", "bad_encoding"),
        (b'{"0": "aa"}', "1 bytes are no bank's", "bad_length"),
        (b'{"sha256": {"0": "%s"' % (b"a" * 70000), "must be at most 65536", "too_large"),
        (TOOLS + b"\0", "1 bytes after the end", "trailing_data"),
        (b"\x11" + TOOLS[1:], "selects 17 banks", "too_large"),
        (TOOLS[:6] + b"\x05" + TOOLS[7:], "select_size: want 0..4, got 5", "bad_length"),
        (TOOLS[:6] + b"\x01" + TOOLS[7:], "select_size", "bad_length"),
        (TOOLS[:132] + b"\xff" + TOOLS[133:], "255 lists", "too_large"),
        (TOOLS[:136] + b"\x09" + TOOLS[137:], "a list of 9 digests", "too_large"),
        (TOOLS[:140] + b"\x41" + TOOLS[141:], "a digest of 65 bytes is in slot 0", "bad_length"),
        (TOOLS[:136] + b"\x02" + TOOLS[137:], "a digest of 32 bytes is in slot 2", "bad_length"),
        (_tools([(0xB, b"\x03\0\0")], [[b"b" * 32]]), "want 2 values, got 1", "bad_length"),
        (_tools([(0xB, b"\x01\0\0")], [[b"b" * 20]]), "sha256.0: want 32 bytes, got 20", "bad_length"),
        (
            _tools([(0xB, b"\x01\0\0")] * 2, [[b"b" * 32] * 2]),
            "PCR 0 of sha256 appears twice",
            "duplicate_key",
        ),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """Each error states what, where, and the expected and actual value."""
    with pytest.raises(FormatError, match=message) as caught:
        pcrs.parse(data)
    assert caught.value.code == code


def test_fourth_byte_of_a_selection() -> None:
    """A selection may have a fourth byte; no TPM has the PCRs that it would name."""
    data = bytearray(_tools([(0xB, b"\x00\x00\x00")], [[b"b" * 32]]))
    data[6], data[10] = 4, 1
    with pytest.raises(FormatError, match=r"sha256\.24: want indices 0\.\.23"):
        pcrs.parse(bytes(data))


@PROPERTY
@given(mutations(TOOLS, pcrs.dumps(VALUES)))
def test_read_again_or_refused(data: bytes) -> None:
    """Whatever parses is read again from what is written; only our errors escape."""
    try:
        parsed = pcrs.parse(data)
    except FormatError:
        return
    assert pcrs.parse(pcrs.dumps(parsed)) == parsed
