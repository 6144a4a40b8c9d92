"""Ledgers whose signatures hold and whose contents are a test's own: what a dishonest service could write."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kluis.formats.ccf.domain import NO_CLAIMS, Writes
from kluis.ledger.audit import Check, Report, Source, audit
from kluis.ledger.merkle import Tree
from kluis.ledger.sample.governance import Governance, genesis
from kluis.ledger.sample.parties import Parties
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import Batch, Sequencer
from kluis.ledger.signer import Signer
from tests.ledger.audit.chunks import write_chunk

NOW = datetime(2026, 11, 28, tzinfo=UTC)
SECONDS = int(NOW.timestamp())


@functools.cache
def parties(number: int = 0) -> Parties:
    """Who takes part; the same for the same number."""
    assert number >= 0
    return Parties.make(NOW)


class Forge:
    """A ledger in the making."""

    def __init__(self, **change: Any) -> None:
        self.parties = parties()
        self.secrets = Secrets([LedgerSecret(bytes(range(32)), 1)])
        self.signer = Signer(self.parties.node_key, self.parties.node, self.parties.service_key)
        self.sequencer = self.begin_view(2)
        self.governance = Governance(self.parties, lambda: SECONDS, os.urandom)
        self.batches: list[Batch] = []
        self.chunks: list[list[Batch]] = [[]]
        first = genesis(self.parties)
        for name, table in change.get("genesis", {}).items():
            first[name] = table
        self.root = self.write(first).root

    def begin_view(self, view: int) -> Sequencer:
        """A sequencer that goes on in another view."""
        before = getattr(self, "sequencer", None)
        self.sequencer = Sequencer(
            view=view,
            tree=Tree() if before is None else before.tree,
            secrets=self.secrets,
            signer=self.signer,
            clock=lambda: SECONDS,
            last_signature=0 if before is None else before.last_signature,
        )
        return self.sequencer

    @classmethod
    def governed(cls) -> Forge:
        """A ledger whose service is open, and whose member is active."""
        made = cls()
        made.write(made.governance.digest(made.root))
        made.write(made.governance.acknowledge(made.root))
        proposal, writes = made.governance.propose(made.sequencer.tree.root(), actions())
        made.write(writes)
        made.write(made.governance.accept(proposal, made.governance.open_service(made.secrets.latest)))
        return made

    def write(self, writes: Writes, claims: bytes = NO_CLAIMS, *, new_chunk: bool = False) -> Batch:
        """An entry, and the entry that signs it."""
        self.sequencer.add(writes, claims, new_chunk=new_chunk)
        if new_chunk:
            self.chunks.append([])
        batch = self.sequencer.seal()
        self.batches.append(batch)
        self.chunks[-1].append(batch)
        return batch

    def files(self) -> dict[str, bytes]:
        """The ledger's files, all whole."""
        found = {}
        for batches in self.chunks:
            if batches:
                entries = [raw for each in batches for raw in split(each)]
                first, last = batches[0].txids[0].seqno, batches[-1].signature.seqno
                found[f"ledger_{first}-{last}.committed"] = write_chunk(entries)
        return found

    def audit(self, **options: Any) -> Report:
        """What the auditor finds."""
        return audited(self.files(), **options)


def split(batch: Batch) -> list[bytes]:
    """The bytes of a batch's entries."""
    found, at = [], 0
    for size in batch.sizes:
        found.append(batch.entries[at : at + size])
        at += size
    return found


def audited(files: Mapping[str, bytes], **options: Any) -> Report:
    """What the auditor finds in files."""
    return audit([Source(name, lambda data=data: data) for name, data in files.items()], **options)


def failed(report: Report) -> list[tuple[Check, str, str, str]]:
    """Each failure's check, file, entry and words."""
    return [(each.check, each.file, str(each.txid or ""), each.message) for each in report.failures]


def actions() -> list[dict[str, Any]]:
    """What opens the service."""
    return [
        {"name": "set_user", "args": {"cert": parties().user}},
        {"name": "transition_service_to_open", "args": {"next_service_identity": parties().service}},
    ]
