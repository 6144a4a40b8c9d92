"""CCF's governance API about the service: constitution, members, users, nodes, and join policy.

Spec: CCF, "Governance API", ``2024-07-01``; ``src/node/gov/handlers/service_state.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kluis.formats.ccf import tables
from kluis.formats.encoding import jcs
from kluis.ledger.governance.documents import read_json, service_config, service_info
from kluis.ledger.store import Transaction
from kluis.services.ledger.ccf.governance import JAVASCRIPT, operation
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.transactions import parse_txid
from kluis.services.ledger.tables import JWT_ISSUERS, JWT_KEYS, USER_CERTIFICATES, USER_INFO
from kluis.services.web import Answer, Call, Operation, Refusal

MEASUREMENTS = "public:ccf.gov.nodes.virtual.measurements"
HOST_DATA = "public:ccf.gov.nodes.virtual.host_data"


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
        names = {
            "recovery_threshold": "recoveryThreshold",
            "maximum_node_certificate_validity_days": "maximumNodeCertificateValidityDays",
            "maximum_service_certificate_validity_days": "maximumServiceCertificateValidityDays",
            "recent_cose_proposals_window_size": "recentCoseProposalsWindowSize",
        }
        return Answer(
            {
                "status": info["status"],
                "certificate": info["cert"],
                "recoveryCount": info.get("recovery_count", 0),
                "creationTransactionId": info.get("current_service_create_txid"),
                "serviceData": info.get("service_data"),
                "configuration": {name: config[key] for key, name in names.items() if key in config},
            }
        )

    async def members(self, call: Call) -> Answer:
        """All members."""
        return await self._all(_member, tables.MEMBERS)

    async def member(self, call: Call) -> Answer:
        """One member."""
        return await self._one(call, _member, tables.MEMBERS, "member")

    async def users(self, call: Call) -> Answer:
        """All users that have certificates in the tables."""
        return await self._all(_user, USER_CERTIFICATES)

    async def user(self, call: Call) -> Answer:
        """One of them."""
        return await self._one(call, _user, USER_CERTIFICATES, "user")

    async def nodes(self, call: Call) -> Answer:
        """All nodes."""
        return await self._all(_node, tables.NODES)

    async def node(self, call: Call) -> Answer:
        """One node."""
        return await self._one(call, _node, tables.NODES, "node")

    async def join_policy(self, call: Call) -> Answer:
        """Which code may join as a node."""

        def work(state: Transaction) -> dict[str, Any]:
            measurements = [key.decode() for key, _ in state.items(MEASUREMENTS)]
            host_data = [key.decode() for key, _ in state.items(HOST_DATA)]
            return {
                "sgx": {"measurements": []},
                "snp": {"measurements": [], "hostData": {}, "uvmEndorsements": {}, "tcbVersions": {}},
                "virtual": {"measurements": measurements, "hostData": host_data},
            }

        return Answer((await self._node.engine.read(work)).value)

    async def jwk(self, call: Call) -> Answer:
        """Issuers of tokens, and their keys."""

        def work(state: Transaction) -> dict[str, Any]:
            issuers = {key.decode(): read_json(value, "issuer") for key, value in state.items(JWT_ISSUERS)}
            keys = {key.decode(): _keys(value) for key, value in state.items(JWT_KEYS)}
            return {"issuers": issuers, "keys": keys, "caCertBundles": {}}

        return Answer((await self._node.engine.read(work)).value)

    async def application(self, call: Call) -> Answer:
        """The application's endpoints in JavaScript: this service has none."""
        return Answer({"endpoints": {}})

    async def modules(self, call: Call) -> Answer:
        """The application's modules in JavaScript: this service has none."""
        return Answer({"value": []})

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


def _member(state: Transaction, key: bytes) -> dict[str, Any]:
    info = read_json(state.get(tables.MEMBERS, key) or b"{}", "member")
    encryption = state.get(tables.MEMBER_KEYS, key)
    described = {
        "memberId": key.decode(),
        "status": info.get("status"),
        "certificate": (state.get(tables.MEMBER_CERTIFICATES, key) or b"").decode(),
        "memberData": info.get("member_data"),
    }
    if encryption is not None:
        described["publicEncryptionKey"] = encryption.decode()
        described["recoveryRole"] = info.get("recovery_role", "Participant")
    return described


def _user(state: Transaction, key: bytes) -> dict[str, Any]:
    info = state.get(USER_INFO, key)
    return {
        "userId": key.decode(),
        "certificate": (state.get(USER_CERTIFICATES, key) or b"").decode(),
        "userData": None if info is None else read_json(info, "user").get("user_data"),
    }


def _node(state: Transaction, key: bytes) -> dict[str, Any]:
    info = jcs.loads(state.get(tables.NODES, key) or b"{}", "node")
    described = info if isinstance(info, dict) else {}
    certificate = state.get(tables.NODE_CERTIFICATES, key)
    return {
        "nodeId": key.decode(),
        "status": described.get("status"),
        "certificate": "" if certificate is None else certificate.decode(),
        "nodeData": described.get("node_data"),
        "quoteInfo": described.get("quote_info"),
        "rpcInterfaces": described.get("rpc_interfaces"),
    }


def _keys(value: bytes) -> list[dict[str, Any]]:
    return [
        {
            "publicKey": one.get("public_key"),
            "issuer": one.get("issuer"),
            **({"constraint": one["constraint"]} if one.get("constraint") else {}),
        }
        for one in read_json(value, "keys")
    ]
