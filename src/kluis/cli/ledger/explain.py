"""``kluis ledger explain``: what a proposal would change, found on a ledger's files before anybody votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kluis.cli import render
from kluis.cli.ledger import reading
from kluis.cli.parameters import argument
from kluis.errors import FormatError, UsageError, foreign

if TYPE_CHECKING:
    from kluis.ledger.audit import Source
    from kluis.ledger.governance.explain import Change, Explanation
    from kluis.ledger.store import Store

_REFUSED = 6
_SHOWN = 200
_MOST = 2000


def explain(
    proposal: Annotated[
        str,
        argument(
            "A proposal's file, JSON or a signed request; or the id of one that is in the ledger.", "PROPOSAL"
        ),
    ],
    folder: Annotated[Path, argument("The ledger's folder.", "DIR")],
) -> None:
    """Print what a proposal would change if it were accepted now.

    Also prints what the node would do.

    The ledger's own constitution is run on a copy of its public tables. The files are read and not checked:
    run `kluis ledger verify` first.
    """
    from kluis.ledger.governance.explain import explain as explained

    store = tables(reading.sources(folder))
    explanation = explained(store, _text(proposal, store))
    render.out(_value(explanation), render.fold(_lines(explanation)))
    if explanation.invalid is not None or explanation.failure is not None:
        raise typer.Exit(_REFUSED)


def tables(sources: Sequence[Source]) -> Store:
    """The public tables of the framework and of governance after a ledger's last entry.

    Raises:
        FormatError: a file is not one of a ledger, or they do not follow each other.
    """
    from kluis.formats.ccf.chunk import Chunk
    from kluis.formats.ccf.domain import PublicDomain
    from kluis.formats.ccf.entry import Entry
    from kluis.ledger.audit.files import plan
    from kluis.ledger.audit.report import Findings
    from kluis.ledger.store import Store

    findings, store = Findings(), Store()
    planned = plan(sources, findings)
    if failures := [each for each in findings.conclude({}) if each.result.value == "fail"]:
        raise FormatError(f"ledger: {failures[0].message}", hint="kluis ledger verify names each fault")
    for name, source in planned.main:
        chunk = Chunk.parse(source.read(), source.name, torn=name.last is None)
        for raw in chunk.entries():
            domain = PublicDomain.parse(Entry.parse(raw, source.name).public, source.name)
            store.apply(
                domain.seqno, {n: rows for n, rows in domain.writes.items() if n.startswith("public:")}
            )
            store.compact(domain.seqno)
    return store


def _text(proposal: str, store: Store) -> str:
    from kluis.ledger.governance import proposals, requests
    from kluis.ledger.governance.faults import ProposalNotFound

    if requests.is_id(proposal):
        transaction = store.begin()
        try:
            proposals.find(transaction, proposal)
        except ProposalNotFound as error:
            raise UsageError(error.message, hint="kluis ledger status prints the open proposals") from None
        return proposals.content(transaction, proposal)
    data = reading.read(Path(proposal))
    if data[:1] == b"\xd2":
        data = requests.parse(data, requests.Kind.PROPOSAL).payload
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{proposal}: want JSON or a signed request, got something else") from None


def _value(explanation: Explanation) -> dict[str, Any]:
    return {
        "valid": explanation.invalid is None,
        "problem": explanation.invalid or explanation.failure,
        "changes": [
            {
                "table": each.table,
                "key": _format_value(each.key),
                "before": _format_value(each.before),
                "after": _format_value(each.after),
            }
            for each in explanation.changes
        ],
        "effects": list(explanation.effects),
    }


def _lines(explanation: Explanation) -> str:
    if explanation.invalid is not None:
        return f"FAIL  not a proposal: {foreign(explanation.invalid, _MOST)}"
    if explanation.failure is not None:
        return f"FAIL  would not be applied: {foreign(explanation.failure, _MOST)}"
    lines = []
    for each in explanation.changes:
        lines += [foreign(each.table, _MOST), f"    {_verb(each)} {_short(each.key)}"]
        lines += [f"        from {_short(each.before)}"] if each.before is not None else []
        lines += [f"        to   {_short(each.after)}"] if each.after is not None else []
    lines += [f"also  {each}" for each in explanation.effects]
    return "\n".join(lines or ["it would change nothing"])


def _verb(change: Change) -> str:
    if change.after is None:
        return "removes"
    return "adds   " if change.before is None else "changes"


def _format_value(value: bytes | None) -> str | None:
    if value is None:
        return None
    if value == bytes(8):
        return "(eight zero bytes)"
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _short(value: bytes | None) -> str:
    text = _format_value(value) or ""
    shown = foreign(text, _SHOWN)  # its proposer chose it: no line of it may read as one of ours
    return shown if len(text) <= _SHOWN else f"{shown}.. ({len(text)} characters)"
