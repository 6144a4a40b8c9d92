"""Endorsements: in one form only, with bounded parts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import jcs
from kluis.formats.kluis.endorsement import MAX_SIZE, Endorsement
from tests.strategies import PROPERTY, mutations

GOOD = Endorsement(kind="snp", runtime_data=b"{}", parts={"report": b"r", "certificates": b"c"})
TEXT = GOOD.encode()


def test_document() -> None:
    """The document is canonical JSON, and reads back; its parts cannot be changed."""
    assert Endorsement.parse(TEXT) == GOOD
    assert json.loads(TEXT) == {
        "version": 1,
        "kind": "snp",
        "runtime_data": "e30",
        "parts": {"report": "cg", "certificates": "Yw"},
    }
    with pytest.raises(TypeError):
        GOOD.parts["report"] = b""  # type: ignore[index]


def _changed(**changes: object) -> bytes:
    return jcs.dumps({**json.loads(TEXT), **changes})


NAMES = (
    "ak, ak_certificate, certificates, collateral, crl, document, event_log, hcl, pcrs, quote, report,"
    " signature, td_quote"
)
REFUSED = {
    "version": (_changed(version=2), "endorsement.version: want one of [1], got 2"),
    "an unknown member": (
        _changed(more=1),
        "endorsement: want members ['kind', 'parts', 'runtime_data', 'version'],"
        " got ['kind', 'more', 'parts', 'runtime_data', 'version']",
    ),
    "a kind that is no text": (_changed(kind=1), "endorsement.kind: want text, got an integer"),
    "a long kind": (_changed(kind="a" * 33), "endorsement.kind: is 33 long, must be at most 32"),
    "an unknown part": (
        _changed(parts={"report": "cg", "x": "cg"}),
        f"endorsement.parts: want some of {NAMES}, got 'x'",
    ),
    "fourteen parts": (
        _changed(parts={str(number): "cg" for number in range(14)}),
        "endorsement.parts: has 14 members, must be at most 13",
    ),
    "an empty part": (_changed(parts={"report": ""}), "endorsement.parts.report: must not be empty"),
    "no parts": (_changed(parts={}), "endorsement.parts: want at least 1, got 0"),
    "parts in a list": (_changed(parts=[]), "endorsement.parts: want an object, got a list"),
    "a part that is no text": (
        _changed(parts={"report": 1}),
        "endorsement.parts.report: want text, got an integer",
    ),
    "a part with padding": (
        _changed(parts={"report": "cg=="}),
        "endorsement.parts.report: is not base64url, or not the one of its bytes",
    ),
    "runtime data": (
        _changed(runtime_data="="),
        "endorsement.runtime_data: is not base64url, or not the one of its bytes",
    ),
    "size": (b" " * (MAX_SIZE + 1), "endorsement: is 98305 bytes, must be at most 98304"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Each document with one fault is refused, and the fault is named."""
    data, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        Endorsement.parse(data)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"x": b"1"}, f"endorsement.parts: want some of {NAMES}, got 'x'"),
        ({"ak": b""}, "endorsement.parts.ak: must not be empty"),
        ({}, "endorsement.parts: want at least 1, got 0"),
        (
            {"ak": b"1", "certificates": bytes(1 << 20)},
            "endorsement: is 1398187 bytes, must be at most 98304; its largest part is certificates, "
            "1048576 bytes",
        ),
    ],
)
def test_not_written(parts: dict[str, bytes], message: str) -> None:
    """Nothing is written that would not be read; the largest part is named."""
    with pytest.raises(FormatError) as caught:
        Endorsement(kind="snp", runtime_data=b"{}", parts=parts).encode()
    assert caught.value.message == message


@PROPERTY
@given(mutations(TEXT))
def test_mutated(data: bytes) -> None:
    """What still reads is written as the same bytes."""
    try:
        found = Endorsement.parse(data)
    except KluisError:
        return
    assert found.encode() == data
