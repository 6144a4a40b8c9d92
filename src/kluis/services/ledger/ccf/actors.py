"""What every actor of CCF answers: commits, transactions, receipts, and its interface's document.

Spec: CCF, "Issue Commands"; ``src/node/rpc/common_endpoint_registry.h``.
"""

from __future__ import annotations

from typing import Any, Final

from kluis.ledger.status import Status
from kluis.services.ledger.callers import ANY, LedgerCaller
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.log import HostLog
from kluis.services.ledger.running.receipts import Proven, prove
from kluis.services.ledger.running.transactions import find_committed, parse_txid
from kluis.services.web import Answer, Call, Operation, Refusal

ACTORS: Final = ("app", "gov", "node")


class Common:
    """The operations.

    Args:
        node: the ledger's.
        log: the host's.
        document: gives the OpenAPI document.
    """

    def __init__(self, node: Node, log: HostLog, document: Any) -> None:
        self._node = node
        self._log = log
        self._document = document

    def operations(self) -> tuple[Operation, ...]:
        """The operations of each actor."""
        txid = {"transaction_id": True}
        since = {"view_history": False, "view_history_since": False}
        made: list[Operation] = []
        for actor in ACTORS:
            name = actor.title()
            made += [
                _op(f"{name}Commit", f"/{actor}/commit", self.commit, since),
                _op(f"{name}Tx", f"/{actor}/tx", self.tx, txid),
                _op(f"{name}Receipt", f"/{actor}/receipt", self.receipt, txid),
                _op(f"{name}ReceiptCose", f"/{actor}/receipt/cose", self.receipt_cose, txid),
                _op(f"{name}Api", f"/{actor}/api", self.api),
            ]
        return (*made, _op("Whoami", "/app/whoami", self.whoami, access=ANY))

    async def commit(self, call: Call) -> Answer:
        """The last transaction that is committed, and where each view began."""
        ledger = self._node.ledger
        body: dict[str, Any] = {"transaction_id": str(ledger.committed)}
        first = call.query.get("view_history_since")
        if first is not None or call.query.get("view_history", "false") == "true":
            if first is not None and not (first.isascii() and first.isdigit() and len(first) < 10):
                raise Refusal(
                    400, "InvalidQueryParameterValue", f"view_history_since: want a view, got {first[:40]!a}"
                )
            starts = [one for one in ledger.views.starts if one.view >= int(first or 0)]
            body["view_history"] = [str(one) for one in starts]
        return Answer(body)

    async def tx(self, call: Call) -> Answer:
        """Whether a transaction is committed."""
        txid = parse_txid(_requested_id(call), "transaction_id")
        status = self._node.ledger.status(txid) if txid.seqno else Status.INVALID
        return Answer({"transaction_id": str(txid), "status": status.value})

    async def receipt(self, call: Call) -> Answer:
        """A receipt, as JSON."""
        return Answer((await self._prove(call)).receipt(self._node.ledger).to_json())

    async def receipt_cose(self, call: Call) -> Answer:
        """A receipt, as COSE."""
        receipt = (await self._prove(call)).cose(self._node.ledger)
        return Answer(receipt, content_type="application/cose")

    async def api(self, call: Call) -> Answer:
        """This service's OpenAPI document."""
        return Answer(self._document())

    async def whoami(self, call: Call) -> Answer:
        """The caller as the ledger knows it, and its roles."""
        caller = call.caller
        if not isinstance(caller, LedgerCaller):
            raise Refusal(401, "InvalidAuthenticationInfo", "whoami: the caller has no identity")
        body: dict[str, Any] = {
            "userId": caller.subject,
            "identity": sorted(caller.kinds),
            "roles": sorted(caller.roles),
        }
        if caller.certificate_id:
            body["certificateId"] = caller.certificate_id
        return Answer(body)

    async def _prove(self, call: Call) -> Proven:
        ledger = self._node.ledger
        txid = find_committed(ledger, _requested_id(call))
        return await prove(ledger, self._log, txid)


def _requested_id(call: Call) -> str:
    text = call.query.get("transaction_id")
    if text is None:
        raise Refusal(
            400, "InvalidQueryParameterValue", "transaction_id: want VIEW.SEQNO in the query, got none"
        )
    return text


def _op(
    name: str, path: str, handler: Any, query: dict[str, bool] | None = None, access: str | None = None
) -> Operation:
    return Operation(name, "GET", path, handler, handler.__doc__, access, versioned=False, query=query or {})
