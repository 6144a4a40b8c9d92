"""Certificates of signing keys that carry evidence of the enclave that made the key.

There are two extensions, neither critical. One is Azure Attestation's, and contains a DCAP quote. The other
is Kluis's own, and contains the two documents whose hashes are in the quote:

    Documents ::= SEQUENCE { runtimeData OCTET STRING, launchConfiguration OCTET STRING }

The payload of the runtime data is a *statement*, which names the key. If the service's tokens depend on
settings from its operator, it also names the digest of these:

    {"public_key": base64url of the SubjectPublicKeyInfo, "statement": "signing-key", "version": 1}
    {"public_key": ..., "settings": hex of 32 bytes, "statement": "signing-key", "version": 2}

Canonical JSON (RFC 8785). Nothing here is verified: :mod:`kluis.appraisal.tokens.vouching` does that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64, der, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.x509 import Certificate

QUOTE_OID: Final = "1.3.6.1.4.1.311.105.1"
# From a random UUID, which ITU-T X.667 allows anyone to use.
DOCUMENTS_OID: Final = "2.25.82909848931547334948017031640174847248"
SIGNING_KEY: Final = "signing-key"
MAX_STATEMENT: Final = 8 * 1024
_WHAT: Final = "vouched certificate"
_STATEMENT: Final = "signing key statement"


def extensions(evidence: EvidenceBundle) -> tuple[tuple[str, bytes], ...]:
    """Identifier and value of each extension that carries the evidence, whose payload is a statement."""
    documents = der.element(
        der.SEQUENCE,
        der.element(der.OCTET_STRING, evidence.runtime_data),
        der.element(der.OCTET_STRING, evidence.launch_configuration),
    )
    return (QUOTE_OID, evidence.quote), (DOCUMENTS_OID, documents)


def evidence_in(certificate: Certificate) -> EvidenceBundle:
    """The evidence that a certificate carries.

    Raises:
        FormatError: an extension is missing or malformed.
    """
    for oid in (QUOTE_OID, DOCUMENTS_OID):
        if oid not in certificate.extensions:
            raise FormatError(f"{_WHAT}: want extension {oid}, got none", code="bad_type")
    quote, documents = (certificate.extensions[oid] for oid in (QUOTE_OID, DOCUMENTS_OID))
    what = f"{_WHAT}.documents"
    start, end = der.within(documents, 0, len(documents), der.SEQUENCE, what)
    runtime, after = der.within(documents, start, end, der.OCTET_STRING, what)
    launch, last = der.within(documents, after, end, der.OCTET_STRING, what)
    if end != len(documents) or last != end:
        raise FormatError(f"{what} at {min(last, end):#x}: bytes after the end", code="trailing_data")
    return EvidenceBundle(quote, documents[runtime:after], documents[launch:last])


class Statement(NamedTuple):
    """An enclave's statement about a key.

    Attributes:
        spki: DER of the SubjectPublicKeyInfo.
        settings: digest of the enclave's settings, 32 bytes; None if it is not stated.
    """

    spki: bytes
    settings: bytes | None = None


def statement(spki: bytes, settings: bytes | None = None) -> bytes:
    """Write the statement about a key.

    Args:
        spki: DER of the SubjectPublicKeyInfo.
        settings: digest of the enclave's settings, 32 bytes, if its tokens depend on them.
    """
    members = {"public_key": b64.encode_url(spki), "statement": SIGNING_KEY}
    if settings is None:
        return jcs.dumps({**members, "version": 1})
    return jcs.dumps({**members, "settings": settings.hex(), "version": 2})


def read_statement(data: bytes) -> Statement:
    """Parse a statement in its one canonical form.

    Raises:
        UnsupportedError: a statement about something else.
        FormatError: not canonical, a member missing or unknown.
    """
    value = Members(jcs.loads_canonical(data, _STATEMENT, max_size=MAX_STATEMENT), _STATEMENT)
    version = value.version(1, 2)
    value.only(("public_key", "statement", "version", *(("settings",) if version == 2 else ())))
    statement = value.text("statement")
    if statement != SIGNING_KEY:
        raise UnsupportedError(
            f"{_STATEMENT}.statement: want {SIGNING_KEY}, got {statement!a}", code="bad_type"
        )
    spki = b64.decode_url(value.text("public_key"), f"{_STATEMENT}.public_key")
    return Statement(spki, value.hex("settings", 32, lower=True) if version == 2 else None)
