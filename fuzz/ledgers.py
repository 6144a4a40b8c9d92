"""What is read of ledgers: files by the auditor, receipts and claims by verifiers, entries of the past."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509

from kluis.errors import KluisError
from kluis.formats.ccf.cose_receipt import CoseReceipt
from kluis.formats.ccf.receipt import Receipt
from kluis.formats.encoding import jcs
from kluis.ledger import claims, receipts, sample
from kluis.ledger.audit import Source, audit
from kluis.ledger.sample import Sample

Read = Callable[[bytes], Any]
Starts = Callable[[], Iterator[bytes]]
CLAIM: Final = {
    "kind": "LedgerEntry",
    "ledgerEntry": {"collectionId": "a", "contents": "b", "protocol": "LedgerEntryV1", "secretKey": "AAAA"},
}


def readers() -> Iterator[tuple[str, Read, Starts]]:
    """Each reader's name, itself, and what to begin from."""
    yield "ledger.audit.first", functools.partial(_audit, 0), lambda: iter(_files()[:1])
    yield "ledger.audit.later", functools.partial(_audit, 1), lambda: iter(_files()[1:2])
    yield "ledger.receipt", _receipt, _receipts
    yield "ledger.claims", lambda data: claims.read(jcs.loads(data, "claims"), "claims"), _claims


@functools.cache
def _made() -> Sample:
    return sample.make(sample.LEAST, datetime(2026, 1, 1, tzinfo=UTC), os.urandom)


@functools.cache
def _extras() -> dict[str, bytes]:
    return sample.extras(_made())


def _files() -> list[bytes]:
    return list(_made().files.values())


def _audit(position: int, data: bytes) -> None:
    """Audit a ledger one of whose files is other bytes: nothing is raised but by the report."""
    files = dict(_made().files)
    files[list(files)[position]] = data
    report = audit([Source(name, lambda data=each: data) for name, each in files.items()])
    if data not in _files():
        try:
            report.require()
        except KluisError:
            return
        raise AssertionError("a file with other bytes passes")


def _receipt(data: bytes) -> None:
    service = x509.load_pem_x509_certificate(_extras()["service_cert.pem"])
    found = CoseReceipt.parse(data, "receipt") if data[:1] == b"\xd2" else Receipt.parse(data, "receipt")
    receipts.verify_any(found, service)


def _receipts() -> Iterator[bytes]:
    yield _extras()["receipt.json"]
    yield _extras()["receipt.cose"]


def _claims() -> Iterator[bytes]:
    yield json.dumps([CLAIM, {"kind": "ClaimDigest", "digest": {"protocol": "P", "value": "ab"}}]).encode()
