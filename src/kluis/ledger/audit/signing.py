"""Checks of signed roots: the root is that of the entries, a trusted node and the service signed it.

1. The root in the entry is the one of all entries before it, and the tree table is the tree's.
2. The entry that a signature names is the one that holds it.
3. The node is trusted at this entry, its certificate has its key, and the key signed the root.
4. The service's key at this entry signed the root.
5. One of them leads to the service: its own signature, or the node's, with a certificate that it issued.
   Anyone who has the files can write a row of a node.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import AuthenticityError, KluisError
from kluis.formats.ccf import tables
from kluis.formats.ccf.service import NodeInfo, NodeStatus, ServiceInfo
from kluis.formats.ccf.signature import NodeSignature, ServiceSignature
from kluis.formats.ccf.tree import TreeTable
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.ledger import receipts
from kluis.ledger.audit.report import Check, Findings
from kluis.ledger.audit.state import State
from kluis.ledger.audit.walk import Seen
from kluis.ledger.merkle import Tree
from kluis.ledger.signer import key_id

_TABLES: Final = (tables.SIGNATURES, tables.COSE_SIGNATURES)


class Broken(Exception):
    """Nothing after this entry can be judged; why is among the findings."""


class Certificates:
    """Certificates by their text: a ledger repeats each in every signature."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[x509.Certificate, ec.EllipticCurvePublicKey, str]] = {}

    def load(self, pem: str) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey, str]:
        """A certificate, its key and the key's id.

        Raises:
            FormatError: no certificate, or one whose key is not on a curve.
        """
        known = self._known.get(pem)
        if known is None:
            certificate = receipts.load_certificate(pem, "certificate")
            key = receipts.curve_key(certificate)
            known = self._known[pem] = (certificate, key, key_id(key))
        return known


