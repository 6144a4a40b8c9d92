"""Test the auditor and its reports on ledgers that others wrote."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from cryptography import x509

from kluis.errors import AuthenticityError, FormatError
from kluis.formats.ccf import tables
from kluis.formats.ccf.cose_receipt import CoseReceipt
from kluis.formats.ccf.domain import NO_CLAIMS, Writes, encode_writes
from kluis.formats.ccf.receipt import Receipt
from kluis.formats.ccf.txid import TxId
from kluis.ledger import certificates, sample
from kluis.ledger.audit import Check, Expected, Level, Result
from kluis.ledger.audit.report import MAX_FINDINGS
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import seal_entries
from tests.formats.ccf import real
from tests.ledger import making
from tests.ledger.audit.forge import NOW, Forge, audited, failed, parties

LAST = {
    "acme": (8, TxId(2, 20), TxId(2, 22)),
    "flipflop": (23, TxId(2, 46), TxId(2, 46)),
    "double_sealed": (156, TxId(5, 505), TxId(5, 509)),
    "poc_dual": (3, TxId(2, 17), TxId(2, 17)),
}
# What the last recovery of this service wrote wrong, which CCF's own tool finds, too.
BROKEN = [
    (Check.RECOVERY, "5.503", "the present identity is endorsed up to 2.483"),
    (Check.SECRETS, "5.503", "want a past secret of version 484, got 1"),
]


@real.needed
@pytest.mark.parametrize("name", LAST)
def test_real(name: str) -> None:
    """Ledgers of CCF's own services verify up to the entries that CCF's tools name."""
    files = dict(real.files(name))
    signatures, committed, last = LAST[name]
    report = audited(files)
    assert [(check, txid, said) for check, _, txid, said in failed(report)] == (
        BROKEN if name == "double_sealed" else []
    )
    assert (report.signatures, report.verified, report.last) == (signatures, last, last)
    assert report.entries == real.ENTRIES[name]
    assert audited(files, committed_only=True).verified == committed
    assert audited(files, level=Level.FULL).ok


@real.needed
def test_known_roots() -> None:
    """The last root is the one that other programs computed, and the ledger's secret opens every entry."""
    files, known = dict(real.files("flipflop")), real.answers()
    report = audited(files, secrets=Secrets([LedgerSecret(bytes.fromhex(known["ledger_secret_hex"]), 1)]))
    assert report.ok, report.failures
    assert report.root is not None
    assert [str(report.verified), report.root.hex()] == known["signature_roots"][-1]
    assert "46 entries opened, each with its own evidence" in {each.message for each in report.findings}


@real.needed
def test_a_pinned_service() -> None:
    """The pinned certificate may be of the present service, or of one that the present one endorses."""
    for name in ("acme", "flipflop"):
        pem = (real.FOLDERS[name].parent / "common" / "service_cert.pem").read_bytes()
        assert audited(dict(real.files(name)), service=x509.load_pem_x509_certificate(pem)).ok
    other = x509.load_pem_x509_certificate(certificates.service_certificate(making.key(1), NOW).encode())
    report = audited(dict(real.files("acme")), service=other)
    assert [each.check for each in report.failures] == [Check.IDENTITY]


@real.needed
def test_receipts_of_another_writer() -> None:
    """Its receipts are of its ledger, and of no other."""
    folder = real.CCF / "poc_dual" / "out"
    pem = x509.load_pem_x509_certificate((folder / "service_cert.pem").read_bytes())
    expected = [
        Expected("receipt.json", Receipt.parse((folder / "receipt.json").read_bytes(), "receipt.json")),
        Expected("receipt.cose", CoseReceipt.parse((folder / "receipt.cose").read_bytes(), "receipt.cose")),
    ]
    assert audited(dict(real.files("poc_dual")), expected=expected, service=pem).ok
    report = audited(dict(real.files("acme")), expected=expected)
    assert [each.message for each in report.failures] == [
        f"{name}: is not signed under the service's key" for name in ("receipt.json", "receipt.cose")
    ]


def test_a_sample() -> None:
    """A sample is a whole ledger: every check passes, its secrets open it, its receipts are its own."""
    for cose_only in (False, True):
        made = sample.make(150, datetime.now(UTC), os.urandom, cose_only=cose_only)
        extras = sample.extras(made)
        expected = [Expected("receipt.cose", CoseReceipt.parse(extras["receipt.cose"], "receipt"))]
        report = audited(
            made.files,
            secrets=made.secrets,
            expected=expected,
            service=x509.load_pem_x509_certificate(extras["service_cert.pem"]),
        )
        assert failed(report) == []
        assert (report.verified, report.entries, len(made.files)) == (TxId(2, 150), 150, 5)
        assert ("receipt.json" in extras) is not cose_only


def test_the_least_sample() -> None:
    """The smallest has three chunks, too."""
    made = sample.make(sample.LEAST, datetime.now(UTC), os.urandom)
    assert len(made.files) >= 3
    assert audited(made.files).ok


def test_a_report() -> None:
    """A line has its result, its check, its file and entry, and words; a report raises its first failure."""
    made = Forge.governed()
    files = made.files()
    report = audited(files)
    assert str(report.findings[0]) == "ok    files               1 file, one after another"
    assert all(each.result is not Result.FAIL for each in report.findings)
    (name,) = files
    made.sequencer.signer.certificate = "x"
    made.write({"public:ccf.gov.users.certs": {b"x": b"y"}})
    report = audited(made.files())
    with pytest.raises(AuthenticityError) as caught:
        report.require()
    assert caught.value.code == "ledger_audit"
    assert str(caught.value).startswith("ledger node-signatures: ledger_1-12.committed 2.12: ") or str(
        caught.value
    ).startswith("ledger roots: ledger_1-12.committed 2.12: ")
    torn = {name: files[name][:-30]}
    report = audited(torn)
    assert report.broken
    with pytest.raises(FormatError):
        report.require()


