"""The documents between an owner's client and the enclave, and the outputs of a run.

All of them pass through an untrusted host, which can drop or repeat any of them, but gains nothing.

    owner    -> Challenge   a nonce of the owner's own
    enclave  -> Offer       evidence over that nonce and the key made for this run, purpose release-key
    owner    -> Release     the data keys sealed to that key, signed by the owner
    enclave  -> results (``results``) and a Receipt, purpose receipt
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import msgspec

from kluis.cleanroom.agreement.documents import Document, encode
from kluis.cleanroom.agreement.keys import SEALING_SIZE, SIGNATURE_SIZE
from kluis.cleanroom.agreement.terms import ColumnName, Hex32, Identifier, Time
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.hashes import sha256

NONCE_SIZE = 32
RELEASE = "release/1"
RECEIPT = "receipt/1"
STOP = "stop/1"

Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_SIZE, max_length=NONCE_SIZE)]
SignatureBytes = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_SIZE, max_length=SIGNATURE_SIZE)]
Blob = Annotated[bytes, msgspec.Meta(max_length=64 * 1024)]


class Evidence(EvidenceBundle, Document, frozen=True):
    """A quote with the two documents whose hashes it contains."""

    quote: Blob
    runtime_data: Blob
    launch_configuration: Blob


class Challenge(Document, frozen=True):
    """One owner's request to one run for evidence."""

    agreement: Hex32
    party: Identifier
    nonce: Nonce


class OfferPayload(Document, frozen=True):
    """The payload of the evidence for an owner; in the runtime data, and so covered by the quote."""

    kind: Literal["kluis-offer/1"]
    agreement: Hex32
    run: Hex32
    party: Identifier
    sealing_key: Annotated[bytes, msgspec.Meta(min_length=SEALING_SIZE, max_length=SEALING_SIZE)]


class ReceiptPayload(Document, frozen=True):
    """The payload of a receipt's evidence."""

    kind: Literal["kluis-receipt-key/1"]
    agreement: Hex32
    run: Hex32


class Offer(Document, frozen=True):
    """The enclave's answer to one challenge."""

    party: Identifier
    evidence: Evidence


class KeyFor(Document, frozen=True):
    """One data key, sealed to the enclave's key of one run."""

    dataset: ColumnName
    version: int
    sealed: Annotated[bytes, msgspec.Meta(max_length=4096)]


class ReleaseStatement(Document, frozen=True):
    """An owner's consent to one run: the keys, the checks it made, and the time.

    Attributes:
        evidence: SHA-256 of the quote that the owner verified.
        rules: the names of the rules that were met; a failed rule would have stopped it.
        level: the protection level that followed from the anchor.
    """

    kind: Literal["kluis-release/1"]
    agreement: Hex32
    run: Hex32
    party: Identifier
    time: Time
    evidence: Hex32
    level: str
    rules: tuple[str, ...]
    keys: tuple[KeyFor, ...]


class Release(Document, frozen=True):
    """A release statement, canonical, with its owner's signature."""

    statement: Annotated[bytes, msgspec.Meta(max_length=1024 * 1024)]
    signature: SignatureBytes


class Stop(Document, frozen=True):
    """An owner's permanent withdrawal from an agreement."""

    kind: Literal["kluis-stop/1"]
    agreement: Hex32
    party: Identifier
    time: Time


class SignedStop(Document, frozen=True):
    """A stop, canonical, with its owner's signature."""

    statement: Blob
    signature: SignatureBytes


class Attester(Protocol):
    """Functions of the runtime for code inside the enclave."""

    def release_offer(self, nonce: bytes, payload: bytes) -> Evidence:
        """Evidence over a payload, purpose ``release-key``."""

    def receipt_offer(self, nonce: bytes, payload: bytes) -> Evidence:
        """Evidence over the receipt key, purpose ``receipt``."""

    def sign_receipt(self, statement: bytes) -> bytes:
        """Sign with the receipt key: Ed25519, 64 bytes."""


def release_info(agreement: str, run: str, party: str, dataset: str, version: int) -> bytes:
    """The purpose of a sealed data key; HPKE's ``info``."""
    return "|".join(("kluis-release/1", agreement, run, party, dataset, str(version))).encode()


def offer_payload(agreement: str, run: str, party: str, sealing_key: bytes) -> bytes:
    """The payload of an offer, canonical."""
    return encode(
        OfferPayload(kind="kluis-offer/1", agreement=agreement, run=run, party=party, sealing_key=sealing_key)
    )


def receipt_nonce(releases: tuple[Release, ...]) -> bytes:
    """The nonce of a receipt's evidence: SHA-256 over the hashes of the owners' statements."""
    return sha256(b"".join(sha256(each.statement) for each in releases))


def receipt_payload(agreement: str, run: str) -> bytes:
    """The payload of a receipt's evidence, canonical."""
    return encode(ReceiptPayload(kind="kluis-receipt-key/1", agreement=agreement, run=run))
