"""One node, from its sealed store and its log: replayed first, then given a view, then serving.

It reads the log while another node may still write it. ``begin`` reads the rest, takes a view that no process
had, records the node as trusted in the view's first entry, and signs. From then on the log is this node's:
another's appends are fenced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

from msgspec import structs

from kluis.enclave.store.model import Storage
from kluis.errors import UnavailableError, UsageError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import NewWrites
from kluis.formats.ccf.txid import TxId
from kluis.formats.encoding import jcs
from kluis.frozen import frozen
from kluis.ledger.governance import documents
from kluis.ledger.governance.faults import ConstitutionFailed
from kluis.ledger.governance.service import Identity, NodeEffects
from kluis.ledger.log_head import EMPTY
from kluis.ledger.secrets import LedgerSecret
from kluis.ledger.sequencer import Sequencer
from kluis.ledger.signer import Signer, key_id
from kluis.ledger.status import FIRST_VIEW
from kluis.ledger.store import Transaction
from kluis.services.clock import Clock
from kluis.services.ledger import genesis, kept
from kluis.services.ledger.genesis import Quoted
from kluis.services.ledger.identity import NodeIdentity, ServiceIdentity, Shown
from kluis.services.ledger.kept import Kept
from kluis.services.ledger.running.engine import Engine
from kluis.services.ledger.running.log import HostLog
from kluis.services.ledger.running.state import Ledger, Witness, replay
from kluis.services.ledger.settings import Settings

Quote = Callable[[NodeIdentity, bytes, bytes], Quoted]
"""Makes evidence of a node, its service certificate's digest and its genesis' digest, 32 bytes each."""
CHOICES: Final = "public:app.ledger"
"""What was chosen at genesis."""


@frozen(kw_only=True)
class Surroundings:
    """What a node is given.

    Attributes:
        storage: sealed.
        log: the host's.
        witness: of a service, by the id of its key.
        clock: the host's word for the time.
        quote: makes the node's evidence.
    """

    storage: Storage
    log: HostLog
    witness: Callable[[str], Witness]
    clock: Clock
    quote: Quote


class Node:
    """A node.

    Attributes:
        settings: the operator's.
        service: its service.
        ledger: what it knows.
        engine: runs it.
        identity: its own; None before :meth:`begin`.
        shown: what its listener shows.
        public: whether the log's files show entries to anybody; known once it has begun.

    Args:
        settings: checked.
        around: what it is given.

    Raises:
        UsageError: a setting that cannot be meant.
        AuthenticityError: the log is not this service's, whole and as it was left.
        UnavailableError: the host gives nothing, or there is a log and no service for it.
    """

    def __init__(self, settings: Settings, around: Surroundings, shown: Shown) -> None:
        settings.check()
        self.settings = settings
        self.shown = shown
        self.identity: NodeIdentity | None = None
        self.public = False
        self._beginning = threading.Lock()
        self._prepared: NodeIdentity | None = None
        self._around = around
        self._view = 0
        self._kept = kept.find(around.storage) or self._found()
        self.service = self._kept.service()
        self.ledger = Ledger(self._kept.ledger_secrets())
        self._witness = around.witness(key_id(self.service.key.public_key()))
        replay(self.ledger, around.log, self.service, self._witness)
        self.engine = Engine(
            self.ledger,
            around.log,
            self._witness,
            witness_seconds=settings.witness_seconds,
            pace=around.clock.pace,
        )

    @property
    def genesis(self) -> bytes:
        """The digest of its genesis, 32 bytes."""
        return self._kept.genesis

    def begin(self, address: str) -> None:
        """Take a view, and the log with it.

        It may be called again if the host did not take the first entry, as with a full disk: the same entry
        is appended.

        Args:
            address: ``host:port`` that clients use, for the ledger's record of the node.

        Raises:
            AuthenticityError: the log changed, and not as this service's nodes write it.
            UnavailableError: another node took the log meanwhile, or the host does not take the first entry.
            PolicyError: the members did not admit this image.
        """
        with self._beginning:  # a host may call it twice at once
            if self.identity is not None:
                raise UsageError("begin: this node has begun already")
            if self._prepared is None:
                self._prepared = self._prepare(address)
            self.engine.begin()
            self.public = self._is_chosen("public")
            self.identity = self._prepared
            self.shown.show(self.identity)

    def _prepare(self, address: str) -> NodeIdentity:
        """Take a view, and seal its first entry, which records the node."""
        ledger, around = self.ledger, self._around
        # First: from then on no other node keeps anything, so what is kept is all that the log may need.
        view = self._view = kept.take_view(around.storage, ledger.committed.view)
        self._take_over()
        replay(ledger, around.log, self.service, self._witness)
        if ledger.committed.view >= view:
            raise UnavailableError(
                f"ledger: want a log before view {view}, got {ledger.committed}: another node has it",
                hint="see that nothing else serves this ledger, and start this node again",
                code="ledger_fenced",
            )
        self._forget_unlogged()
        self._use_logged_certificate()
        now = around.clock.now()
        node = NodeIdentity(self.service, self.settings.names, now, self.settings.node_days)
        quoted = around.quote(node, self.service.digest, self.genesis)
        writes = genesis.node_writes(node, quoted, address)
        begun = ledger.head != EMPTY
        if not begun:
            founded = self._genesis_writes(TxId(view, 1))
            writes = {**founded, **writes}
        else:
            genesis.check_admitted(ledger.store.begin(), writes)
            genesis.retire_others(ledger.store.begin(), writes)
        sequencer = Sequencer(
            view=view,
            tree=ledger.tree,
            secrets=ledger.secrets,
            signer=Signer(
                node.key,
                node.certificate,
                self.service.key,
                issuer=self.settings.ledger_id,
                cose_only=self._is_chosen("cose_only") if begun else self.settings.cose_only,
            ),
            clock=lambda: int(around.clock.now().timestamp()),
            last_signature=ledger.last_signature(),
        )
        self.engine.prepare(sequencer, [(writes, begun)])
        return node

    def knowledge(self) -> Identity:
        """What governance needs of the node."""
        return Identity(
            key=self.service.key,
            certificate=self.service.certificate,
            secrets=self.ledger.secrets,
            written=self.ledger.written,
        )

    def check_stays(self, state: Transaction) -> None:
        """Check that governance leaves this node trusted: it goes on signing, which an auditor would refuse.

        Raises:
            ConstitutionFailed: it does not.
        """
        node = "" if self.identity is None else self.identity.id
        raw = state.get(tables.NODES, node.encode())
        status = None if raw is None else documents.read_object(raw, "node").get("status")
        if status != "Trusted":
            raise ConstitutionFailed(
                f"node {node[:16]}: want Trusted, got {status!a:.40}: it signs this ledger",
                hint="start another node: the first entry of each retires the one before",
            )

    def carry_out(self, effects: NodeEffects) -> None:
        """Do what governance decided, with the entry that records it.

        Raises:
            UnavailableError: the store does not keep it: then the node ends, and the entry is never written.
        """
        sequencer = self.engine.sequencer
        if effects.rekeyed is not None:
            version = sequencer.last.seqno + 1
            secrets = (*self._kept.secrets, (version, effects.rekeyed))
            self._keep(structs.replace(self._kept, secrets=secrets))
            sequencer.rekey(LedgerSecret(effects.rekeyed, version))
        if effects.renewed is not None:
            self._keep(structs.replace(self._kept, certificate=effects.renewed))
            self.service = self._kept.service()
        for certificate in effects.endorsed:
            if self.identity is not None and self.identity.renew(certificate):
                sequencer.signer.certificate = certificate
                self.shown.show(self.identity)
        if effects.closes_chunk:
            sequencer.close_chunk()

    def _found(self) -> Kept:
        """Found a service: its key and first secret are on the disk, sealed, before it writes anything."""
        around = self._around
        if around.log.head() != EMPTY:
            raise UnavailableError(
                "ledger: there is a log, and no service in the store whose it could be",
                hint="give back the database that belongs to it, or name an empty folder",
                code="ledger_foreign",
            )
        service = ServiceIdentity.make(self.settings.name, around.clock.now(), self.settings.service_days)
        made = Kept(service.private_bytes(), service.certificate, ((1, os.urandom(32)),), bytes(32))
        writes = self._writes_of(service, TxId(FIRST_VIEW, 1))
        made = structs.replace(made, genesis=genesis.digest_of(writes))
        kept.keep(around.storage, made, self._view)
        return made

    def _writes_of(self, service: ServiceIdentity, created: TxId) -> NewWrites:
        writes = genesis.service_writes(self.settings, service, created)
        chosen: dict[str, jcs.Writable] = {
            "cose_only": self.settings.cose_only,
            "public": self.settings.public,
        }
        writes[CHOICES] = {tables.ONLY: jcs.dumps(chosen)}
        return writes

    def _genesis_writes(self, created: TxId) -> NewWrites:
        """The genesis, if it is still the one that was kept: it may have been cut short, and come again."""
        writes = self._writes_of(self.service, created)
        digest = genesis.digest_of(writes)
        if digest != self.genesis:
            self._keep(structs.replace(self._kept, genesis=digest))
        return writes

    def _is_chosen(self, name: str) -> bool:
        choice = self.ledger.store.begin().get(CHOICES, tables.ONLY)
        chosen = jcs.loads(choice, CHOICES) if choice is not None else None
        return isinstance(chosen, dict) and chosen.get(name) is True

    def _take_over(self) -> None:
        """Use what another node kept since this one was made: a rekey's secret, or a renewed certificate."""
        found = kept.find(self._around.storage)
        if found is not None and found != self._kept:
            ledger = self.ledger
            known = {one.version for one in ledger.secrets.all}
            # What was read is settled: a secret of it that replaying dropped is not taken again.
            secrets = tuple(one for one in found.secrets if one[0] > ledger.last or one[0] in known)
            self._kept = structs.replace(found, secrets=secrets)
            self.service, ledger.secrets = self._kept.service(), self._kept.ledger_secrets()

    def _forget_unlogged(self) -> None:
        """Forget a secret whose rekey never reached the log: no entry was acknowledged under it.

        Only in memory: until this node's first entry is in the log, the rekey may still come to be there.
        """
        used = [one for one in self.ledger.secrets.all if one.version <= max(1, self.ledger.last)]
        secrets = tuple((one.version, one.reveal()) for one in used)
        self._kept = structs.replace(self._kept, secrets=secrets)
        self.ledger.secrets = self._kept.ledger_secrets()

    def _use_logged_certificate(self) -> None:
        """Use the service's certificate that the log has: a renewal that was kept may not have reached it."""
        raw = self.ledger.store.begin().get(tables.SERVICE_INFO, tables.ONLY)
        if raw is not None:
            logged = documents.read_object(raw, "service").get("cert")
            if isinstance(logged, str) and logged != self._kept.certificate:
                self._kept = structs.replace(self._kept, certificate=logged)
                self.service = self._kept.service()

    def _keep(self, changed: Kept) -> None:
        kept.keep(self._around.storage, changed, self._view)
        self._kept = changed
