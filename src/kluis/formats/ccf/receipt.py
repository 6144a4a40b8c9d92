"""Receipts as JSON: how an entry's leaf leads to a root, and who signed it. Nothing here is verified.

    {"cert": PEM, "leaf_components": {"claims_digest", "commit_evidence", "write_set_digest"}, "node_id",
     "proof": [{"left" or "right": hexadecimal}], "signature": base64, "service_endorsements": [PEM]}

The receipt of an entry that holds a signature has "leaf", the root, and no components. Azure Confidential
Ledger names the members in camel case, and may have the receipt in an object with its state.

Spec: CCF, "Write Receipts"; Azure Confidential Ledger, "Get Transaction Receipt".
"""

from __future__ import annotations

import binascii
from typing import Final, NamedTuple, Self

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.jcs import Json, Writable
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

MAX_SIZE: Final = 1 << 20
MAX_PROOF: Final = 64
MAX_ENDORSEMENTS: Final = 64
_CAMEL: Final = {
    "leafComponents": "leaf_components",
    "claimsDigest": "claims_digest",
    "commitEvidence": "commit_evidence",
    "writeSetDigest": "write_set_digest",
    "nodeId": "node_id",
    "serviceEndorsements": "service_endorsements",
    "isSignatureTransaction": "is_signature_transaction",
}


class Step(NamedTuple):
    """One step of a proof from a leaf to a root.

    Attributes:
        left: whether the sibling is on the left.
        sibling: 32 bytes.
    """

    left: bool
    sibling: bytes


class Components(NamedTuple):
    """The components of an entry's leaf.

    Attributes:
        write_set_digest: 32 bytes.
        evidence: the commit evidence.
        claims_digest: 32 bytes, zeros for none; None if the application requires it to be computed from the
            claims.
    """

    write_set_digest: bytes
    evidence: str
    claims_digest: bytes | None


@frozen(kw_only=True)
class Receipt:
    """A receipt.

    Attributes:
        certificate: PEM of the node that signed.
        node: its id, 32 bytes; None where it is not stated.
        components: of the leaf; None for an entry that holds a signature.
        leaf: the root itself, 32 bytes, for an entry that holds a signature; else None.
        proof: from the leaf to the root.
        signature: DER, over the root.
        endorsements: PEM of certificates between the node's and the service's.
    """

    certificate: str
    node: bytes | None = None
    components: Components | None = None
    leaf: bytes | None = None
    proof: tuple[Step, ...] = ()
    signature: bytes
    endorsements: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read a receipt, with CCF's or Azure's member names, bare or as ``receipt`` in an object.

        Raises:
            FormatError: a member is missing, of another kind or too large.
        """
        return cls.of(jcs.loads(data, what, max_size=MAX_SIZE), what)

    @classmethod
    def of(cls, value: Json, what: str) -> Self:
        """Read a receipt from JSON that is read already.

        Raises:
            FormatError: a member is missing, of another kind or too large.
        """
        outer = Members(value, what)
        members = _snake(outer.object("receipt") if "receipt" in outer else outer)
        components = leaf = None
        if "leaf_components" in members and not members.null("leaf_components"):
            components = _components(_snake(members.object("leaf_components")))
        else:
            leaf = members.hex("leaf", 32)
        endorsements: tuple[str, ...] = ()
        if _has(members, "service_endorsements"):
            endorsements = members.texts("service_endorsements", most=MAX_ENDORSEMENTS)
        try:
            # As every other verifier: bits of the last letter that stand for nothing may be set.
            signature = binascii.a2b_base64(members.text("signature").encode("ascii"), strict_mode=True)
        except ValueError:
            raise FormatError(f"{what}.signature: is not base64", code="bad_encoding") from None
        return cls(
            certificate=members.text("cert"),
            node=members.hex("node_id", 32) if _has(members, "node_id") else None,
            components=components,
            leaf=leaf,
            proof=tuple(map(_step, members.objects("proof", most=MAX_PROOF))),
            signature=signature,
            endorsements=endorsements,
        )

    def to_json(self) -> dict[str, Writable]:
        """The receipt in the words of CCF."""
        value: dict[str, Writable] = {
            "cert": self.certificate,
            "proof": [{"left" if step.left else "right": step.sibling.hex()} for step in self.proof],
            "signature": b64.encode(self.signature),
        }
        if self.components is not None:
            claims = self.components.claims_digest
            value["leaf_components"] = {
                **({} if claims is None else {"claims_digest": claims.hex()}),
                "commit_evidence": self.components.evidence,
                "write_set_digest": self.components.write_set_digest.hex(),
            }
        if self.leaf is not None:
            value["leaf"] = self.leaf.hex()
        if self.node is not None:
            value["node_id"] = self.node.hex()
        if self.endorsements:
            value["service_endorsements"] = list(self.endorsements)
        return value

    def to_azure(self) -> dict[str, Writable]:
        """The receipt in the words of Azure Confidential Ledger."""
        words = {snake: camel for camel, snake in _CAMEL.items()}
        value = {words.get(name, name): each for name, each in self.to_json().items()}
        components = value.get("leafComponents")
        if isinstance(components, dict):
            value["leafComponents"] = {words[str(name)]: each for name, each in components.items()}
        value["isSignatureTransaction"] = self.components is None
        value["serviceEndorsements"] = list(self.endorsements)
        return value

    def encode(self) -> bytes:
        """Write the receipt in the words of CCF, canonical JSON."""
        return jcs.dumps(self.to_json())


def _components(members: Members) -> Components:
    return Components(
        members.hex("write_set_digest", 32),
        members.text("commit_evidence", limit=256),
        members.hex("claims_digest", 32) if _has(members, "claims_digest") else None,
    )


def _step(members: Members) -> Step:
    sides = [name for name in ("left", "right") if _has(members, name)]
    if len(sides) != 1:
        raise FormatError(f"{members.what}: want left or right, got {' and '.join(sides) or 'neither'}")
    return Step(sides[0] == "left", members.hex(sides[0], 32))


def _snake(members: Members) -> Members:
    snake: dict[str, Json] = {}
    for name, value in members.entries(most=64).items():
        word = _CAMEL.get(name, name)
        if word in snake:
            raise FormatError(f"{members.what}: {word} occurs twice", code="duplicate_key")
        snake[word] = value
    return Members(snake, members.what)


def _has(members: Members, name: str) -> bool:
    return name in members and not members.null(name)
