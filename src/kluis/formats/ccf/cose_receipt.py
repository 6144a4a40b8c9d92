"""Receipts as COSE: the service's signature over a root, with proofs of leaves. Nothing here is verified.

    COSE_Sign1 = [protected, {396: {-1: [bstr .cbor proof]}}, nil, signature], tag 18
    proof = {1: [write-set digest, commit evidence, claims digest], 2: [[left: bool, sibling]]}

Spec: RFC 9942 (COSE Receipts); draft-ietf-scitt-receipts-ccf-profile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from kluis.errors import FormatError
from kluis.formats.ccf.receipt import MAX_PROOF, Components, Step
from kluis.formats.ccf.signature import INCLUSION, PROOFS, ServiceSignature
from kluis.formats.encoding import cbor
from kluis.formats.encoding.cbor import Value
from kluis.formats.encoding.entries import Entries
from kluis.formats.ietf.cose import Sign1
from kluis.frozen import frozen

MAX_SIZE: Final = 64 * 1024
MAX_PROOFS: Final = 64
_LEAF: Final = 1
_PATH: Final = 2
_NAMES: Final = {PROOFS: "proofs", INCLUSION: "inclusion", _LEAF: "leaf", _PATH: "path"}


class Proof(NamedTuple):
    """How one leaf leads to the root.

    Attributes:
        components: of the leaf.
        path: from the leaf to the root.
    """

    components: Components
    path: tuple[Step, ...]


@frozen
class CoseReceipt:
    """A receipt.

    Attributes:
        signed: the service's signature, which names the entry that holds it.
        proofs: at least one; all lead to the same root, or the receipt is worth nothing.
    """

    signed: ServiceSignature
    proofs: tuple[Proof, ...]

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read a receipt.

        Raises:
            UnsupportedError: another algorithm, another kind of tree, or a payload that is not detached.
            FormatError: anything else than a receipt.
        """
        signed = ServiceSignature.parse(data, what)
        unprotected = Entries(dict(signed.message.unprotected), f"{what}.unprotected", _NAMES)
        unprotected.only((PROOFS,))
        kinds = Entries(unprotected.map(PROOFS, least=1, most=1), f"{what}.proofs", _NAMES)
        kinds.only((INCLUSION,))
        proofs = kinds.octets_array(INCLUSION, range(1, MAX_SIZE), least=1, most=MAX_PROOFS)
        return cls(signed, tuple([_proof(raw, f"{what}.proof") for raw in proofs]))

    def encode(self) -> bytes:
        """Write the receipt: the bytes it was read from."""
        return encode(self.signed.message, self.proofs)


def encode(signature: Sign1, proofs: Sequence[Proof]) -> bytes:
    """Write a receipt.

    Args:
        signature: the service's, as the ledger holds it.
        proofs: of leaves under the root that it signs.
    """
    raw = [cbor.dumps({_LEAF: list(each.components), _PATH: list(map(list, each.path))}) for each in proofs]
    return dataclasses.replace(signature, unprotected={PROOFS: {INCLUSION: list(raw)}}).encode()


def _proof(raw: bytes, what: str) -> Proof:
    entries = Entries(cbor.loads(raw, what), what, _NAMES)
    entries.only((_LEAF, _PATH))
    match entries.array(_LEAF, least=3, most=3):
        case [bytes(digest), str(evidence), bytes(claims)] if len(digest) == len(claims) == 32:
            components = Components(digest, evidence, claims)
        case _:
            raise FormatError(f"{what}.leaf: want 32 bytes, text and 32 bytes", code="bad_type")
    steps = tuple([_step(each, what) for each in entries.array(_PATH, least=0, most=MAX_PROOF)])
    return Proof(components, steps)


def _step(value: Value, what: str) -> Step:
    match value:
        case [bool(left), bytes(sibling)] if len(sibling) == 32:
            return Step(left, sibling)
    raise FormatError(f"{what}.path: want a boolean and 32 bytes", code="bad_type")
