"""One file of evidence: its parts in one order, each with its type, purpose and limit."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError
from kluis.formats.ietf.cmw import NESTED, OCTETS, Collection, Indicator, Part
from kluis.formats.kluis import evidence_file
from kluis.formats.kluis.evidence_file import (
    JSON,
    MAX_COLLATERAL,
    MAX_DOCUMENT,
    MAX_IMAGE,
    TYPE,
    EvidenceFile,
)
from tests.strategies import PROPERTY, mutations

GOOD = EvidenceFile(
    evidence=b"quote",
    runtime_data=b"{}",
    launch_configuration=b'{"a":1}',
    collateral=b"[]",
    event_log=b"log",
    image="köln",
)
BARE = EvidenceFile(evidence=b"quote")
EVIDENCE = Part(OCTETS, b"quote", Indicator.EVIDENCE)


def test_a_file_reads_back() -> None:
    """Each part is read as it was written; what is left out is None."""
    assert EvidenceFile.parse(GOOD.encode()) == GOOD
    assert EvidenceFile.parse(BARE.encode()) == BARE
    assert BARE.encode() == (
        b'{"__cmwc_t":"urn:kluis:evidence:1","evidence":["application/octet-stream","cXVvdGU",4]}'
    )
    assert evidence_file.matches(BARE.encode())
    assert not evidence_file.matches(Collection({"evidence": EVIDENCE}).encode())


def test_evidence_in_several_parts_is_a_collection_within() -> None:
    """A TPM's parts travel as one part, of the type of a collection."""
    several = Collection({"tpm_quote": Part(OCTETS, b"q"), "pcrs": Part(JSON, b"{}")}).encode()
    data = EvidenceFile(evidence=several).encode()
    assert Collection.parse(data).parts["evidence"].media_type == NESTED
    assert EvidenceFile.parse(data).evidence == several


def _of(parts: dict[str, Part], kind: str | None = TYPE) -> bytes:
    return Collection(parts, kind).encode()


ORDER = "evidence, runtime_data, launch_configuration, collateral, event_log, image"
REFUSED: dict[str, tuple[bytes, type[KluisError], str]] = {
    "another version": (
        _of({"evidence": EVIDENCE}, "urn:kluis:evidence:2"),
        UnsupportedError,
        "evidence file: want type urn:kluis:evidence:1, got urn:kluis:evidence:2",
    ),
    "no type": (
        _of({"evidence": EVIDENCE}, None),
        UnsupportedError,
        "evidence file: want type urn:kluis:evidence:1, got none",
    ),
    "no evidence": (
        _of({"collateral": Part(JSON, b"{}", Indicator.ENDORSEMENTS)}),
        AuthenticityError,
        "evidence file: want a part evidence, got collateral",
    ),
    "two pieces of evidence": (
        _of({"evidence": EVIDENCE, "evidence2": EVIDENCE}),
        FormatError,
        f"evidence file: want parts {ORDER}, got evidence2",
    ),
    "two parts of one name": (
        BARE.encode()[:-1] + b"," + BARE.encode()[len(b'{"__cmwc_t":"urn:kluis:evidence:1",') :],
        FormatError,
        "CMW collection at 0x57: label 'evidence' appears twice",
    ),
    "a root": (
        _of({"evidence": EVIDENCE, "root": Part(OCTETS, b"pem")}),
        FormatError,
        f"evidence file: want parts {ORDER}, got root",
    ),
    "another order": (
        _of({"image": Part("text/plain", b"a"), "evidence": EVIDENCE}),
        FormatError,
        f"evidence file: want parts in the order {ORDER}",
    ),
    "another type": (
        _of({"evidence": Part(JSON, b"{}", Indicator.EVIDENCE)}),
        FormatError,
        "evidence file.evidence: want application/octet-stream of purpose 4,"
        " got application/json of purpose 4",
    ),
    "another purpose": (
        _of({"evidence": EVIDENCE, "collateral": Part(JSON, b"{}", Indicator.EVIDENCE)}),
        FormatError,
        "evidence file.collateral: want application/json of purpose 2, got application/json of purpose 4",
    ),
    "no purpose": (
        _of({"evidence": Part(OCTETS, b"quote")}),
        FormatError,
        "evidence file.evidence: want application/octet-stream of purpose 4,"
        " got application/octet-stream of purpose none",
    ),
    "an empty part": (
        _of({"evidence": EVIDENCE, "runtime_data": Part(JSON, b"", Indicator.EVIDENCE)}),
        FormatError,
        f"evidence file.runtime_data: want 1..{MAX_DOCUMENT} bytes, got 0",
    ),
    "an image that is not UTF-8": (
        _of({"evidence": EVIDENCE, "image": Part("text/plain", b"\xff")}),
        FormatError,
        "evidence file.image: is not UTF-8",
    ),
    "an image that moves the cursor": (
        _of({"evidence": EVIDENCE, "image": Part("text/plain", b"\x1b[2Jok")}),
        FormatError,
        "evidence file.image: want printable text, got '\\x1b[2Jok'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Another file than :meth:`encode` writes is refused, with the reason."""
    data, kind, message = REFUSED[case]
    with pytest.raises(kind) as error:
        EvidenceFile.parse(data)
    assert error.value.message == message


@pytest.mark.parametrize(
    ("name", "most"),
    [("runtime_data", MAX_DOCUMENT), ("collateral", MAX_COLLATERAL), ("image", MAX_IMAGE)],
)
def test_a_part_has_a_limit(name: str, most: int) -> None:
    """A part of its limit is read; one byte more is neither written nor read."""
    value: bytes | str = "a" * most if name == "image" else bytes(most)
    full = dataclasses.replace(BARE, **{name: value})
    assert EvidenceFile.parse(full.encode()) == full
    with pytest.raises(FormatError) as error:
        dataclasses.replace(BARE, **{name: value + value[:1]}).encode()
    assert error.value.message == f"evidence file.{name}: want 1..{most} bytes, got {most + 1}"
    part = Collection.parse(full.encode()).parts[name]
    more = dataclasses.replace(part, value=part.value + b"a")
    with pytest.raises(FormatError, match=f"want 1..{most} bytes, got {most + 1}"):
        EvidenceFile.parse(_of({"evidence": EVIDENCE, name: more}))


def test_an_image_name_is_printable_when_it_is_written() -> None:
    """A file that could not be read is not written."""
    for name in ("a\nb", "\ud800", "\u3164"):
        with pytest.raises(FormatError, match="image"):
            dataclasses.replace(BARE, image=name).encode()


@given(mutations(GOOD.encode(), BARE.encode()))
@PROPERTY
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written back as the same bytes; only our errors escape."""
    try:
        parsed = EvidenceFile.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
