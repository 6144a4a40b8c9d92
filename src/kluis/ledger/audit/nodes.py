"""Check the nodes' own evidence: the quote covers the node's key, and code that the tables allow.

A virtual quote is no evidence of any hardware, and the report states that. A hardware quote is judged by its
own verifier; here it is compared with the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kluis.errors import KluisError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import encode_writes
from kluis.formats.ccf.service import NodeInfo, NodeStatus, ServiceInfo
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.snp import report as snp
from kluis.formats.x509 import parse_public_key
from kluis.hashes import sha256
from kluis.ledger.audit.report import Check, Findings
from kluis.ledger.audit.state import State
from kluis.ledger.audit.walk import Seen

if TYPE_CHECKING:
    from kluis.ledger.audit.own import Trust

VIRTUAL: Final = "Insecure_Virtual"
SNP: Final = "AMD_SEV_SNP_v1"


class Nodes:
    """Judges each node when its evidence enters the ledger.

    Args:
        findings: takes failures.
        trust: whom the reader trusts; None: who signed a quote is not judged.
    """

    def __init__(self, findings: Findings, trust: Trust | None) -> None:
        self._findings = findings
        self._trust = trust
        self._seen: set[tuple[bytes, bytes]] = set()
        self._genesis = bytes(32)
        self.count = 0

    def judge(self, seen: Seen, state: State) -> None:
        """Judge an entry that is already part of ``state``."""
        if seen.txid.seqno == 1:
            changes = {name: each for name, each in seen.domain.writes.items() if name not in tables.OF_NODES}
            self._genesis = sha256(encode_writes(changes))
        for name, raw in seen.domain.writes.get(tables.NODES, {}).items():
            if raw is None:
                continue
            info = NodeInfo.parse(raw, "node")
            if info.status is NodeStatus.RETIRED or (name, info.quote) in self._seen:
                continue
            self._seen.add((name, info.quote))
            self.count += 1
            node = name.decode("ascii", "replace")
            try:
                self._node(node, info, state)
            except KluisError as error:
                self._findings.fail(Check.QUOTES, f"node {node[:16]}: {error.message}")

    def _node(self, node: str, info: NodeInfo, state: State) -> None:
        if info.public_key is None:
            self._findings.note(
                Check.QUOTES, f"node {node[:16]} is of an older service: not judged", here=True
            )
            return
        key = parse_public_key(info.public_key.encode(), "public key").spki
        if sha256(key).hex() != node:
            self._fail(node, "is not named after its key")
        if info.format == VIRTUAL:
            self._virtual(node, info, state)
            shown = self._find_own(info, state)
            if shown is None:
                worth = "no hardware signs its evidence" if info.quote else "it has no quote"
                self._note(node, f"is virtual: {worth}")
            else:
                self._note(node, shown)
        elif info.format == SNP:
            self._snp(node, info, state)
        else:
            self._findings.note(
                Check.QUOTES,
                f"node {node[:16]}: a quote of format {info.format!a:.40} is not judged",
                here=True,
            )

    def _find_own(self, info: NodeInfo, state: State) -> str | None:
        raw = state.only(tables.SERVICE_INFO)
        if raw is None or not info.endorsements:
            return None
        from kluis.ledger.audit import own  # which loads what verifies quotes

        return own.judge(info, ServiceInfo.parse(raw, "service"), self._genesis, self._trust)

    def _virtual(self, node: str, info: NodeInfo, state: State) -> None:
        if not info.quote:
            return
        quote = Members(jcs.loads(info.quote, "quote"), "quote")
        if b64.decode(quote.text("report_data"), "report data").hex() != node:
            self._fail(node, "its quote is of another key")
        measured = quote.text("measurement").encode()
        if measured not in state.table(tables.MEASUREMENTS):
            self._fail(node, "its quote has a measurement that is not allowed")
        if quote.text("host_data").encode() not in state.table(tables.HOST_DATA):
            self._fail(node, "its quote has host data that is not allowed")

    def _snp(self, node: str, info: NodeInfo, state: State) -> None:
        report = snp.parse(info.quote)
        if report.report_data[:32].hex() != node:
            self._fail(node, "its report is of another key")
        listed = report.measurement.hex().encode() in state.table("public:ccf.gov.nodes.snp.measurements")
        if not listed and not state.table("public:ccf.gov.nodes.snp.uvm_endorsements"):
            self._fail(node, "its report has a measurement that is not allowed")
        if report.host_data.hex().encode() not in state.table("public:ccf.gov.nodes.snp.host_data"):
            self._fail(node, "its report has host data that is not allowed")
        self._note(node, "who signed its SNP report is not judged here")

    def _note(self, node: str, message: str) -> None:
        self._findings.note(Check.QUOTES, f"node {node[:16]}: {message}", here=True)

    def _fail(self, node: str, message: str) -> None:
        self._findings.fail(Check.QUOTES, f"node {node[:16]}: {message}")
