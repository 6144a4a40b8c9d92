"""Makes a ledger: genesis, an opened service, entries of every kind, a rekey, signatures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from kluis.errors import UsageError
from kluis.formats.ccf import chunk, tables
from kluis.formats.ccf.domain import NO_CLAIMS, NewWrites
from kluis.formats.ccf.receipt import Components
from kluis.formats.ccf.signature import ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import jcs
from kluis.formats.encoding.jcs import Writable
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.ledger import receipts
from kluis.ledger.merkle import Tree
from kluis.ledger.sample.governance import Governance, genesis
from kluis.ledger.sample.parties import Parties
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import Batch, Sequencer
from kluis.ledger.signer import Signer
from kluis.ledger.status import FIRST_VIEW

LEAST: Final = 32
MOST: Final = 10_000_000
_CHUNKS: Final = 4
_BATCH: Final = 500


@frozen(kw_only=True)
class Sample:
    """A ledger and all that opens it.

    Attributes:
        files: by name, each a whole chunk that ends with a signature.
        parties: with their keys.
        secrets: of the ledger.
        batches: as they were made.
        last: the last entry.
    """

    files: Mapping[str, bytes]
    parties: Parties
    secrets: Secrets
    batches: tuple[Batch, ...]
    last: TxId


def make(entries: int, now: datetime, random: Callable[[int], bytes], *, cose_only: bool = False) -> Sample:
    """Make a ledger.

    Args:
        entries: how many it has in all, 32 to 10,000,000.
        now: aware; each certificate and signature is of this time.
        random: gives so many unpredictable bytes.
        cose_only: whether only the service signs roots.

    Raises:
        UsageError: another number of entries.
    """
    if not LEAST <= entries <= MOST:
        raise UsageError(f"entries: want {LEAST} to {MOST}, got {entries}")
    return _Maker(entries, now, random, cose_only).make()


class _Maker:
    def __init__(self, entries: int, now: datetime, random: Callable[[int], bytes], cose_only: bool) -> None:
        self.entries = entries
        self.seconds = int(now.timestamp())
        self.random = random
        self.parties = Parties.make(now)
        self.secrets = Secrets([LedgerSecret(random(32), 1)])
        signer = Signer(
            self.parties.node_key, self.parties.node, self.parties.service_key, cose_only=cose_only
        )
        self.sequencer = Sequencer(
            view=FIRST_VIEW,
            tree=Tree(),
            secrets=self.secrets,
            signer=signer,
            clock=lambda: self.seconds,
            chunk_size=1 << 40,
        )
        self.batches: list[Batch] = []

    def make(self) -> Sample:
        self.govern()
        batch = min(max((self.entries - LEAST) // 100, 3), _BATCH)
        middle, bounds = self.entries // 2, self.entries // _CHUNKS
        made = 0
        while self.entries - self.sequencer.last.seqno > 4:
            last = self.sequencer.last.seqno
            if last > middle and len(self.secrets.all) == 1 and self.entries - last > 8:
                self.rekey()
                continue
            for _ in range(min(batch, self.entries - 3 - last)):
                self.sequencer.add(*transaction(made, self.random))
                made += 1
            self.seal(close=last // bounds != (self.sequencer.last.seqno + 1) // bounds)
        while self.entries - self.sequencer.last.seqno > 1:
            self.sequencer.add(*transaction(made, self.random))
            made += 1
        self.seal(close=True)
        return Sample(
            files=_files(self.batches),
            parties=self.parties,
            secrets=self.secrets,
            batches=tuple(self.batches),
            last=self.batches[-1].signature,
        )

    def govern(self) -> None:
        """A member acknowledges the state; a proposal opens the service."""
        self.governance = governance = Governance(self.parties, lambda: self.seconds, self.random)
        root = self.write(genesis(self.parties)).root
        self.write(governance.digest(root))
        self.write(governance.acknowledge(root))
        actions: list[dict[str, Writable]] = [
            {"name": "set_user", "args": {"cert": self.parties.user}},
            {"name": "transition_service_to_open", "args": {"next_service_identity": self.parties.service}},
        ]
        proposal, writes = governance.propose(self.sequencer.tree.root(), actions)
        self.write(writes)
        changes = governance.open_service(self.secrets.latest)
        self.opened_at = self.sequencer.last.seqno + 1
        self.write(governance.accept(proposal, changes), close=True)

    def rekey(self) -> None:
        """A proposal that changes the ledger secret."""
        proposal, writes = self.governance.propose(
            self.sequencer.tree.root(), [{"name": "trigger_ledger_rekey", "args": {}}]
        )
        self.write(writes)
        new = LedgerSecret(self.random(32), self.sequencer.last.seqno + 2)
        changes = self.governance.rekey(self.secrets.latest, new, self.opened_at)
        self.sequencer.add(self.governance.accept(proposal, changes))
        self.sequencer.rekey(new)
        self.seal()

    def write(self, writes: NewWrites, *, close: bool = False) -> Batch:
        self.sequencer.add(writes)
        return self.seal(close=close)

    def seal(self, *, close: bool = False) -> Batch:
        if close:
            self.sequencer.close_chunk()
        self.batches.append(self.sequencer.seal())
        return self.batches[-1]


def extras(sample: Sample) -> dict[str, bytes]:
    """What goes with a sample, by name: its certificate, its secrets, receipts of its eleventh entry."""
    tree, last = Tree(), sample.batches[-1]
    components: dict[TxId, Components] = {}
    for batch in sample.batches:
        tree.extend(batch.leaves)
        components.update(zip(batch.txids, batch.components, strict=True))
    txid = TxId(FIRST_VIEW, 11)
    signed = ServiceSignature.parse(last.signed.service, "signature")
    secrets = "".join(f"{each.version} {each.reveal().hex()}\n" for each in sample.secrets.all)
    documents = {
        "service_cert.pem": sample.parties.service.encode(),
        "secrets.txt": secrets.encode(),
        "receipt.cose": receipts.make_cose(tree, txid, components[txid], signed),
    }
    if last.signed.node is not None:
        made = receipts.make(tree, txid, components[txid], last.signed.node, sample.parties.node)
        documents["receipt.json"] = made.encode()
    return documents


def transaction(number: int, random: Callable[[int], bytes]) -> tuple[NewWrites, bytes]:
    """The writes and the claims digest of an application's transaction, of one of ten kinds."""
    key = f"{number % 97}".encode()
    value = jcs.dumps({"message": random(40).hex(), "number": number})
    match number % 10:
        case 0:
            return {"public:records": {key: value}}, NO_CLAIMS
        case 1:
            return {"records": {key: value}}, sha256(value)
        case 2:
            return {"public:records": {key: value}, "records": {key: value}}, NO_CLAIMS
        case 3:
            return {"public:records": {key: None}}, NO_CLAIMS
        case 4:
            return {"records": {key: None, key + b"x": b""}}, NO_CLAIMS
        case 5:
            return {"records": {random(16): random(1024)}}, NO_CLAIMS
        case 6:
            return {"public:counts": {b"": number.to_bytes(8, "little")}, "counts": {key: b""}}, NO_CLAIMS
        case 7:
            digest = sha256(random(32))
            evidence = jcs.dumps({"hash": digest.hex(), "version": number + 1})
            return {tables.SNAPSHOT_EVIDENCE: {tables.ONLY: evidence}}, digest
        case _:
            return {"records": {key: value}}, NO_CLAIMS


def _files(batches: list[Batch]) -> dict[str, bytes]:
    files, entries, first = {}, bytearray(), 1
    sizes: list[int] = []
    for batch in batches:
        entries += batch.entries
        sizes += batch.sizes
        if batch.closes_chunk:
            name = chunk.ChunkName(first, batch.signature.seqno, "committed")
            table = chunk.table_of(sizes)
            files[str(name)] = (chunk.START + len(entries)).to_bytes(8, "little") + bytes(entries) + table
            first, entries, sizes = batch.signature.seqno + 1, bytearray(), []
    return files
