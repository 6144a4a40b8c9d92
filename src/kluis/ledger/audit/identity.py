"""Checks of a service's life: its status, its certificates, its nodes, its views and its recoveries.

1. The status changes as a service's life goes; another certificate comes with a recovery only.
2. The service's value names the entry that wrote it before, and the one that created its identity. A
   constitution that renews the certificate leaves the former as it was.
3. A node's certificate is signed by the service's key of that entry, and has the node's key.
4. A view begins with a signature, with a node that joins, or with a recovery.
5. A recovery begins a chunk, and names the certificate and the last signed root before it.
6. An identity is endorsed by the one after it, from its first entry to its last.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

from kluis.errors import KluisError
from kluis.formats.ccf import tables
from kluis.formats.ccf.endorsement import Endorsement
from kluis.formats.ccf.entry import CHUNK_BEFORE
from kluis.formats.ccf.service import NodeInfo, NodeStatus, ServiceInfo, ServiceStatus, parse_text
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.formats.x509 import parse_public_key
from kluis.ledger import receipts
from kluis.ledger.audit.report import Check, Findings
from kluis.ledger.audit.signing import Certificates, Signing
from kluis.ledger.audit.state import State
from kluis.ledger.audit.walk import Seen

_S: Final = ServiceStatus
_NEXT: Final = {
    None: (_S.OPENING, _S.RECOVERING),
    _S.OPENING: (_S.OPEN, _S.WAITING),
    _S.OPEN: (_S.RECOVERING,),
    _S.RECOVERING: (_S.WAITING,),
    _S.WAITING: (_S.OPEN,),
}


class Identity:
    """Follows a service's identities through its ledger.

    Args:
        findings: takes failures.
        signing: knows the roots that were signed.
        certificates: that were loaded.
        beyond: whether checks beyond CCF's own tools are made.
    """

    def __init__(
        self, findings: Findings, signing: Signing, certificates: Certificates, *, beyond: bool
    ) -> None:
        self._findings = findings
        self._signing = signing
        self._certificates = certificates
        self._beyond = beyond
        self.service: ServiceInfo | None = None
        self.starts: list[tuple[TxId, str]] = []
        """Each identity's first entry, and PEM of its certificate."""
        self.ends: list[tuple[TxId, bytes]] = []
        """The last signature of each identity but the last, and its root."""
        self.endorsed: set[str] = set()
        """PEM of the certificates that a later identity endorsed."""
        self.accepted: set[str] = set()
        """Ids of the keys that members accepted as the service's: anybody can begin a recovery of files."""
        self._view = 0
        self._written = 0

    def judge(self, seen: Seen, state: State) -> None:
        """Judge an entry that is already part of ``state``."""
        writes = seen.domain.writes
        if (raw := writes.get(tables.SERVICE_INFO, {}).get(tables.ONLY)) is not None:
            self._service(ServiceInfo.parse(raw, "service"), seen, state)
        if self._beyond:
            for name, pem in writes.get(tables.NODE_CERTIFICATES, {}).items():
                if pem is not None:
                    self._node_certificate(name, pem.decode("utf-8", "replace"), state)
            if seen.txid.view != self._view:
                self._new_view(seen, state)
            if (raw := writes.get(tables.IDENTITY_ENDORSEMENT, {}).get(tables.ONLY)) is not None:
                self._endorsement(Endorsement.parse(raw, "endorsement"), state)
        self._view = seen.txid.view

    def _service(self, info: ServiceInfo, seen: Seen, state: State) -> None:
        findings, before = self._findings, self.service
        own = self._certificates.load(info.certificate)[2]  # or it is no certificate, and nothing comes of it
        if info.status in (_S.OPEN, _S.WAITING):
            self.accepted.add(own)
        status = None if before is None else before.status
        if before is None or info.status is not before.status or info.certificate != before.certificate:  # 1
            renewed = before is not None and info.status is before.status and self._same_key(info, before)
            if info.status is not _S.OPENING and info.status not in _NEXT[status] and not renewed:
                was = "none" if status is None else status.value
                findings.fail(Check.SERVICE, f"status {info.status.value} does not follow {was}")
        if self._beyond and before is not None and info.status is _S.OPENING is not before.status:
            findings.fail(Check.SERVICE, "a service that was there before begins again")
        created = info.created is not None and info.created == seen.txid
        if before is None or (info.certificate != before.certificate and not self._same_key(info, before)):
            if before is not None and not created and info.created is not None:
                findings.fail(Check.SERVICE, f"has another certificate, and was created at {info.created}")
            self.starts.append((seen.txid, info.certificate))
            if before is not None:
                if self._signing.last is not None:
                    last = self._signing.last
                    self.ends.append((last, self._signing.roots[last.seqno]))
                if self._beyond:
                    self._recovery(before, seen, state)
        elif info.created is not None and before.created != info.created:
            findings.fail(Check.SERVICE, f"want creation at {before.created}, got {info.created}")
        renewed = before is not None and info.status is before.status and info.previous == before.previous
        if self._beyond and info.previous not in (None, self._written) and not renewed:  # 2
            findings.fail(Check.SERVICE, f"want {self._written} as the entry before, got {info.previous}")
        self.service, self._written = info, seen.txid.seqno

    def _same_key(self, one: ServiceInfo, other: ServiceInfo) -> bool:
        load = self._certificates.load
        return load(one.certificate)[2] == load(other.certificate)[2]

    def _node_certificate(self, name: bytes, pem: str, state: State) -> None:  # 3
        node = name.decode("ascii", "replace")
        certificate, _, own = self._certificates.load(pem)
        info = self.service
        if info is None:
            self._findings.fail(Check.CERTIFICATES, f"node {node[:16]} has a certificate before any service")
            return
        service, key, _ = self._certificates.load(info.certificate)
        try:
            receipts.check_issued(certificate, key, "certificate")
        except KluisError:
            self._findings.fail(Check.CERTIFICATES, f"node {node[:16]}: is not signed by the service")
            return
        if own != node:
            self._findings.fail(Check.CERTIFICATES, f"node {node[:16]}: has the key of {own[:16]}")
        issued, authority = False, False
        try:
            issued = certificate.issuer == service.subject
            authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            authority = False
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            issued, authority = False, False
        if not issued:
            self._findings.fail(Check.CERTIFICATES, f"node {node[:16]}: names another issuer")
        if authority:
            self._findings.fail(Check.CERTIFICATES, f"node {node[:16]}: may issue certificates")

    def _new_view(self, seen: Seen, state: State) -> None:  # 4
        if self._view == 0 or Signing.is_one(seen) or self._joins(seen):
            return
        if self.starts and self.starts[-1][0] == seen.txid:
            return
        self._findings.fail(
            Check.VIEWS, f"view {seen.txid.view} begins with neither a signature, a node nor a recovery"
        )

    def _joins(self, seen: Seen) -> bool:
        """Whether an entry makes a node trusted that has a certificate of the service with it."""
        certificates = seen.domain.writes.get(tables.NODE_CERTIFICATES, {})
        for name, raw in seen.domain.writes.get(tables.NODES, {}).items():
            if raw is not None and name in certificates:
                return NodeInfo.parse(raw, "node").status is NodeStatus.TRUSTED
        return False

    def _recovery(self, before: ServiceInfo, seen: Seen, state: State) -> None:  # 5
        findings = self._findings
        if not seen.flags & CHUNK_BEFORE:
            findings.note(Check.RECOVERY, "does not begin a chunk by its flags", here=True)
        writes = seen.domain.writes
        raw = writes.get(tables.PREVIOUS_IDENTITY, {}).get(tables.ONLY)
        if raw is None:
            findings.note(Check.RECOVERY, "does not name the certificate before it", here=True)
        elif parse_text(raw, "previous identity") != before.certificate:
            findings.fail(Check.RECOVERY, "names another certificate than the one before it")
        raw = writes.get(tables.LAST_SIGNED_ROOT, {}).get(tables.ONLY)
        if raw is None:
            findings.note(Check.RECOVERY, "does not name the last signed root before it", here=True)
        elif not self.ends or parse_text(raw, "root") != self.ends[-1][1].hex():
            want = self.ends[-1][1].hex() if self.ends else "none"
            findings.fail(Check.RECOVERY, f"want last signed root {want}, got another")

    def _endorsement(self, link: Endorsement, state: State) -> None:  # 6
        findings = self._findings
        key = parse_public_key(link.endorsing_key, "endorsing key").spki
        signers = [pem for _, pem in self.starts if self._spki(pem) == key]
        if not signers:
            findings.fail(Check.RECOVERY, "an endorsement is by a key that is no service's")
            return
        try:
            cose.check(link.message, self._certificates.load(signers[-1])[1], "endorsement")
        except KluisError:
            findings.fail(Check.RECOVERY, "an endorsement is not signed by the key that it names")
            return
        position = next(
            (at for at, (_, pem) in enumerate(self.starts) if self._spki(pem) == link.message.payload), None
        )
        if position is None:
            findings.fail(Check.RECOVERY, "an endorsement is of a key that was no service's")
            return
        start, pem = self.starts[position]
        if link.start != start:
            findings.fail(Check.RECOVERY, f"want an endorsement from {start} on, got one from {link.start}")
        if position == len(self.starts) - 1:
            if link.end is not None:
                findings.fail(Check.RECOVERY, f"the present identity is endorsed up to {link.end}")
            return
        end, root = self.ends[position] if position < len(self.ends) else (None, None)
        if link.end != end:
            findings.fail(Check.RECOVERY, f"want an endorsement up to {end}, got one up to {link.end}")
        elif link.root is not None and link.root != root:
            findings.fail(Check.RECOVERY, "an endorsement names another last root")
        else:
            self.endorsed.add(pem)

    def _spki(self, pem: str) -> bytes:
        return receipts.spki(self._certificates.load(pem)[1])
