"""The header of a sealed model: one form, bounded, and the lengths that it implies."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, KluisError, UnsupportedError, UsageError
from kluis.formats.kluis.sealed_model import CHUNK_BYTES, Header, ModelKeys, SealedFile, spans

FILES = (SealedFile("chat/model.onnx", 5, bytes(32)), SealedFile("tokenizer.json", 0, bytes(32)))
HEADER = Header(bytes(32), bytes(32), FILES)
TOTAL = len(HEADER.encode()) + 5 + 16 + 16


def test_same_bytes() -> None:
    """To parse and write again gives the same bytes, and the first chunk follows them."""
    data = HEADER.encode()

    assert Header.parse(data, TOTAL) == (HEADER, len(data))


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (TOTAL - 1, f"sealed model: want {TOTAL} bytes, got {TOTAL - 1}"),
        (TOTAL + 1, f"sealed model: want {TOTAL} bytes, got {TOTAL + 1}"),
    ],
)
def test_another_length(total: int, message: str) -> None:
    """A file that is cut, or has bytes after its end, is refused before any key is used."""
    with pytest.raises(FormatError) as raised:
        Header.parse(HEADER.encode(), total)
    assert raised.value.message == message


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", "a/../b", ".hidden", "a/b/c/d/e", "", "x\n", "x" * 65, "a\\b", "é"]
)
def test_names(name: str) -> None:
    """A file's name cannot lead out of the model."""
    data = dataclasses.replace(HEADER, files=(SealedFile(name, 0, bytes(32)),)).encode()
    with pytest.raises(FormatError, match="file name"):
        Header.parse(data, len(data) + 16)


def test_files_are_sorted_and_unique() -> None:
    """The same files have one order, so one header."""
    for files in (FILES[::-1], (FILES[0], FILES[0])):
        data = dataclasses.replace(HEADER, files=files).encode()
        with pytest.raises(FormatError) as raised:
            Header.parse(data, TOTAL)
        assert raised.value.message == "sealed model.files: want sorted names, none twice"


def test_other_documents() -> None:
    """Another file, a cut header, a header that is too large, and another version are refused."""
    data = HEADER.encode()
    for bad, message in (
        (b"", "sealed model: does not begin as one"),
        (b"KLUISEAL\x01" + data[9:], "sealed model: does not begin as one"),
        (data[:-1], f"sealed model.header: needs {len(data) - 13} bytes, {len(data) - 14} left"),
        (
            data[:9] + b"\xff\xff\xff\x7f" + data[13:],
            "sealed model.header: is 2147483647 bytes, must be at most 131072",
        ),
    ):
        with pytest.raises(FormatError) as raised:
            Header.parse(bad, TOTAL)
        assert raised.value.message == message
    with pytest.raises(UnsupportedError):
        Header.parse(data.replace(b'"version":1', b'"version":2'), TOTAL)


@given(st.binary(max_size=40), st.integers(0, 400))
def test_any_change(replacement: bytes, at: int) -> None:
    """A changed header is refused with an error of ours, or is another header."""
    data = HEADER.encode()
    changed = data[:at] + replacement + data[at + len(replacement) :]
    try:
        header, first = Header.parse(changed, TOTAL)
    except KluisError:
        return
    assert header.encode() == changed[:first]


def test_spans() -> None:
    """An empty file has one empty chunk, and the last chunk may be shorter."""
    assert list(spans(0)) == [(0, 0)]
    assert list(spans(CHUNK_BYTES)) == [(0, CHUNK_BYTES)]
    assert list(spans(CHUNK_BYTES + 1)) == [(0, CHUNK_BYTES), (CHUNK_BYTES, CHUNK_BYTES + 1)]


def test_a_key_of_another_length() -> None:
    """A short key is refused, and its bytes are not in the error."""
    with pytest.raises(UsageError) as raised:
        ModelKeys(b"short", bytes(32))
    assert raised.value.message == "model key: want 32 bytes, got 5"
