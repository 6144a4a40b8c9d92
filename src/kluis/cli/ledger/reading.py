"""What the commands of a ledger read: its folder, certificates, receipts, secrets."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509

from kluis import files
from kluis.cli.evidence import roots
from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.ccf.chunk import MAX_CHUNK
from kluis.formats.ccf.cose_receipt import CoseReceipt
from kluis.formats.ccf.receipt import Receipt
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import jcs
from kluis.ledger import claims as application_claims
from kluis.ledger import receipts
from kluis.ledger.audit.end import Expected
from kluis.ledger.audit.files import Source
from kluis.ledger.audit.governance import Replay
from kluis.ledger.secrets import LedgerSecret
from kluis.ledger.secrets import Secrets as LedgerSecrets
from kluis.serve.ledger import following

if TYPE_CHECKING:
    from kluis.ledger.audit.own import Trust

MAX_FILE: Final = 16 << 20


def sources(folder: Path) -> list[Source]:
    """Every file of a folder whose name begins as a ledger's do.

    Raises:
        UsageError: no folder, or none of a ledger.
    """
    names = following.words_of(folder)
    return [Source(name, functools.partial(files.read, folder / name, MAX_CHUNK)) for name in names]


def read(path: Path) -> bytes:
    """Read a small file, as :func:`kluis.files.read_named`: at most 16 MiB."""
    return files.read_named(path, MAX_FILE)


def certificate(path: Path) -> x509.Certificate:
    """Read a service's certificate.

    Raises:
        UsageError: it cannot be read.
        FormatError: no certificate of a key on a curve.
    """
    try:
        data = read(path)
    except UsageError as error:
        from kluis.serve.ledger.governing import PINNED

        raise UsageError(f"--service-cert: {error.message}", hint=PINNED) from None
    return receipts.load_certificate(data.decode("utf-8", "replace"), str(path))


def receipt(path: Path) -> Receipt | CoseReceipt:
    """Read a receipt, COSE or JSON.

    Raises:
        FormatError: neither.
    """
    return receipt_of(read(path), path.name)


def receipt_of(data: bytes, what: str) -> Receipt | CoseReceipt:
    """Read a receipt from its bytes, COSE or JSON, with the claims that are next to it.

    Azure Confidential Ledger returns ``applicationClaims`` with a receipt. They are trusted only if the
    receipt contains their digest.

    Raises:
        FormatError: neither.
        AuthenticityError: the receipt is of other claims than those next to it.
    """
    if data[:1] == b"\xd2":
        return CoseReceipt.parse(data, what)
    value = jcs.loads(data, what, max_size=MAX_FILE)
    proof = Receipt.of(value, what)
    stated = application_claims.next_to(value)
    if stated is None:
        return proof
    digest = application_claims.read(stated, f"{what}.{application_claims.MEMBER}")
    components = proof.components
    if components is None or components.claims_digest not in (None, digest):
        got = "a signature" if components is None or components.claims_digest is None else "other claims"
        raise AuthenticityError(
            f"{what}: want a receipt of the {application_claims.MEMBER} next to it, got one of {got}",
            code="ledger_receipt",
        )
    return dataclasses.replace(proof, components=components._replace(claims_digest=digest))


def contents_of(data: bytes, what: str) -> list[tuple[str, str]] | None:
    """The collection and contents of each entry in the claims next to a receipt; None if it has no claims."""
    if data[:1] == b"\xd2":
        return None
    stated = application_claims.next_to(jcs.loads(data, what, max_size=MAX_FILE))
    return None if stated is None else application_claims.contents(stated, what)


def read_expected(text: str) -> Expected:
    """Read what must be in a ledger: a receipt's file, or an id.

    Raises:
        UsageError: no such file.
        FormatError: no receipt.
    """
    try:
        return Expected(text, TxId.parse(text))
    except FormatError:
        return Expected(text, receipt(Path(text)))


def claims(path: Path | None, digest: str | None) -> bytes | None:
    """The claims digest that a receipt must have, from claims or as it is given; None for neither.

    Raises:
        UsageError: both, or no digest.
        FormatError: no claims.
    """
    if path is not None and digest is not None:
        raise UsageError("--claims and --claims-digest: want one of them, got both")
    if path is not None:
        value = jcs.loads(read(path), path.name, max_size=MAX_FILE)
        return application_claims.read(value, path.name)
    if digest is None:
        return None
    try:
        claims_digest = bytes.fromhex(digest)
    except ValueError:
        claims_digest = b""
    if len(claims_digest) != 32:
        raise UsageError(f"--claims-digest: want 64 hex digits, got {digest[:80]!a}")
    return claims_digest


def secrets(path: Path) -> LedgerSecrets:
    """Read a ledger's secrets: lines of a version and a key of 64 hex digits.

    Raises:
        FormatError: another form; what the file has is not shown.
    """
    keys = []
    for number, line in enumerate(read(path).decode("utf-8", "replace").splitlines(), 1):
        version, _, key = line.partition(" ")
        try:
            keys.append(LedgerSecret(bytes.fromhex(key), int(version)))
        except (ValueError, UsageError):
            raise FormatError(
                f"{path} line {number}: want a version and 64 hex digits", code="bad_encoding"
            ) from None
    return LedgerSecrets(keys)


def replay() -> Replay | None:
    """Does members' requests again; None if the engine for their scripts is not installed."""
    try:
        from kluis.ledger.governance import replay as again
    except ModuleNotFoundError as error:
        if error.name != "jsbox":
            raise
        return None
    return again.Replay()


def trust(root: Path, collateral: Path | None) -> Trust:
    """Whom the reader trusts with the evidence of nodes, now.

    Raises:
        FormatError: no certificate, or no collateral.
    """
    from kluis.evidence import Collateral, TrustAnchors
    from kluis.ledger.audit.own import Trust

    documents = None if collateral is None else Collateral.from_json(read(collateral))
    return Trust(anchors=TrustAnchors.from_pem(roots.one(root)), collateral=documents, now=datetime.now(UTC))
