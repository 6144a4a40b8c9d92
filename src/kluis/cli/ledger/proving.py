"""``kluis ledger receipt``: verify a receipt, from a file or from a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kluis.cli import render
from kluis.cli.ledger import reading
from kluis.cli.parameters import argument, flag, option
from kluis.errors import AuthenticityError, FormatError, UsageError, foreign

MOST_SHOWN = 400
"""Characters of an entry; ``--json`` prints all."""


def receipt(
    wanted: Annotated[
        str, argument("A file, JSON or COSE; with --url the id of an entry, such as 2.35.", "RECEIPT")
    ],
    service_cert: Annotated[Path, option("The service's certificate, which you pin.", "PEM")],
    url: Annotated[str | None, option("A node to get the receipt from, https://host:port.", "URL")] = None,
    cose: Annotated[bool, flag("Get it as COSE; else as JSON.", "--cose")] = False,
    out: Annotated[Path | None, option("Where the receipt is written.", "FILE", "--out", "-o")] = None,
    claims: Annotated[Path | None, option("Application claims that the receipt must be of.", "JSON")] = None,
    claims_digest: Annotated[str | None, option("Or their digest, 64 hex digits.", "HEX")] = None,
) -> None:
    """Verify a receipt: that the service committed the entry.

    A file is verified offline.

    Application claims in the file, as Azure's answers have them, must be the entry's, too.
    With --url the receipt of an entry comes from a node, and is written once it is verified. A receipt does
    not name its ledger: it counts under the certificate that you pin, and under no other.
    """
    from kluis.ledger import receipts

    if url is None and (cose or out is not None):
        raise UsageError(f"{'--cose' if cose else '--out'}: want --url, the node to get the receipt from")
    if url is not None and out is None:
        raise UsageError("--url: want --out, the file for the receipt")
    service, digest = reading.certificate(service_cert), reading.claims(claims, claims_digest)
    if url is None:
        path = Path(wanted)
        what, data, prefix = f"{path.name}: receipt", reading.read(path), ""
    else:
        what, data, prefix = _fetch_receipt(url, service_cert, wanted, cose=cose)
    proof = reading.receipt_of(data, what)
    root, evidence = receipts.verify_any(proof, service, what, claims_digest=digest)
    entries = ", ".join(each.split(":")[1] for each in evidence) or "a signature"
    if out is not None:
        if not evidence or not all(each.startswith(prefix) for each in evidence):
            raise AuthenticityError(
                f"{what}: want the receipt of entry {wanted}, got that of {entries}", code="ledger_receipt"
            )
        render.save(out, data)
    stated = reading.contents_of(data, what)
    what_for = "the entry" if stated is None and digest is None else "the entry with these claims"
    proves = f"the service of this certificate committed {what_for}" if evidence else "the service signed it"
    value = {"authentic": True, "root": root.hex(), "evidence": list(evidence), "proves": proves}
    value["claims"] = [{"collectionId": collection, "contents": text} for collection, text in stated or ()]
    lines = [f"authentic: entry {entries} under root {root.hex()}", f"proves: {proves}"]
    lines += [f"  {foreign(collection)}: {foreign(text, MOST_SHOWN)}" for collection, text in stated or ()]
    render.out(value, render.fold("\n".join(lines)))


def _fetch_receipt(url: str, service_cert: Path, wanted: str, *, cose: bool) -> tuple[str, bytes, str]:
    """A receipt's name for messages, its bytes, and how the commit evidence of its entry begins."""
    from kluis.formats.ccf.txid import TxId
    from kluis.serve.ledger.governing import Governor

    try:
        txid = TxId.parse(wanted)
    except FormatError as error:
        raise UsageError(error.message, hint="kluis ledger tail prints the entries with their ids") from None
    pinned = reading.read(service_cert).decode("utf-8", "replace")
    with Governor(url, pinned) as node:
        return f"receipt of {txid}", node.receipt(txid, cose=cose), f"ce:{txid}:"
