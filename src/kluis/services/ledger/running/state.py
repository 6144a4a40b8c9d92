"""A node's state of its ledger: tables, tree, views, secrets, and what is committed.

At a start it is read from the log. Each entry is decrypted, which its tag allows only if it is unchanged, and
hashed into the tree; each root is compared with the signed one; the last signature is verified with the
service's key, and covers all before it. Then a witness confirms that the log is not shorter than before.
"""

from __future__ import annotations

import bisect
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag

from kluis.errors import AuthenticityError, FormatError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import Writes, parse_writes
from kluis.formats.ccf.signature import NodeSignature, ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.ledger.governance.service import LastWrites
from kluis.ledger.log_head import EMPTY, MOST_READ, head_of
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import Secrets
from kluis.ledger.sequencer import Batch
from kluis.ledger.status import Status, Views, status_of
from kluis.ledger.store import Store
from kluis.services.ledger.identity import ServiceIdentity
from kluis.services.ledger.running import quick
from kluis.services.ledger.running.index import Index
from kluis.services.ledger.running.log import HostLog, Part, entries_of

NOTHING: Final = TxId(0, 0)


MARK_ROOT: Final = 24
"""Bytes of a root that a witness remembers."""


class Witnessed(NamedTuple):
    """The last signature reported to a witness.

    Attributes:
        seqno: of the signature; 0 if there is none.
        root: that it signs, its first 24 bytes.
        step: how many reports there were. Nodes that report to one witness agree on what each step is.
    """

    seqno: int
    root: bytes
    step: int


class Witness(Protocol):
    """Remembers how far a ledger came, beyond its host's reach."""

    def read(self) -> Witnessed:
        """The last report; seqno 0 if there is none."""
        ...

    def advance(self, to: Witnessed) -> Witnessed:
        """Tell it of a signature, durably; gives what it remembers then: a step that is there stays."""
        ...

    async def advance_async(self, to: Witnessed) -> Witnessed:
        """Likewise, from a coroutine: its event loop goes on until the witness answers."""
        ...


class Signatures(NamedTuple):
    """What one entry holds: the signatures over all entries before it.

    Attributes:
        seqno: of the entry.
        node: the node's; None if only the service signs.
        message: the service's, a COSE_Sign1 with a detached payload; parsed only for receipts in COSE.
    """

    seqno: int
    node: NodeSignature | None
    message: bytes


