"""Endorsements of one identity of a service by the next."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.ccf import endorsement, tables
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.endorsement import Endorsement
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import b64, jcs
from kluis.formats.ietf import cose
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

KEY = ec.derive_private_key(4711, ec.SECP384R1())
HEADERS = endorsement.headers_of(TxId(2, 1), 1)
GOOD = endorsement.encode_first(cose.sign1(b"spki", KEY, HEADERS), TxId(2, 1), b"spki")


def test_first() -> None:
    """The first identity endorses itself, from its first entry on, without an end."""
    read = Endorsement.parse(GOOD, "endorsement")
    assert (read.start, read.end, read.root, read.previous) == (TxId(2, 1), None, None, None)
    assert (read.message.payload, read.endorsing_key) == (b"spki", b"spki")
    cose.check(read.message, KEY.public_key(), "endorsement")


@pytest.mark.parametrize(
    "change",
    [
        {"endorsement_epoch_begin": "2.2"},
        {"endorsement_epoch_end": "2.9"},
        {"endorsement_epoch_begin": "x"},
        {"endorsement": "AA=="},
        {"endorsing_key": 1},
        {"endorsement": b64.encode(cose.sign1(b"spki", KEY))},
    ],
)
def test_refused(change: dict[str, Any]) -> None:
    """A value that states another epoch than its signed header, or none, is refused."""
    with pytest.raises(FormatError):
        Endorsement.parse(jcs.dumps({**json.loads(GOOD), **change}), "endorsement")


@given(mutations(GOOD))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        Endorsement.parse(data, "endorsement")
    except FormatError:
        return


@real.needed
def test_real() -> None:
    """A recovered service's second endorsement covers the first identity, to its last root."""
    found = []
    for raw in real.entries("double_sealed"):
        writes = PublicDomain.parse(Entry.parse(raw, "entry").public, "entry").writes
        if (value := writes.get(tables.IDENTITY_ENDORSEMENT, {}).get(tables.ONLY)) is not None:
            found.append(Endorsement.parse(value, "endorsement"))
    assert [(str(each.start), str(each.end), each.previous) for each in found] == [
        ("2.1", "None", None), ("2.1", "2.483", 18), ("4.484", "2.483", 498),
    ]  # fmt: skip
    assert found[1].root is not None
