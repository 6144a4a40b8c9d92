"""Which files make up a ledger, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kluis.errors import FormatError
from kluis.formats.ccf.chunk import ChunkName
from kluis.ledger.audit.report import Check, Findings


class Source(NamedTuple):
    """One file of a ledger.

    Attributes:
        name: of the file, without its folder.
        read: gives its bytes.
    """

    name: str
    read: Callable[[], bytes]


class Plan(NamedTuple):
    """The files of a ledger, sorted.

    Attributes:
        main: one after another, from the first entry on.
        others: copies and leftovers, whose entries must not contradict those of ``main``.
    """

    main: tuple[tuple[ChunkName, Source], ...]
    others: tuple[tuple[ChunkName, Source], ...]


def plan(sources: Sequence[Source], findings: Findings, *, committed_only: bool = False) -> Plan:
    """Sort the files of a ledger; a gap, an overlap or a name of no chunk is a failure.

    Args:
        sources: every file whose name begins with ``ledger_``.
        findings: takes the failures.
        committed_only: whether files that are not named committed are left aside.
    """
    named: list[tuple[ChunkName, Source]] = []
    for source in sources:
        findings.file, findings.txid = source.name, None
        try:
            named.append((ChunkName.parse(source.name), source))
        except FormatError as error:
            findings.fail(Check.FILES, error.message)
    named.sort(key=lambda each: (each[0].first, not each[0].committed, each[0].last is None, each[0].suffix))
    main: list[tuple[ChunkName, Source]] = []
    others: list[tuple[ChunkName, Source]] = []
    ends = 1
    for name, source in named:
        findings.file = source.name
        left_aside = name.suffix not in ("", "committed") or (committed_only and not name.committed)
        if left_aside or (name.first < ends and not name.committed):
            others.append((name, source))
        elif main and main[-1][0].last is None:
            findings.fail(Check.FILES, f"follows {main[-1][0]}, which is open")
        elif name.first != ends:
            findings.fail(Check.FILES, f"want a file from entry {ends} on, got one from {name.first} on")
            ends = name.first if name.last is None else name.last + 1
        else:
            main.append((name, source))
            ends = name.first if name.last is None else name.last + 1
    findings.file = ""
    if not main:
        findings.fail(Check.FILES, "want a ledger's files, got none", here=False)
    return Plan(tuple(main), tuple(others))