class Signing:
    """Judges each entry that holds a signature.

    Args:
        findings: takes failures.
        tree: of the entries before.
        certificates: that were loaded.
        tree_tables: whether the tree table is compared, too.
    """

    def __init__(
        self, findings: Findings, tree: Tree, certificates: Certificates, *, tree_tables: bool
    ) -> None:
        self._findings = findings
        self._tree = tree
        self._certificates = certificates
        self._tree_tables = tree_tables
        self._services: dict[bytes, str] = {}
        self._issued: dict[tuple[str, bytes], bool] = {}
        self._nodes: dict[bytes, NodeInfo] = {}
        self.count = 0
        self.by_nodes = 0
        self.by_service = 0
        self.roots: dict[int, bytes] = {}
        """Each signed root, by the seqno of the entry that holds it."""
        self.last: TxId | None = None
        self.leads = False
        """Whether the last signed root leads to the service's key: all do, but those of an older service."""

    @staticmethod
    def is_one(seen: Seen) -> bool:
        """Whether an entry holds a signature."""
        writes = seen.domain.writes
        return any(name in writes for name in _TABLES)

    def judge(self, seen: Seen, state: State) -> None:
        """Judge one entry that holds a signature.

        Raises:
            Broken: its root is not the one of the entries before it.
        """
        writes, root = seen.domain.writes, self._tree.root()
        if not any(writes.get(name, {}).get(tables.ONLY) for name in _TABLES):
            self._findings.fail(Check.ROOTS, "changes a table of signatures, and holds none")
            return
        before, leads, node = self._findings.failures, False, None
        try:
            if (raw := writes.get(tables.SIGNATURES, {}).get(tables.ONLY)) is not None:
                node = NodeSignature.parse(raw, "signature")
                self._node(node, root, seen.txid, state)
                self.by_nodes += 1
            if (raw := writes.get(tables.COSE_SIGNATURES, {}).get(tables.ONLY)) is not None:
                leads = self._service(
                    ServiceSignature.parse_value(raw, "COSE signature"), root, seen.txid, state
                )
                self.by_service += 1
                if not leads and node is None:
                    self._findings.fail(Check.ROOTS, f"no signature of this root: {self._since(seen.txid)}")
                    raise Broken
            if not leads and node is not None and self._findings.failures == before:
                leads = self._leads(node, state)
            if self._tree_tables:
                self._table(writes.get(tables.TREE, {}).get(tables.ONLY))
        except KluisError as error:
            self._findings.fail(Check.ROOTS, error.message)
        if self._findings.failures == before:
            self.count += 1
            self.last, self.leads = seen.txid, leads
            self.roots[seen.txid.seqno] = root

    def _node(self, signed: NodeSignature, root: bytes, txid: TxId, state: State) -> None:
        findings = self._findings
        if signed.root != root:  # 1
            got = signed.root.hex()
            findings.fail(Check.ROOTS, f"want root {root.hex()}, got {got} signed: {self._since(txid)}")
            raise Broken
        if (signed.view, signed.seqno) != txid:  # 2
            findings.fail(Check.NODE_SIGNATURES, f"want one of {txid}, got {signed.view}.{signed.seqno}")
        raw = state.table(tables.NODES).get(signed.node.encode())  # 3
        if raw is None:
            findings.fail(Check.NODE_SIGNATURES, f"node {signed.node[:16]} is unknown")
            return
        info = self._nodes.get(raw)
        if info is None:
            info = self._nodes[raw] = NodeInfo.parse(raw, "node")
        if info.status is not NodeStatus.TRUSTED:
            findings.fail(
                Check.NODE_SIGNATURES, f"node {signed.node[:16]}: want Trusted, got {info.status.value}"
            )
        endorsed = state.table(tables.NODE_CERTIFICATES).get(signed.node.encode())
        stated = signed.certificate or info.certificate
        pem = stated if endorsed is None else endorsed.decode("utf-8", "replace")
        if not pem:
            findings.fail(Check.NODE_SIGNATURES, f"node {signed.node[:16]} has no certificate")
            return
        _, key, own = self._certificates.load(pem)
        if own != signed.node and info.public_key is not None:
            findings.fail(Check.NODE_SIGNATURES, f"node {signed.node[:16]}: its certificate has another key")
        if stated and self._certificates.load(stated)[2] != own:
            findings.fail(Check.NODE_SIGNATURES, f"node {signed.node[:16]}: signs with another certificate")
        try:
            receipts.check_root(signed.signature, root, key, "root")
        except KluisError:
            findings.fail(
                Check.NODE_SIGNATURES, f"root {root.hex()} is not signed by node {signed.node[:16]}"
            )

    def _leads(self, signed: NodeSignature, state: State) -> bool:  # 5
        """Whether the service issued the certificate of a node whose signature holds."""
        raw, own = state.only(tables.SERVICE_INFO), signed.node.encode()
        pem = state.table(tables.NODE_CERTIFICATES).get(own)
        if raw is not None and pem is not None and self._is_issued(pem.decode("utf-8", "replace"), raw):
            return True
        older = self._nodes[state.table(tables.NODES)[own]].public_key is None
        if self.leads or not older:
            self._findings.fail(
                Check.NODE_SIGNATURES, f"node {signed.node[:16]}: the service issued no certificate for it"
            )
        return False

    def _is_issued(self, pem: str, service: bytes) -> bool:
        known = self._issued.get((pem, service))
        if known is None:
            key = self._certificates.load(ServiceInfo.parse(service, "service").certificate)[1]
            try:
                receipts.check_issued(self._certificates.load(pem)[0], key, "certificate")
                known = True
            except AuthenticityError:
                known = False
            self._issued[pem, service] = known
        return known

    def _since(self, txid: TxId) -> str:
        """Between which entries something is not what was signed."""
        first = 1 if self.last is None else self.last.seqno
        return f"one of the entries {first} to {txid.seqno - 1} is not the one that was signed"

    def _service(self, signed: ServiceSignature, root: bytes, txid: TxId, state: State) -> bool:
        """Judge the service's signature; gives whether it is one of this root."""
        findings = self._findings
        if signed.txid != txid:  # 2
            findings.fail(Check.SERVICE_SIGNATURES, f"want a signature of {txid}, got {signed.txid}")
        raw = state.only(tables.SERVICE_INFO)  # 4
        if raw is None:
            findings.fail(Check.SERVICE_SIGNATURES, "there is no service yet")
            return False
        pem = self._services.get(raw)
        if pem is None:
            pem = self._services[raw] = ServiceInfo.parse(raw, "service").certificate
        _, key, own = self._certificates.load(pem)
        if signed.key_id != own:
            findings.fail(Check.SERVICE_SIGNATURES, f"want a signature by key {own}, got {signed.key_id}")
        try:
            cose.check(signed.message.over(root), key, "root")
        except KluisError:
            findings.fail(Check.SERVICE_SIGNATURES, f"root {root.hex()} is not signed by the service")
            return False
        return True

    def _table(self, raw: bytes | None) -> None:
        if raw is None:
            self._findings.fail(Check.ROOTS, "holds a signature and no tree")
            return
        table = TreeTable.parse(raw, "tree")
        if table.size != self._tree.size or table != self._tree.table(table.flushed):
            self._findings.fail(Check.ROOTS, "want the tree of the entries before, got another")