@pytest.mark.parametrize("cose_only", [False, True])
def test_where_it_was_changed(cose_only: bool) -> None:
    """A changed entry is found at the next signature, with the entries that it may be."""
    made = sample.make(60, datetime.now(UTC), os.urandom, cose_only=cose_only)
    name = next(name for name in made.files if name.startswith("ledger_11-"))
    raw = bytearray(made.files[name])
    raw[70] ^= 1  # of the claims digest of the first entry
    report = audited({**made.files, name: bytes(raw)})
    (found,) = [each for each in report.failures if each.check is Check.ROOTS]
    assert found.file == name
    assert found.txid is not None
    assert report.last == found.txid
    assert f"one of the entries 10 to {found.txid.seqno - 1} is not the one that was signed" in found.message


def test_unreadable_files_name_an_entry() -> None:
    """A file that cannot be read is named, with the entry from which on."""
    made = sample.make(60, datetime.now(UTC), os.urandom)
    name = next(name for name in made.files if name.startswith("ledger_11-"))
    (found,) = audited({**made.files, name: made.files[name][:-1]}).failures
    assert (found.check, found.file, found.txid) == (Check.ENTRIES, name, TxId(2, 11))


def test_no_files() -> None:
    """No file, and a file under another name, are no ledger."""
    assert failed(audited({}))[0] == (Check.FILES, "", "", "want a ledger's files, got none")
    said = failed(audited({"ledger_x": b""}))
    assert said[0][:2] == (Check.FILES, "ledger_x")


def test_open_chunks() -> None:
    """An open chunk is read to its last whole entry, and what is not signed is said."""
    made = Forge.governed()
    made.write({"a": {b"k": b"v"}}, new_chunk=True)
    files = made.files()
    name = "ledger_11-12.committed"
    data = files.pop(name)
    size = int.from_bytes(data[:8], "little")
    for cut, entries, words in (
        (size, 12, "verified until 2.12: it is a signature, and it signs all entries before it"),
        (size - 1, 11, "verified until 2.10; not signed yet: 1 entry after it"),
    ):
        report = audited({**files, "ledger_11": bytes(8) + data[8:cut]})
        assert failed(report) == []
        assert report.entries == entries
        assert words in {each.message for each in report.findings}
    assert audited({**files, "ledger_11": bytes(8) + data[8:size]}, committed_only=True).entries == 10


def test_leftovers() -> None:
    """A file that was left aside must not hold another entry of an id that the ledger has."""
    made, other = Forge.governed(), Forge.governed()
    files = made.files()
    (name,) = files
    stray = name.replace("committed", "ignored")
    assert audited({**files, stray: files[name]}).ok
    report = audited({**files, stray: other.files()[name]})
    assert {each.check for each in report.failures} == {Check.NONCES}
    assert failed(report)[0][1] == stray
    later = f"ledger_{made.sequencer.last.seqno + 1}"
    assert audited({**files, later: bytes(8)}).ok


def test_parties_are_kept() -> None:
    """The forge's parties are the same for the same number."""
    assert parties() is parties()


def test_an_entry_that_only_looks_signed() -> None:
    """Anyone can append an entry that removes a signature and has the right tree: it verifies nothing."""
    made = Forge.governed()
    files, tree, at = made.files(), made.sequencer.tree, made.sequencer.last.seqno + 1
    forged: Writes = {tables.TREE: {tables.ONLY: tree.table(made.sequencer.last_signature).encode()}}
    nobody = Secrets([LedgerSecret(bytes(32), 1)])
    for name in (tables.SIGNATURES, tables.COSE_SIGNATURES):
        for changes in ({tables.ONLY: None}, {b"other": b"x"}):
            records = encode_writes({name: changes, **forged})
            ((entry,), _, _) = seal_entries([(0, records, b"", NO_CLAIMS)], 2, at, nobody)
            for level in Level:
                report = audited({**files, f"ledger_{at}": bytes(8) + entry}, level=level)
                assert report.verified == audited(files, level=level).verified
                assert [(each.check, each.message) for each in report.failures] == [
                    (Check.ROOTS, "changes a table of signatures, and holds none")
                ]


def test_an_entry_that_nothing_signs_meets_no_expectation() -> None:
    """Who removed the last entries can append others of their ids."""
    made = Forge.governed()
    files, at = made.files(), made.sequencer.last.seqno + 1
    nobody = Secrets([LedgerSecret(bytes(32), 1)])
    ((entry,), _, _) = seal_entries([(0, b"", b"", NO_CLAIMS)], 2, at, nobody)
    files[f"ledger_{at}"] = bytes(8) + entry
    assert audited(files, expected=[Expected("signed", TxId(2, at - 1))]).ok
    assert [each.message for each in audited(files, expected=[Expected("later", TxId(2, at))]).failures] == [
        f"later: want entry 2.{at}, got a ledger that is signed until 2.{at - 1}"
    ]


def test_notes_of_junk_hide_no_failure() -> None:
    """Anyone can put files in the folder: what is expected of the ledger is judged after them."""
    files = dict(Forge.governed().files())
    files |= {f"ledger_{number}-{number}.ignored": b"junk" for number in range(1, MAX_FINDINGS + 50)}
    assert audited(files).ok
    report = audited(files, expected=[Expected("9.9", TxId(9, 9))])
    assert [each.check for each in report.failures] == [Check.RECEIPTS]
    assert {"entries taken from the end leave no trace in a ledger: --expect-at-least finds them"} <= {
        each.message for each in report.findings
    }
