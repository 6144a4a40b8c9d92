"""The extensions of a vouched certificate, and the statement: the same bytes, or refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import x509
from kluis.formats.kluis import vouched
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.kluis.vouched import DOCUMENTS_OID, QUOTE_OID
from tests.evidence.forge import Forge

MADE = EvidenceBundle(b"quote", b"{}", b"[]")
STATEMENT = vouched.statement(b"key")


@pytest.fixture(scope="module")
def bare() -> x509.Certificate:
    """A certificate without either extension."""
    return x509.parse_pem(Forge().authority.root_pem(), "root")[0]


def with_extensions(bare: x509.Certificate, **changes: bytes) -> x509.Certificate:
    """One with both, of which some are changed."""
    names = {"quote": QUOTE_OID, "documents": DOCUMENTS_OID}
    values = dict(vouched.extensions(MADE)) | {names[name]: value for name, value in changes.items()}
    return dataclasses.replace(bare, extensions={**bare.extensions, **values})


def test_written_and_read(bare: x509.Certificate) -> None:
    """What is written is read as it was."""
    assert vouched.evidence_in(with_extensions(bare)) == MADE
    assert vouched.read_statement(STATEMENT) == (b"key", None)
    assert vouched.read_statement(vouched.statement(b"key", bytes(32))) == (b"key", bytes(32))
    assert STATEMENT == b'{"public_key":"a2V5","statement":"signing-key","version":1}'


def test_extensions_that_are_not_there(bare: x509.Certificate) -> None:
    """For a certificate without evidence the error names the missing extension."""
    with pytest.raises(FormatError) as refused:
        vouched.evidence_in(bare)
    assert refused.value.message == f"vouched certificate: want extension {QUOTE_OID}, got none"


@given(st.integers(0, 15), st.binary(max_size=3))
def test_same_bytes_or_refused(bare: x509.Certificate, at: int, put: bytes) -> None:
    """Whatever documents parse write back to the same bytes; only our errors escape."""
    documents = dict(vouched.extensions(MADE))[DOCUMENTS_OID]
    data = documents[:at] + put + documents[at + len(put) :]
    try:
        parsed = vouched.evidence_in(with_extensions(bare, documents=data))
    except FormatError:
        return
    assert dict(vouched.extensions(parsed))[DOCUMENTS_OID] == data


def test_bytes_after_the_documents(bare: x509.Certificate) -> None:
    """Nothing may follow."""
    documents = dict(vouched.extensions(MADE))[DOCUMENTS_OID]
    with pytest.raises(FormatError) as refused:
        vouched.evidence_in(with_extensions(bare, documents=documents + b"\0"))
    assert refused.value.message == "vouched certificate.documents at 0xa: bytes after the end"


@given(st.integers(0, len(STATEMENT)), st.binary(max_size=3))
def test_same_statement_or_refused(at: int, put: bytes) -> None:
    """Whatever statement parses writes back to the same bytes; only our errors escape."""
    data = STATEMENT[:at] + put + STATEMENT[at + len(put) :]
    try:
        key, settings = vouched.read_statement(data)
    except FormatError:
        return
    assert vouched.statement(key, settings) == data


def test_a_statement_about_something_else() -> None:
    """A statement about another use of a key does not prove that the enclave signs with it."""
    with pytest.raises(UnsupportedError) as refused:
        vouched.read_statement(STATEMENT.replace(b"signing", b"another"))
    assert refused.value.message == "signing key statement.statement: want signing-key, got 'another-key'"