class Ledger:
    """All that a node knows.

    Attributes:
        store: the tables, with entries that are not committed yet.
        tree: over all entries.
        views: which entry is of which.
        secrets: of the private tables.
        index: where entries are.
        written: which entry last wrote what later ones name.
        signatures: seqnos of the entries that hold signatures, rising.
        signed: the signatures of such entries, of those that receipts needed last.
        sealed: the last batch that this node committed; None before its first.
        committed: the last entry that is: always a signature.
        head: of the log.
    """

    def __init__(self, secrets: Secrets) -> None:
        self.store = Store()
        self.tree = Tree()
        self.views = Views()
        self.secrets = secrets
        self.index = Index()
        self.written = LastWrites()
        self.signatures = array("Q")
        self.signed: OrderedDict[int, Signatures] = OrderedDict()
        self.sealed: Batch | None = None
        self.committed = NOTHING
        self.head = EMPTY
        self._leaves: list[bytes] = []  # of a log that is read, up to its next signature

    @property
    def last(self) -> int:
        """The seqno of the last entry that is known."""
        return self.tree.size - 1 + len(self._leaves)

    def status(self, txid: TxId) -> Status:
        """What may be said of a transaction."""
        return status_of(
            txid, self.views.of(txid.seqno) if txid.seqno <= self.store.version else 0, self.committed
        )

    def signature_after(self, seqno: int) -> int | None:
        """The first signature over an entry; None if there is none yet."""
        at = bisect.bisect_right(self.signatures, seqno)
        if at and self.signatures[at - 1] == seqno:
            at -= 1
        return self.signatures[at] if at < len(self.signatures) else None

    def continues(self, witnessed: Witnessed) -> bool:
        """Whether the last signature reported to a witness is one of this ledger, up to its last entry."""
        seqno = witnessed.seqno
        return not seqno or (seqno <= self.last and self.tree.root(seqno)[:MARK_ROOT] == witnessed.root)

    def last_signature(self) -> int:
        """The seqno of the last entry that holds a signature; 0 if there is none."""
        return self.signatures[-1] if self.signatures else 0

    def apply(self, txid: TxId, writes: Writes) -> None:
        """Make an entry's writes the present state, before it is committed."""
        if self.views.of(txid.seqno) != txid.view:
            self.views.begin(txid)
        self.store.apply(txid.seqno, writes)
        self.index.note(txid.seqno, writes)
        self.written.note(txid.seqno, writes)

    def prepare(self, batch: Batch) -> None:
        """Apply a batch's last entry, as a node does that reads it from the log."""
        if self.store.version < batch.signature.seqno:
            self.apply(batch.signature, batch.writes)

    def commit(self, batch: Batch) -> None:
        """Note that a batch is in the log."""
        self.prepare(batch)
        signature = batch.signature
        self.signatures.append(signature.seqno)
        self.sealed = batch
        self.committed = signature
        self.store.compact(signature.seqno)
        self.head = head_of(signature.seqno, batch.entries[-batch.sizes[-1] :])

    def writes_of(self, part: Part) -> Writes:
        """What an entry wrote, with its private tables.

        Raises:
            AuthenticityError: its tag does not hold.
        """
        what, secret = f"entry {part.txid.seqno}", self.secrets.at(part.txid.seqno)
        private = secret.open(part.tag, part.iv, part.public, part.private, what)
        return {**part.writes, **parse_writes(private, what)} if private else part.writes

    def take(self, entries: Iterable[bytes]) -> Iterator[ServiceSignature]:
        """Take in the next entries of the log; gives the service's signatures as they come.

        Raises:
            AuthenticityError: one is not what was written there, or its root is not the one that was signed.
        """
        seqno, until, decrypt = self.last, 0, None
        view, form = self.views.of(seqno), quick.Form()
        for raw in entries:
            seqno += 1
            if (parsed := quick.read(raw, seqno)) is None:
                if (signed := self._take_strictly(raw, seqno)) is not None:
                    yield signed
                view = self.views.of(seqno)
                continue
            if decrypt is None or seqno >= until:
                secret, until = self.secrets.span(seqno)
                decrypt = secret.aead.decrypt
            try:
                private = decrypt(parsed.iv, parsed.sealed, parsed.public)
            except InvalidTag:
                raise AuthenticityError(
                    f"log: entry {seqno}: is not what was written", code="ledger_log"
                ) from None
            writes = form.read(private)
            if writes is None:
                writes = parse_writes(private, f"entry {seqno}")
            if parsed.view != view:
                view = parsed.view
                self.views.begin(TxId(view, seqno))
            self.store.apply(seqno, writes, final=True)
            self.index.note(seqno, writes)
            self.written.note(seqno, writes)
            self._leaves.append(parsed.leaf)

    def _take_strictly(self, raw: bytes, seqno: int) -> ServiceSignature | None:
        what = f"entry {seqno}"
        try:
            part = Part.read(raw, what)
        except FormatError as error:
            raise AuthenticityError(f"log: {error.message}", code="ledger_log") from None
        if part.txid.seqno != seqno:
            raise AuthenticityError(f"log: want entry {seqno}, got {part.txid.seqno}", code="ledger_log")
        self._drop_unused_secret(part, what)
        writes = self.writes_of(part)
        signed = self._read_signature(part.writes, what)
        self.apply(part.txid, writes)
        self._leaves.append(part.leaf)
        if signed is not None:
            self._grow()
            self.signatures.append(seqno)
            self.committed = part.txid
            self.store.compact(seqno)
        return signed

    def _drop_unused_secret(self, part: Part, what: str) -> None:
        """Forget the latest secret if its first entry has the one before: its rekey never reached the log.

        That entry is a signature, of the rekey's batch or of the next node's first: it is read strictly.
        """
        *before, latest = self.secrets.all
        if not before or part.txid.seqno != latest.version:
            return
        try:
            latest.open(part.tag, part.iv, part.public, part.private, what)
        except AuthenticityError:
            before[-1].open(part.tag, part.iv, part.public, part.private, what)
            self.secrets = Secrets(before)

    def _grow(self) -> None:
        self.tree.extend(self._leaves)
        self._leaves.clear()

    def _read_signature(self, writes: Writes, what: str) -> ServiceSignature | None:
        value = writes.get(tables.COSE_SIGNATURES, {}).get(tables.ONLY)
        if value is None:
            return None
        node = writes.get(tables.SIGNATURES, {}).get(tables.ONLY)
        self._grow()
        root = self.tree.root()
        try:
            if node is not None and NodeSignature.parse(node, what).root != root:
                raise AuthenticityError(f"log: {what}: signs another root", code="ledger_root")
            return ServiceSignature.parse_value(value, what)
        except FormatError as error:
            raise AuthenticityError(f"log: {error.message}", code="ledger_log") from None


