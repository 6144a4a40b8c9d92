"""Azure Confidential Ledger's operations about itself, and those of its interface that are not served
here.
"""

from __future__ import annotations

from typing import Any, Final

from kluis.formats.ccf import tables
from kluis.formats.ccf.service import parse_text
from kluis.hashes import sha256
from kluis.services.ledger.azure.versions import PREVIEW, STABLE, operation
from kluis.services.ledger.node import Node
from kluis.services.ledger.recorded import quotes
from kluis.services.web import Answer, Call, Operation, Refusal

READ: Final = "/governance/read"
# What users define in JavaScript: paths, and what each is called.
NOT_SERVED: Final = (
    ("/app/userDefinedEndpoints", ("GET", "PUT"), "user-defined endpoints"),
    ("/app/userDefinedEndpoints/modules", ("GET",), "user-defined endpoints"),
    ("/app/userDefinedEndpoints/runtimeOptions", ("GET", "PATCH"), "user-defined endpoints"),
    ("/app/userDefinedFunctions", ("GET",), "user-defined functions"),
    ("/app/userDefinedFunctions/{functionId}", ("GET", "PUT", "DELETE"), "user-defined functions"),
    ("/app/userDefinedFunctions/{functionId}:execute", ("POST",), "user-defined functions"),
)


class About:
    """The operations that describe the ledger.

    Args:
        node: the ledger's.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> tuple[Operation, ...]:
        """The operations."""
        governance = "/app/governance"
        refused = [
            operation(f"NotServed{number}{method}", method, path, PREVIEW, _refuse(what), READ)
            for number, (path, methods, what) in enumerate(NOT_SERVED)
            for method in methods
        ]
        return (
            operation(
                "GetConstitution", "GET", f"{governance}/constitution", STABLE, self.constitution, READ
            ),
            operation("ListConsortiumMembers", "GET", f"{governance}/members", STABLE, self.members, READ),
            operation("GetEnclaveQuotes", "GET", "/app/enclaveQuotes", STABLE, self.enclaves, READ),
            Operation(
                name="GetLedgerIdentity",
                method="GET",
                path="/ledgerIdentity/{ledgerId}",
                handler=self.identity,
                summary="The service's certificate: the host's claim, until the enclave is attested.",
                versioned=False,
            ),
            *refused,
        )

    async def constitution(self, call: Call) -> Answer:
        """The script that governs the ledger, and its digest."""
        read = await self._node.engine.read(lambda state: state.get(tables.CONSTITUTION, tables.ONLY))
        script = "" if read.value is None else parse_text(read.value, "constitution")
        return Answer({"digest": sha256(script.encode()).hex(), "script": script})

    async def members(self, call: Call) -> Answer:
        """The members of the consortium."""
        read = await self._node.engine.read(lambda state: list(state.items(tables.MEMBER_CERTIFICATES)))
        return Answer(
            {"members": [{"certificate": pem.decode(), "id": key.decode()} for key, pem in read.value]}
        )

    async def enclaves(self, call: Call) -> Answer:
        """Evidence of every node."""
        read = await self._node.engine.read(quotes)
        listed = {
            one["node_id"]: {
                "nodeId": one["node_id"],
                "mrenclave": one["measurement"],
                "quoteVersion": one["format"],
                "raw": one["evidence"],
            }
            for one in read.value
        }
        current = self._node.identity.id if self._node.identity is not None else ""
        return Answer({"currentNodeId": current, "enclaveQuotes": listed})

    async def identity(self, call: Call) -> Answer:
        """The certificate that clients pin."""
        return Answer(
            {"ledgerId": call.path["ledgerId"], "ledgerTlsCertificate": self._node.service.certificate}
        )


def _refuse(what: str) -> Any:
    async def refuse(call: Call) -> Answer:
        raise Refusal(
            400, "NotImplemented", f"{call.target[:200]}: {what} in JavaScript are not served by this ledger"
        )

    refuse.__doc__ = f"Refused: {what} are not served."
    return refuse
