"""Audit a ledger: every check that its files allow, and what receipts show beyond them.

A ledger cannot show by itself whether its last entries were removed, or whether the bytes after its last
signed root are what the service wrote. A receipt of an entry that must be in the ledger shows the first.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography import x509

from kluis.errors import FormatError, KluisError
from kluis.formats.ccf.chunk import Chunk, ChunkName
from kluis.formats.ccf.txid import TxId
from kluis.hashes import sha256
from kluis.ledger import receipts
from kluis.ledger.audit.copies import Copy, Read, compare
from kluis.ledger.audit.end import Expected, check_expected, check_pinned
from kluis.ledger.audit.files import Source, plan
from kluis.ledger.audit.governance import Governance, Replay
from kluis.ledger.audit.identity import Identity
from kluis.ledger.audit.keeping import Keeping
from kluis.ledger.audit.nodes import Nodes
from kluis.ledger.audit.report import Check, Findings, Report
from kluis.ledger.audit.signing import Broken, Certificates, Signing
from kluis.ledger.audit.state import State
from kluis.ledger.audit.walk import Seen, Walk
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import Secrets

if TYPE_CHECKING:
    from kluis.ledger.audit.own import Trust


class Level(enum.Enum):
    """How much is checked: what CCF's tools call FULL, or all that is known to check."""

    FULL = "full"
    ALL = "all"


def audit(
    sources: Sequence[Source],
    *,
    level: Level = Level.ALL,
    committed_only: bool = False,
    service: x509.Certificate | None = None,
    expected: Sequence[Expected] = (),
    secrets: Secrets | None = None,
    replay: Replay | None = None,
    trust: Trust | None = None,
    copies: Sequence[Copy] = (),
) -> Report:
    """Check a ledger.

    Args:
        sources: its files, all whose names begin with ``ledger_``.
        level: how much is checked.
        committed_only: whether files that are not named committed are left aside.
        service: the certificate that the caller pins; None: the ledger's own is believed, and named.
        expected: what must be in the ledger.
        secrets: the ledger's; None: private parts stay closed.
        replay: does members' requests again; None: that check is not made.
        trust: whom the reader trusts with the evidence of nodes; None: who signed it is not judged.
        copies: the same ledger at other nodes, which must have the same entries.

    Returns:
        What was found. Nothing is raised for what does not hold: see :meth:`Report.require`.
    """
    return _Audit(level, secrets, replay, trust).run(
        sources, committed_only=committed_only, service=service, expected=expected, copies=copies
    )


