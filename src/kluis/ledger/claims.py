"""What an application states of an entry in its receipt, and the digest of it that the entry holds.

Spec: Azure Confidential Ledger, "Verify write transaction receipts", "Application claims".
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from kluis.errors import FormatError
from kluis.formats.ccf.entry import HEADER, VERSION
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.jcs import Json
from kluis.formats.encoding.members import Members
from kluis.hashes import sha256

LEDGER_ENTRY: Final = "LedgerEntryV1"
MEMBER: Final = "applicationClaims"
PRIVATE_ENTRIES: Final = "app.entries"
PUBLIC_ENTRIES: Final = "public:app.entries"
"""Tables of what users of Azure's REST write: by collection, JSON with ``contents`` and ``secretKey``."""
MAX_CLAIMS: Final = 64
MAX_CONTENTS: Final = 16 << 20
_COUNT: Final = 4
"""Bytes of the number of claims, before the digest of each."""


def entry_digest(collection: str, contents: str, key: bytes) -> bytes:
    """The digest of a ledger entry's collection and contents, 32 bytes.

    Args:
        collection: its id.
        contents: of the entry.
        key: 32 random bytes of this entry, without which the digest tells nothing of short contents.
    """
    parts = (hmac.digest(key, text.encode(), "sha256") for text in (collection, contents))
    return sha256(b"".join(parts))


def claims_digest(digests: Sequence[tuple[str, bytes]]) -> bytes:
    """The claims digest of an entry, 32 bytes.

    Args:
        digests: for each claim its protocol and its digest, as of :func:`entry_digest`.
    """
    claims = b"".join([sha256(protocol.encode() + digest) for protocol, digest in digests])
    return sha256(len(digests).to_bytes(_COUNT, "little") + claims)


def is_taken(statement: bytes) -> bool:
    """Whether the SHA-256 of a statement could be the claims digest of something else.

    That is a list of claims, as of :func:`claims_digest`, or a snapshot, whose file is one entry.
    """
    count, rest = divmod(len(statement) - _COUNT, 32)
    listed = count > 0 and rest == 0 and statement[:_COUNT] == count.to_bytes(_COUNT, "little")
    size = HEADER + int.from_bytes(statement[2:HEADER], "little")
    return listed or (statement[:1] == bytes((VERSION,)) and len(statement) == size)


def digest_of_entry(collection: bytes, value: bytes) -> bytes | None:
    """The claims digest that an entry must have for a row of its tables of entries, 32 bytes.

    Args:
        collection: the row's key.
        value: of the row.

    Returns:
        None if the row is not one that a ledger of Kluis writes: another application has its own.
    """
    try:
        row = Members(jcs.loads(value, "entry", max_size=MAX_CONTENTS), "entry")
        key = b64.decode(row.text("secretKey", limit=1024), "entry.secretKey")
        contents = row.text("contents", limit=MAX_CONTENTS)
        digest = entry_digest(collection.decode(), contents, key)
    except (FormatError, UnicodeDecodeError):
        return None
    return claims_digest([(LEDGER_ENTRY, digest)])


def next_to(value: Json) -> Json:
    """The claims in a document that also has their receipt; None if there are none."""
    return value.get(MEMBER) if isinstance(value, dict) else None


def contents(value: Json, what: str) -> list[tuple[str, str]]:
    """The collection and contents of each ledger entry among claims.

    Raises:
        FormatError: another form.
    """
    claims = Members({"claims": value}, what).objects("claims", most=MAX_CLAIMS)
    entries = [each.object("ledgerEntry") for each in claims if each.text("kind", limit=32) == "LedgerEntry"]
    return [(entry.text("collectionId"), entry.text("contents", limit=MAX_CONTENTS)) for entry in entries]


def read(value: Json, what: str) -> bytes:
    """The claims digest of ``applicationClaims``, as Azure Confidential Ledger gives them with a receipt.

    Raises:
        FormatError: another form.
    """
    claims = Members({"claims": value}, what).objects("claims", most=MAX_CLAIMS)
    if not claims:
        raise FormatError(f"{what}: want at least one claim, got none", code="bad_length")
    return claims_digest([_claim(each) for each in claims])


def _claim(claim: Members) -> tuple[str, bytes]:
    kind = claim.text("kind", limit=32)
    if kind == "LedgerEntry":
        entry = claim.object("ledgerEntry")
        if (protocol := entry.text("protocol", limit=32)) != LEDGER_ENTRY:
            raise FormatError(
                f"{claim.what}.protocol: want {LEDGER_ENTRY}, got {protocol!a}", code="bad_type"
            )
        key = b64.decode(entry.text("secretKey", limit=1024), f"{claim.what}.secretKey")
        contents = entry.text("contents", limit=MAX_CONTENTS)
        return protocol, entry_digest(entry.text("collectionId"), contents, key)
    if kind == "ClaimDigest":
        digest = claim.object("digest")
        return digest.text("protocol", limit=64), digest.hex("value")
    raise FormatError(f"{claim.what}.kind: want LedgerEntry or ClaimDigest, got {kind!a}", code="bad_type")