def replay(ledger: Ledger, log: HostLog, service: ServiceIdentity, witness: Witness) -> None:
    """Read a log into a ledger, from where the ledger is.

    Raises:
        AuthenticityError: the log is not this service's, whole and as it was left: names the entries.
        UnavailableError: the host gives nothing.
    """
    # Read first: while another node writes, its log goes on, and the witness after it.
    witnessed = witness.read()
    last: ServiceSignature | None = None
    root = b""
    with ThreadPoolExecutor(1, thread_name_prefix="kluis-ledger") as thread:  # the host reads meanwhile
        coming = thread.submit(log.read, ledger.last + 1, MOST_READ)
        while raw := coming.result():
            try:
                entries = entries_of(raw, ledger.last + 1)
            except FormatError as error:
                raise AuthenticityError(f"log: {error.message}", code="ledger_log") from None
            coming = thread.submit(log.read, ledger.last + 1 + len(entries), MOST_READ)
            for signed in ledger.take(entries):
                last, root = signed, ledger.tree.root(ledger.last)
            ledger.head = head_of(ledger.last, entries[-1])
    if ledger.last != ledger.committed.seqno:
        raise AuthenticityError(f"log: ends with {ledger.last}, which is no signature", code="ledger_log")
    if last is not None:
        _check_signature(last, root, ledger.committed, service)
    _check_witness(ledger, witnessed)


def _check_signature(signed: ServiceSignature, root: bytes, at: TxId, service: ServiceIdentity) -> None:
    what = f"log: signature {at}"
    if signed.txid != at:
        raise AuthenticityError(f"{what}: is of {signed.txid}", code="ledger_log")
    cose.check(signed.message.over(root), service.key.public_key(), what)


def _check_witness(ledger: Ledger, witnessed: Witnessed) -> None:
    if witnessed.seqno > ledger.last:
        first = ledger.last + 1
        raise AuthenticityError(
            f"log: ends with {ledger.last}, and the witness has {witnessed.seqno}: entries {first} to"
            f" {witnessed.seqno} are missing",
            hint=(
                "restore the last files of the ledger's folder; or, with an older backup, the platform's"
                " state of the same time. What a damaged file had after its last whole signature is in"
                " FOLDER.torn"
            ),
            code="ledger_behind",
        )
    if not ledger.continues(witnessed):
        raise AuthenticityError(
            f"log: another ledger than the witness knows, at or before {witnessed.seqno}", code="ledger_fork"
        )