class _Audit:
    def __init__(
        self, level: Level, secrets: Secrets | None, replay: Replay | None, trust: Trust | None
    ) -> None:
        self.beyond = level is Level.ALL
        self.findings = Findings()
        self.state = State()
        self.tree = Tree()
        self.walk = Walk(self.findings, every=self.beyond, private=secrets is not None)
        certificates = Certificates()
        self.certificates = certificates
        self.signing = Signing(self.findings, self.tree, certificates, tree_tables=self.beyond)
        self.identity = Identity(self.findings, self.signing, certificates, beyond=self.beyond)
        self.governance = Governance(self.findings, self.tree, certificates, replay)
        self.keeping = Keeping(self.findings, secrets)
        self.nodes = Nodes(self.findings, trust)
        self.places: list[tuple[int, str]] = []
        self.replays = replay is not None

    def run(
        self,
        sources: Sequence[Source],
        *,
        committed_only: bool,
        service: x509.Certificate | None,
        expected: Sequence[Expected],
        copies: Sequence[Copy] = (),
    ) -> Report:
        findings = self.findings
        files = plan(sources, findings, committed_only=committed_only)
        chunks: dict[int, tuple[ChunkName, Source]] = {}
        if not findings.has_failed(Check.FILES):
            for name, source in files.main:
                chunks[name.first] = (name, source)
                if not self._file(name, source):
                    break
        if self.beyond:
            self._others(files.others, files.main)
        findings.txid, findings.file = None, ""
        check_pinned(self.identity, service, findings, leads=self.signing.leads)
        roots = frozenset(self.signing.roots.values())
        for each in expected:
            verified = self.signing.last
            check_expected(each, self.tree, self.walk, self.identity, service, findings, roots, verified)
        for copy in copies:
            self._compare(copy, service)
        self._end()
        passed = self._successes(len(files.main), bool(expected), service is not None)
        if copies:
            passed[Check.COPIES] = f"{len(copies)}, each with the same entries as far as it goes"
        return Report(
            findings=findings.conclude(passed),
            entries=self.tree.size - 1,
            signatures=self.signing.count,
            verified=self.signing.last,
            last=self.walk.last if self.walk.last.seqno else None,
            root=None if self.signing.last is None else self.signing.roots[self.signing.last.seqno],
            broken=findings.broken,
        )

    def _compare(self, copy: Copy, service: x509.Certificate | None) -> None:
        """Read a copy as CCF's tools do, signatures included, and hold its entries against the ledger's."""
        other = _Audit(Level.FULL, None, None, None)
        report = other.run(copy.sources, committed_only=False, service=service, expected=())
        if report.failures:
            first = report.failures[0]
            where = " ".join(part for part in (first.file, str(first.txid or "")) if part)
            self.findings.fail(
                Check.COPIES, f"{copy.name}: {where}{': ' if where else ''}{first.message}", here=False
            )
        own, read = Read(self.tree, self.signing.roots), Read(other.tree, other.signing.roots)
        compare(copy.name, read, own, self.findings)

    def _file(self, name: ChunkName, source: Source) -> bool:
        """Check one file; False where nothing after it can be judged."""
        findings = self.findings
        findings.file, findings.txid = source.name, None
        last_is_signature = False
        try:
            for leaves, seen in self.walk.file(name, source.read()):
                if seen is None:
                    self.tree.extend(leaves)
                    last_is_signature = last_is_signature and not leaves
                    continue
                self.tree.extend(leaves[:-1])
                self._entry(seen)
                last_is_signature = Signing.is_one(seen)
                self.tree.append(seen.leaf)
        except FormatError as error:
            findings.broken = True
            findings.fail(Check.ENTRIES, error.message)
            return False
        except Broken:
            return False
        if name.last is not None and not last_is_signature:
            findings.txid = self.walk.last
            findings.fail(Check.FILES, "want a whole file to end with a signature, got another entry")
        return True

    def _entry(self, seen: Seen) -> None:
        findings, state, writes = self.findings, self.state, seen.domain.writes
        findings.txid = seen.txid
        checks = ((Check.GOVERNANCE, self.governance.judge),) if self.beyond else ()
        for check, judge in checks:
            self._run_check(check, judge, seen)
        state.apply(seen.txid.seqno, writes)
        if Signing.is_one(seen):
            self._run_check(Check.VIEWS, self.identity.judge, seen)
            self.signing.judge(seen, state)
        else:
            self._run_check(Check.SERVICE, self.identity.judge, seen)
        if self.beyond:
            self._run_check(Check.QUOTES, self.nodes.judge, seen)
            self._run_check(Check.SECRETS, self.keeping.judge, seen)

    def _run_check(self, check: Check, judge: object, seen: Seen) -> None:
        try:
            judge(seen, self.state)  # type: ignore[operator]  # each is a method of this shape
        except KluisError as error:
            self.findings.fail(check, error.message)

    def _others(
        self,
        others: Sequence[tuple[ChunkName, Source]],
        main: Sequence[tuple[ChunkName, Source]],
    ) -> None:
        """Hold each leftover against the ledger: an entry of the same id must be the same bytes."""
        findings = self.findings
        known: dict[TxId, bytes] = {}
        for name, source in main if others else ():
            try:
                known.update(_by_nonce(name, source))
            except FormatError:
                return  # said already, where it was read
        for name, source in others:
            findings.file, findings.txid = source.name, None
            try:
                for nonce, digest in _by_nonce(name, source).items():
                    if known.setdefault(nonce, digest) != digest:
                        findings.fail(
                            Check.NONCES,
                            f"entry {nonce} is another one in the ledger: a nonce was used twice",
                        )
            except FormatError as error:
                findings.note(Check.NONCES, f"cannot be read: {error.message}", here=True)

    def _end(self) -> None:
        """Say what is not signed, and what no ledger shows."""
        findings, signed = self.findings, self.signing.last
        findings.file, findings.txid = "", None
        after = self.tree.size - 1 - (signed.seqno if signed is not None else 0)
        if signed is None:
            findings.fail(Check.END, "want at least one signed root, got none", here=False)
        elif after:
            findings.note(
                Check.END,
                f"verified until {signed}; not signed yet: {_count_of(after, 'entry')} after it",
            )
        else:
            findings.note(
                Check.END,
                f"verified until {signed}: it is a signature, and it signs all entries before it",
            )
        findings.note(
            Check.END, "entries taken from the end leave no trace in a ledger: --expect-at-least finds them"
        )
        if self.beyond and self.governance.old:
            findings.note(Check.GOVERNANCE, "requests in the older form, signed over HTTP, are not checked")
        if self.beyond and not self.replays:
            findings.note(Check.REPLAY, "is not made: pip install 'kluis[ledger]' installs what it needs")
        if self.identity.starts and self.beyond:
            pem = self.identity.starts[-1][1]
            findings.note(
                Check.IDENTITY, f"the service's certificate has SHA-256 {receipts.fingerprint(pem).hex()}"
            )

    def _successes(self, files: int, expected: bool, pinned: bool) -> dict[Check, str]:
        signing, walk = self.signing, self.walk
        passed = {
            Check.FILES: f"{_count_of(files, 'file')}, one after another",
            Check.ENTRIES: f"{_count_of(self.tree.size - 1, 'entry')}, each as header and offsets state",
            Check.ROOTS: f"{_count_of(signing.count, 'signed root')}, each that of the entries before it",
            Check.NODE_SIGNATURES: f"{signing.by_nodes} by nodes that were trusted",
            Check.SERVICE_SIGNATURES: f"{signing.by_service} by the service's key",
            Check.SERVICE: f"{_count_of(len(self.identity.starts), 'identity')}, each status in its order",
        }
        if pinned:
            passed[Check.IDENTITY] = "the service is the pinned one"
        if expected:
            passed[Check.RECEIPTS] = "all that is expected is in the ledger"
        if not self.beyond:
            return passed
        passed |= {
            Check.PLACES: "each entry states its place in its IV and in its domain",
            Check.NONCES: "no other file has another entry of the same view and seqno",
            Check.CERTIFICATES: "each node's certificate is signed by the service of its time",
            Check.QUOTES: f"{_count_of(self.nodes.count, 'node')}, each quote of the node's key",
            Check.VIEWS: f"{_count_of(max(len(walk.view_starts), 1), 'view')}, each begun as a view begins",
            Check.RECOVERY: "each identity continues the one before it",
            Check.GOVERNANCE: f"{_count_of(self.governance.requests, 'request')}, each signed by a member",
            Check.SHARES: f"{_count_of(self.keeping.shares, 'time')}, for the members who take part",
            Check.SECRETS: f"{_count_of(self.keeping.links, 'link')}, each to the one before it",
            Check.CLAIMS: f"{_count_of(self.keeping.claims, 'snapshot digest')},"
            f" {_count_of(self.keeping.entries, 'digest')} of users' contents",
        }
        if self.replays:
            passed[Check.REPLAY] = (
                f"{_count_of(self.governance.replayed, 'request')}, done again with the same writes"
            )
        if self.keeping.opened:
            passed[Check.PRIVATE] = (
                f"{_count_of(self.keeping.opened, 'entry')} opened, each with its own evidence"
            )
        return passed


def _count_of(count: int, noun: str) -> str:
    """A number and its noun, in the plural if it is not one."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun}"


def _by_nonce(name: ChunkName, source: Source) -> dict[TxId, bytes]:
    chunk, by_nonce = Chunk.parse(source.read(), source.name, torn=name.last is None), {}
    for raw in chunk.entries():
        view, seqno = int.from_bytes(raw[32:36], "little"), int.from_bytes(raw[24:32], "little")
        by_nonce[TxId(view, seqno)] = sha256(raw)
    return by_nonce
