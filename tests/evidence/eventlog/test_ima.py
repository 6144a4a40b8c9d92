"""IMA logs against quoted PCRs: what they prove, up to the quote, and nothing that does not replay."""

from __future__ import annotations

import dataclasses

import pytest

from kluis.errors import AuthenticityError
from kluis.evidence.eventlog.ima import prove_records, replay
from kluis.formats.eventlog.ima import Record
from kluis.formats.tpm.algorithm import HashId
from tests.formats.eventlog.imas import REGISTER, extended, of_file, oldest, record, violation

FIRST, SECOND, THIRD = of_file("/init", b"1"), violation("/log"), oldest("/bin/sh", b"3")
ALL = (FIRST, SECOND, THIRD)


def held(
    *records: Record, bank: HashId = HashId.SHA256, padded: bool = False
) -> dict[HashId, dict[int, bytes]]:
    """Quoted values after these."""
    return {bank: {REGISTER: extended(bank, *records, padded=padded)}}


@pytest.mark.parametrize("bank", [HashId.SHA1, HashId.SHA256])
def test_up_to_the_quote(bank: HashId) -> None:
    """Entries after the quote are left out; all before it are proven."""
    for count in (1, 2, 3):
        found = prove_records(ALL, held(*ALL[:count], bank=bank))
        assert (found.records, found.hash) == (ALL[:count], bank)
    assert prove_records(ALL, {bank: {REGISTER: bytes(bank.size)}}).records == ()


@pytest.mark.parametrize("bank", [HashId.SHA1, HashId.SHA256])
def test_replay(bank: HashId) -> None:
    """A whole log extends its registers as Linux would: each by its own records, violations by ones."""
    other = record("x", b"", register=11)
    value = replay((other, *ALL), bank)
    assert value == {REGISTER: extended(bank, *ALL), 11: extended(bank, other)}


def test_older_kernels() -> None:
    """Before 5.8 every bank is extended by the SHA-1 digest: no more than SHA-1 proves it."""
    found = prove_records(ALL, held(*ALL, padded=True))
    assert (found.records, found.hash) == (ALL, HashId.SHA1)


def test_the_strongest_bank_counts() -> None:
    """Where two banks were quoted, SHA-1 proves nothing that SHA-256 denies."""
    both = held(*ALL, bank=HashId.SHA1) | held(THIRD)
    with pytest.raises(AuthenticityError):
        prove_records(ALL, both)


@pytest.mark.parametrize(
    ("records", "values", "message"),
    [
        (
            (dataclasses.replace(FIRST, data=b"x"),),
            held(FIRST),
            "IMA log: record 0: want SHA-1 of its template, got another digest",
        ),
        ((FIRST,), {HashId.SHA256: {7: bytes(32)}}, "IMA log: want PCRs [10] quoted in one bank, got others"),
        (
            (FIRST, record("x", b"", register=11)),
            held(FIRST),
            "IMA log: want PCRs [10, 11] quoted in one bank, got others",
        ),
        (
            (THIRD, FIRST),
            held(FIRST, THIRD),
            "IMA log: want PCRs [10] as they were quoted, got others at each of 2 records",
        ),
        (
            (FIRST, dataclasses.replace(THIRD, digest=bytes(20))),
            held(FIRST, THIRD),
            "IMA log: want PCRs [10] as they were quoted, got others at each of 2 records",
        ),
    ],
)
def test_refused(records: tuple[Record, ...], values: dict[HashId, dict[int, bytes]], message: str) -> None:
    """A digest that is not the template's, a register nobody quoted, and another order."""
    with pytest.raises(AuthenticityError) as refused:
        prove_records(records, values)
    assert refused.value.message == message
