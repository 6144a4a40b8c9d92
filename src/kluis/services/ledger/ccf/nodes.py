"""Information about a node of CCF and its network.

Spec: CCF, ``doc/schemas/node_openapi.json``.
"""

from __future__ import annotations

from typing import Any, Final

import kluis
from kluis.formats.ccf import tables
from kluis.formats.ccf.service import ServiceInfo
from kluis.formats.ccf.values import read_json
from kluis.ledger.store import Transaction
from kluis.services.ledger.node import Node
from kluis.services.ledger.recorded import is_open, quotes
from kluis.services.web import Answer, Call, Operation, Refusal

OF_QUOTE: Final = ("node_id", "format", "measurement", "raw", "endorsements")


class Nodes:
    """The operations under ``/node``.

    Args:
        node: this one.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> tuple[Operation, ...]:
        """The operations."""
        nodes = "/node/network/nodes"
        return (
            _op("Network", "/node/network", self.network),
            _op("NetworkNodes", nodes, self.nodes, {"status": False}),
            _op("NetworkNode", f"{nodes}/{{nodeId}}", self.one),
            _op("NetworkSelf", f"{nodes}/self", self.to_self),
            _op("NetworkPrimary", f"{nodes}/primary", self.to_self),
            _op("Primary", "/node/primary", self.primary),
            Operation(
                name="HeadPrimary",
                method="HEAD",
                path="/node/primary",
                handler=self.primary,
                summary="Whether this node is the primary: it is.",
                versioned=False,
            ),
            _op("NodeState", "/node/state", self.state),
            _op("Consensus", "/node/consensus", self.consensus),
            _op("NodeVersion", "/node/version", self.version),
            _op("Quotes", "/node/quotes", self.quotes),
            _op("OwnQuote", "/node/quotes/self", self.own_quote),
            _op("Attestations", "/node/attestations", self.attestations),
            _op("OwnAttestation", "/node/attestations/self", self.own_quote),
            _op("ServiceConfiguration", "/node/service/configuration", self.configuration),
            _op("PreviousIdentity", "/node/service/previous_identity", self.previous),
            _op("SelfSigned", "/node/self_signed_certificate", self.self_signed),
            _op("ReadyApp", "/node/ready/app", self.ready_app),
            _op("ReadyGov", "/node/ready/gov", self.ready_gov),
        )

    async def network(self, call: Call) -> Answer:
        """The service, and the primary of its network."""
        read = await self._node.engine.read(lambda state: state.get(tables.SERVICE_INFO, tables.ONLY))
        info = ServiceInfo.parse(read.value, "service.info")
        return Answer(
            {
                "current_service_create_txid": str(info.created),
                "current_view": self._node.engine.sequencer.view,
                "primary_id": self._id,
                "recovery_count": info.recoveries or 0,
                "service_certificate": info.certificate,
                "service_data": None,
                "service_status": info.status.value,
            }
        )

    async def nodes(self, call: Call) -> Answer:
        """Every node that the ledger has."""
        status = call.query.get("status")
        read = await self._node.engine.read(self._nodes)
        return Answer({"nodes": [one for one in read.value if status in (None, one["status"])]})

    async def one(self, call: Call) -> Answer:
        """One node."""
        read = await self._node.engine.read(self._nodes)
        for one in read.value:
            if one["node_id"] == call.path["nodeId"]:
                return Answer(one)
        raise Refusal(404, "ResourceNotFound", "Node not found")

    async def to_self(self, call: Call) -> Answer:
        """The way to this node, which is the primary."""
        return Answer(None, 308, headers={"Location": f"/node/network/nodes/{self._id}"})

    async def primary(self, call: Call) -> Answer:
        """Whether this node is the primary: it is."""
        return Answer(None, 200)

    async def state(self, call: Call) -> Answer:
        """How far this node is."""
        return Answer(
            {
                "node_id": self._id,
                "state": "PartOfNetwork",
                "last_signed_seqno": self._node.ledger.last_signature(),
                "startup_seqno": 0,
                "stop_notice": False,
            }
        )

    async def consensus(self, call: Call) -> Answer:
        """The configuration of a network of one node."""
        details = {
            "acks": {},
            "configs": [{"idx": 1, "nodes": {self._id: {"address": ""}}, "rid": 0}],
            "current_view": self._node.engine.sequencer.view,
            "leadership_state": "Leader",
            "membership_state": "Active",
            "primary_id": self._id,
            "ticking": True,
        }
        return Answer({"details": details})

    async def version(self, call: Call) -> Answer:
        """What runs here."""
        return Answer({"ccf_version": f"kluis-{kluis.__version__}", "quickjs_version": "", "unsafe": False})

    async def quotes(self, call: Call) -> Answer:
        """Evidence of every node."""
        return Answer({"quotes": await self._quotes()})

    async def attestations(self, call: Call) -> Answer:
        """Evidence of every node."""
        return Answer({"attestations": await self._quotes()})

    async def own_quote(self, call: Call) -> Answer:
        """Evidence of this node."""
        for one in await self._quotes():
            if one["node_id"] == self._id:
                return Answer(one)
        raise Refusal(404, "ResourceNotFound", "Could not find node quote")

    async def configuration(self, call: Call) -> Answer:
        """How the service is configured."""
        return Answer(await self._json(tables.SERVICE_CONFIG))

    async def previous(self, call: Call) -> Answer:
        """The identity before this one: there is none before a recovery."""
        raise Refusal(404, "ResourceNotFound", "This service is not a recovery of a previous service.")

    async def self_signed(self, call: Call) -> Answer:
        """The certificate that a node has before it is trusted: this one is trusted from its beginning."""
        raise Refusal(404, "ResourceNotFound", "This node's certificate is issued by the service.")

    async def ready_app(self, call: Call) -> Answer:
        """Whether the application answers: once the service is open."""
        read = await self._node.engine.read(is_open)
        return Answer(None, 204 if read.value else 503)

    async def ready_gov(self, call: Call) -> Answer:
        """Whether governance answers."""
        return Answer(None, 204)

    @property
    def _id(self) -> str:
        return self._node.identity.id if self._node.identity is not None else ""

    async def _quotes(self) -> list[dict[str, Any]]:
        read = await self._node.engine.read(quotes)
        return [{name: one[name] for name in OF_QUOTE} for one in read.value]

    async def _json(self, table: str) -> Any:
        read = await self._node.engine.read(lambda state: state.get(table, tables.ONLY))
        return {} if read.value is None else read_json(read.value, table)

    def _nodes(self, state: Transaction) -> list[dict[str, Any]]:
        nodes = []
        for key, value in state.items(tables.NODES):
            info = read_json(value, "node")
            if isinstance(info, dict):
                nodes.append(
                    {
                        "last_written": 0,
                        "node_data": info.get("node_data"),
                        "node_id": key.decode(),
                        "primary": key.decode() == self._id,
                        "rpc_interfaces": info.get("rpc_interfaces"),
                        "status": info.get("status"),
                    }
                )
        return nodes


def _op(name: str, path: str, handler: Any, query: dict[str, bool] | None = None) -> Operation:
    return Operation(name, "GET", path, handler, handler.__doc__, versioned=False, query=query or {})
