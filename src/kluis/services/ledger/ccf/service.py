"""CCF's governance API about the service: constitution, members, users, nodes, and join policy.

Spec: CCF, "Governance API", ``2024-07-01``; ``src/node/gov/handlers/service_state.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kluis.formats.ccf import tables
from kluis.formats.ccf.txid import TxId
from kluis.formats.ccf.values import read_json
from kluis.ledger.governance.documents import service_config, service_info
from kluis.ledger.governance.recent import WINDOW
from kluis.ledger.store import Transaction
from kluis.services.ledger.ccf.descriptions import (
    describe_endpoints,
    describe_issuers,
    describe_join_policy,
    describe_member,
    describe_modules,
    describe_node,
    describe_user,
)
from kluis.services.ledger.ccf.governance import JAVASCRIPT, operation
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.transactions import parse_txid
from kluis.services.web import Answer, Call, Operation, Refusal

CONFIGURATION: Final = (
    ("recovery_threshold", "recoveryThreshold", 0),
    ("maximum_node_certificate_validity_days", "maximumNodeCertificateValidityDays", 365),
    ("maximum_service_certificate_validity_days", "maximumServiceCertificateValidityDays", 365),
    ("recent_cose_proposals_window_size", "recentCoseProposalsWindowSize", WINDOW),
)
"""Each member of the configuration in its table and in an answer, and its value where the table has none."""


class ServiceState:
    """The operations under ``/gov/service``.

    Args:
        node: the ledger's.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> tuple[Operation, ...]:
        """The operations."""
        at = "/gov/service"
        return (
            operation("GovConstitution", "GET", f"{at}/constitution", self.constitution),
            operation("GovInfo", "GET", f"{at}/info", self.info),
            operation("GovMembers", "GET", f"{at}/members", self.members),
            operation("GovMember", "GET", f"{at}/members/{{id}}", self.member),
            operation("GovUsers", "GET", f"{at}/users", self.users),
            operation("GovUser", "GET", f"{at}/users/{{id}}", self.user),
            operation("GovNodes", "GET", f"{at}/nodes", self.nodes),
            operation("GovNode", "GET", f"{at}/nodes/{{id}}", self.node),
            operation("GovJoinPolicy", "GET", f"{at}/join-policy", self.join_policy),
            operation("GovJwk", "GET", f"{at}/jwk", self.jwk),
            operation("GovApplication", "GET", f"{at}/javascript-app", self.application),
            operation("GovModules", "GET", f"{at}/javascript-modules", self.modules),
            operation("GovCommitted", "GET", f"{at}/transactions/commit", self.show_committed),
            operation("GovTransaction", "GET", f"{at}/transactions/{{id}}", self.transaction),
        )

    async def constitution(self, call: Call) -> Answer:
        """The constitution, JavaScript."""
        read = await self._node.engine.read(lambda state: state.get(tables.CONSTITUTION, tables.ONLY))
        return Answer(str(read_json(read.value or b'""', "constitution")), content_type=JAVASCRIPT)

    async def info(self, call: Call) -> Answer:
        """The service's status, certificate and configuration."""
        read = await self._node.engine.read(lambda state: (service_info(state), service_config(state)))
        info, config = read.value
        body = {
            "status": info["status"],
            "certificate": info["cert"],
            "recoveryCount": info.get("recovery_count", 0),
            "creationTransactionId": info.get("current_service_create_txid"),
            "serviceData": info.get("service_data"),
            "configuration": {name: config.get(key, usual) for key, name, usual in CONFIGURATION},
        }
        if (before := info.get("previous_service_identity_version")) is not None:
            txid = TxId(self._node.ledger.views.of(before), before)
            body["previousServiceCreationTransactionId"] = str(txid)
        return Answer(body)

    async def members(self, call: Call) -> Answer:
        """All members."""
        return await self._all(describe_member, tables.MEMBERS)

    async def member(self, call: Call) -> Answer:
        """One member."""
        return await self._one(call, describe_member, tables.MEMBERS, "member")

    async def users(self, call: Call) -> Answer:
        """All users that have certificates in the tables."""
        return await self._all(describe_user, tables.USER_CERTIFICATES)

    async def user(self, call: Call) -> Answer:
        """One of them."""
        return await self._one(call, describe_user, tables.USER_CERTIFICATES, "user")

    async def nodes(self, call: Call) -> Answer:
        """All nodes."""
        return await self._all(describe_node, tables.NODES)

    async def node(self, call: Call) -> Answer:
        """One node."""
        return await self._one(call, describe_node, tables.NODES, "node")

    async def join_policy(self, call: Call) -> Answer:
        """Which code may join as a node."""
        return Answer((await self._node.engine.read(describe_join_policy)).value)

    async def jwk(self, call: Call) -> Answer:
        """Issuers of tokens, and their keys."""
        return Answer((await self._node.engine.read(describe_issuers)).value)

    async def application(self, call: Call) -> Answer:
        """The endpoints in JavaScript that members decided on; no node serves them."""
        return Answer({"endpoints": (await self._node.engine.read(describe_endpoints)).value})

    async def modules(self, call: Call) -> Answer:
        """The modules in JavaScript that members decided on; no node runs them."""
        return Answer({"value": (await self._node.engine.read(describe_modules)).value})

    async def show_committed(self, call: Call) -> Answer:
        """The last transaction that is committed."""
        return Answer({"committedTransactionId": str(self._node.ledger.committed)})

    async def transaction(self, call: Call) -> Answer:
        """Whether a transaction is committed."""
        txid = parse_txid(call.path["id"])
        status = self._node.ledger.status(txid).value if txid.seqno else "Invalid"
        return Answer({"transactionId": str(txid), "status": status})

    async def _all(self, shape: Callable[[Transaction, bytes], dict[str, Any]], table: str) -> Answer:
        def work(state: Transaction) -> list[dict[str, Any]]:
            return [shape(state, key) for key, _ in state.items(table)]

        return Answer({"value": (await self._node.engine.read(work)).value})

    async def _one(
        self, call: Call, shape: Callable[[Transaction, bytes], dict[str, Any]], table: str, what: str
    ) -> Answer:
        key = call.path["id"].encode()

        def work(state: Transaction) -> dict[str, Any] | None:
            return shape(state, key) if state.has(table, key) else None

        read = await self._node.engine.read(work)
        if read.value is None:
            raise Refusal(404, "ResourceNotFound", f"{what} {call.path['id'][:64]!a}: is not in the tables")
        return Answer(read.value)
