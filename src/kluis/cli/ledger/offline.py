"""The commands that need a ledger's files only: verify, show, sample."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from kluis.cli import completion, render
from kluis.cli.ledger import reading
from kluis.cli.parameters import argument, flag, option
from kluis.errors import UsageError

Folder = Annotated[Path, argument("The ledger's folder.", "DIR")]
Service = Annotated[Path | None, option("The service's certificate, which you pin.", "PEM", "--service-cert")]
Secrets = Annotated[
    Path | None, option("The ledger's secrets: a version and a key in hex a line.", "FILE", "--secrets")
]
_MALFORMED: Final = 3
_NOT_AUTHENTIC: Final = 4


def verify(
    folder: Folder,
    receipts: Annotated[
        list[str] | None, argument("Further ones, after --expect-at-least.", "[RECEIPT]...")
    ] = None,
    expect_at_least: Annotated[
        list[str] | None,
        option(
            "A receipt's file, or an id such as 2.35, that must be in the ledger; may be repeated.", "RECEIPT"
        ),
    ] = None,
    service_cert: Service = None,
    root: Annotated[Path | None, option("A root, to judge the nodes' evidence with.", "ROOT")] = None,
    collateral: Annotated[Path | None, option("The platform's collateral, for --root.", "FILE")] = None,
    secrets: Secrets = None,
    level: Annotated[
        str,
        option(
            "What CCF's tools check, or all there is.", "full|all", complete=completion.words(("full", "all"))
        ),
    ] = "all",
    copy: Annotated[
        list[Path] | None,
        option(
            "The same ledger at another node: where the two first differ is shown; may be repeated.", "DIR"
        ),
    ] = None,
    committed: Annotated[bool, flag("Read files only that are named committed.", "--committed")] = False,
) -> None:
    """Check a ledger from its files.

    Prints a line for each check that holds, and for each failure, with its file and entry if it is in one.

    Entries that were taken from the end leave no trace in a ledger: give receipts to find them missing.
    """
    from kluis.ledger import audit

    if level not in ("full", "all"):
        raise UsageError(f"--level: want full or all, got {level[:32]!a}")
    if receipts and not expect_at_least:
        raise UsageError(f"{receipts[0][:80]!a}: want --expect-at-least before a receipt")
    if collateral is not None and root is None:
        raise UsageError(
            "--collateral: want --root too: only with both is the nodes' evidence judged",
            hint="--root names who signed it: a file of kluis platform root, or a name of kluis trust list",
        )
    report = audit.audit(
        reading.sources(folder),
        level=audit.Level(level),
        committed_only=committed,
        service=None if service_cert is None else reading.certificate(service_cert),
        expected=[reading.read_expected(each) for each in (*(expect_at_least or ()), *(receipts or ()))],
        secrets=None if secrets is None else reading.secrets(secrets),
        replay=reading.replay() if level == "all" else None,
        trust=None if root is None else reading.trust(root, collateral),
        copies=[audit.Copy(str(each), reading.sources(each)) for each in copy or ()],
    )
    render.out(_describe_report(report), render.fold("\n".join(map(str, report.findings))))
    if report.failures:
        raise typer.Exit(_MALFORMED if report.broken else _NOT_AUTHENTIC)


def _describe_report(report: Any) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "entries": report.entries,
        "signatures": report.signatures,
        "verified_until": None if report.verified is None else str(report.verified),
        "last": None if report.last is None else str(report.last),
        "root": None if report.root is None else report.root.hex(),
        "findings": [
            {
                "check": each.check.value,
                "result": each.result.value,
                "file": each.file or None,
                "entry": None if each.txid is None else str(each.txid),
                "message": each.message,
            }
            for each in report.findings
        ],
    }


def show(
    folder: Folder,
    entry: Annotated[
        str | None, argument("One entry, such as 2.35; by default a list of all.", "[ID]")
    ] = None,
    secrets: Secrets = None,
) -> None:
    """Print the entries in a ledger's files, unverified."""
    from kluis.cli.ledger import showing

    known = None if secrets is None else reading.secrets(secrets)
    value, text = showing.describe_entries(reading.sources(folder), entry, known)
    render.out(value, render.fold(text))


def sample(
    out: Annotated[Path, option("A new or empty folder.", "DIR")],
    entries: Annotated[int, option("How many entries it has, signatures included.", "N")] = 1000,
    cose_only: Annotated[
        bool, flag("Without the nodes' signatures, which older clients need.", "--cose-only")
    ] = False,
) -> None:
    """Write a sample ledger to try tools on.

    It has mixed entries, signed, in whole chunks.

    Its secrets and receipts are put next to it: there is nothing in it that is worth a secret.
    """
    from kluis.ledger import sample as making

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: want a new or empty folder, got one with files")
    made = making.make(entries, datetime.now(UTC), os.urandom, cose_only=cose_only)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be made: {error.strerror}") from None
    for name, data in {**made.files, **making.extras(made)}.items():
        render.save(out / name, data)
    value = {"last": str(made.last), "files": list(made.files), "service_certificate": "service_cert.pem"}
    render.out(value, f"{out}: {len(made.files)} chunks, entries 2.1 to {made.last}")


COMMANDS = (verify, show, sample)
