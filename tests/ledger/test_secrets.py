"""Ledger secrets: known answers, and which secret is whose."""

from __future__ import annotations

import pytest

from kluis.errors import AuthenticityError, UsageError
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.txid import TxId
from kluis.ledger import secrets
from kluis.ledger.secrets import LedgerSecret, Secrets
from tests.formats.ccf import real


@real.needed
def test_known_answers() -> None:
    """The secret of a real ledger opens its entries and gives their evidence."""
    known = real.answers()
    secret, entry = LedgerSecret(bytes.fromhex(known["ledger_secret_hex"]), 1), known["tx_2_17"]
    read = Entry.parse(bytes.fromhex(entry["entry_hex"]), "entry 17")
    assert secret.commit_secret.hex() == known["commit_secret_hex"]
    opened = secret.open(read.tag, read.iv, read.public, read.private, "entry 17")
    assert opened.hex() == entry["private_plaintext_hex"]
    evidence = secret.evidence(TxId(2, 17))
    assert evidence == entry["commit_evidence"]
    assert secrets.evidence_digest(evidence) == read.public[41:73]


def test_another_secret() -> None:
    """Another secret, and another public domain, do not open an entry; what was tried is not shown."""
    secret, other = LedgerSecret(b"a" * 32, 1), LedgerSecret(b"b" * 32, 1)
    sealed = secret.aead.encrypt(bytes(12), b"private", b"public")
    assert secret.open(sealed[-16:], bytes(12), b"public", sealed[:-16], "entry") == b"private"
    for key, public in ((other, b"public"), (secret, b"Public")):
        with pytest.raises(AuthenticityError) as caught:
            key.open(sealed[-16:], bytes(12), public, sealed[:-16], "entry 17")
        assert str(caught.value) == "entry 17: cannot be opened with this secret"
    assert repr(secret) == "LedgerSecret(version=1)"


def test_wrapped() -> None:
    """A secret opens the one before it, and another does not."""
    old, new = LedgerSecret(b"a" * 32, 1), LedgerSecret(b"b" * 32, 20)
    wrapped = new.wrap(old, bytes(12))
    again = new.unwrap(wrapped, 1, "secret")
    assert (again.reveal(), again.version) == (old.reveal(), 1)
    for key, data in ((old, wrapped), (new, wrapped[:-1]), (new, b""), (new, wrapped[:-1] + b"x")):
        with pytest.raises(AuthenticityError):
            key.unwrap(data, 1, "secret")


def test_by_version() -> None:
    """An entry's secret is the latest of those whose version it reached."""
    first, second = LedgerSecret(b"a" * 32, 3), LedgerSecret(b"b" * 32, 10)
    chain = Secrets([first, second])
    assert [chain.at(seqno) for seqno in (3, 9, 10, 99)] == [first, first, second, second]
    assert (chain.span(4), chain.span(10)) == ((first, 10), (second, 1 << 63))
    assert (chain.latest, chain.all) == (second, (first, second))
    for work in (
        lambda: chain.at(2), lambda: chain.add(LedgerSecret(b"c" * 32, 10)), lambda: Secrets([]),
        lambda: LedgerSecret(b"c" * 31, 1), lambda: LedgerSecret(b"c" * 32, 0),
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            work()
        assert "cc" not in str(caught.value)
