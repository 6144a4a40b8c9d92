"""The commands that need a ledger's files only: verify, show, sample."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from kluis.cli import completion, render
from kluis.cli.ledger import reading
from kluis.cli.render import Json
from kluis.errors import UsageError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The ledger's folder.", show_default=False)]
Service = Annotated[
    Path | None,
    typer.Option("--service-cert", metavar="PEM", help="The service's certificate, which you pin."),
]
Secrets = Annotated[
    Path | None,
    typer.Option(
        "--secrets", metavar="FILE", help="The ledger's secrets: a version and a key in hex a line."
    ),
]
_MALFORMED: Final = 3
_NOT_AUTHENTIC: Final = 4


def verify(
    folder: Folder,
    receipts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECEIPT]...", help="Further ones, after --expect-at-least."),
    ] = None,
    expect_at_least: Annotated[
        list[str] | None,
        typer.Option(
            "--expect-at-least",
            metavar="RECEIPT",
            help="A receipt's file, or an id such as 2.35, that must be in the ledger; may be repeated.",
        ),
    ] = None,
    service_cert: Service = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="ROOT", help="A root, to judge the nodes' evidence with."),
    ] = None,
    collateral: Annotated[
        Path | None,
        typer.Option("--collateral", metavar="FILE", help="The platform's collateral, for the same."),
    ] = None,
    secrets: Secrets = None,
    level: Annotated[
        str,
        typer.Option(
            "--level",
            metavar="full|all",
            help="What CCF's tools check, or all there is.",
            autocompletion=completion.words(("full", "all")),
        ),
    ] = "all",
    copy: Annotated[
        list[Path] | None,
        typer.Option(
            "--copy",
            metavar="DIR",
            help="The same ledger at another node: where the two first differ is shown; may be repeated.",
        ),
    ] = None,
    committed: Annotated[
        bool, typer.Option("--committed", help="Read files only that are named committed.")
    ] = False,
    json: Json = False,
) -> None:
    """Check a ledger from its files.

    Prints one line for each check, with the file and entry where it fails.

    Entries that were taken from the end leave no trace in a ledger: give receipts to find them missing.
    """
    from kluis.ledger import audit

    if level not in ("full", "all"):
        raise UsageError(f"--level: want full or all, got {level[:32]!a}")
    if receipts and not expect_at_least:
        raise UsageError(f"{receipts[0][:80]!a}: want --expect-at-least before a receipt")
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
        str | None, typer.Argument(metavar="[ID]", help="One entry, such as 2.35; by default a list of all.")
    ] = None,
    secrets: Secrets = None,
    json: Json = False,
) -> None:
    """Print the entries in a ledger's files, unverified."""
    from kluis.cli.ledger import showing

    known = None if secrets is None else reading.secrets(secrets)
    value, text = showing.describe_entries(reading.sources(folder), entry, known)
    render.out(value, render.fold(text))


def sample(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder.")],
    entries: Annotated[
        int, typer.Option("--entries", metavar="N", help="How many entries it has, signatures included.")
    ] = 1000,
    cose_only: Annotated[
        bool, typer.Option("--cose-only", help="Without the nodes' signatures, which older clients need.")
    ] = False,
    json: Json = False,
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
