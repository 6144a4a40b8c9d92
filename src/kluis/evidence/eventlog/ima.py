"""Check an IMA log against quoted PCRs. A running machine may append to the log after the quote.

A bank is extended by its own hash of each record's template; Linux before 5.8 extends the SHA-1 digest padded
with zeros. Spec: Linux, ``security/integrity/ima/ima_queue.c``, ``ima_crypto.c``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from kluis.errors import AuthenticityError
from kluis.formats.eventlog.ima import WHAT, Record
from kluis.formats.tpm.algorithm import HashId
from kluis.frozen import frozen

_STRONGEST_FIRST: Final = (HashId.SHA512, HashId.SHA384, HashId.SHA256, HashId.SHA1)


@frozen
class Proven:
    """Records that PCRs prove.

    Attributes:
        records: in order.
        hash: that proves them; SHA-1 if Linux extends nothing else.
    """

    records: tuple[Record, ...] = ()
    hash: HashId = HashId.SHA256


def prove_records(records: tuple[Record, ...], values: Mapping[HashId, Mapping[int, bytes]]) -> Proven:
    """The records that quoted PCRs prove: those up to the quote.

    1. A record's digest is SHA-1 of its template, or the record is marked as a violation.
    2. Every register that the log extends was quoted.
    3. At some record the log replays to the quoted values of all registers; later records were measured after
       the quote, and are left out.

    Args:
        records: of a log, of any origin.
        values: proven PCR values, by bank; the strongest bank is used.

    Raises:
        AuthenticityError: a step fails.
    """
    for number, record in enumerate(records):  # 1
        if (
            not record.violated
            and hashlib.sha1(record.hashed, usedforsecurity=False).digest() != record.digest
        ):
            raise AuthenticityError(
                f"{WHAT}: record {number}: want SHA-1 of its template, got another digest", code="event_log"
            )
    registers = {record.register for record in records}
    bank = next((bank for bank in _STRONGEST_FIRST if registers <= values.get(bank, {}).keys()), None)
    if bank is None:  # 2
        raise AuthenticityError(
            f"{WHAT}: want PCRs {sorted(registers)} quoted in one bank, got others", code="event_log"
        )
    want = {register: values[bank][register] for register in registers}
    for extended in (_compute_digest, _pad_digest):  # 3
        if (count := _length(records, want, bank, extended)) is not None:
            return Proven(records[:count], bank if extended is _compute_digest else HashId.SHA1)
    raise AuthenticityError(
        f"{WHAT}: want PCRs {sorted(registers)} as they were quoted, got others at each of "
        f"{len(records)} records",
        code="event_log",
    )


def replay(records: tuple[Record, ...], bank: HashId) -> Mapping[int, bytes]:
    """By number, the value of each register after a log that was extended by the bank's own hash.

    Args:
        records: of a log, of any origin.
        bank: supported by hashlib.
    """
    values: dict[int, bytes] = {}
    for record in records:
        values[record.register] = _extend(
            values.get(record.register, bytes(bank.size)), record, bank, _compute_digest
        )
    return values


def _length(
    records: tuple[Record, ...],
    want: Mapping[int, bytes],
    bank: HashId,
    extended: Callable[[Record, HashId], bytes],
) -> int | None:
    values = {register: bytes(bank.size) for register in want}
    length = 0 if values == want else None
    for number, record in enumerate(records, 1):
        values[record.register] = _extend(values[record.register], record, bank, extended)
        if values == want:
            length = number
    return length


def _extend(value: bytes, record: Record, bank: HashId, extended: Callable[[Record, HashId], bytes]) -> bytes:
    digest = b"\xff" * bank.size if record.violated else extended(record, bank)
    return hashlib.new(bank.label, value + digest).digest()


def _compute_digest(record: Record, bank: HashId) -> bytes:
    return hashlib.new(bank.label, record.hashed).digest()


def _pad_digest(record: Record, bank: HashId) -> bytes:
    return record.digest.ljust(bank.size, b"\0")
