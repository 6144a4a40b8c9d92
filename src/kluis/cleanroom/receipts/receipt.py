"""The receipt of a run: its inputs, its analyses and the consents; checked offline, as of its time.

Its key is generated inside the enclave and attested under purpose ``receipt``, over a nonce that is the hash
of the owners' signed releases. So the receipt, the evidence and the consents belong together.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal, Self

import msgspec

from kluis.cleanroom.agreement import exchange
from kluis.cleanroom.agreement.agreement import Agreement, Dataset, SignedAgreement, check_signed
from kluis.cleanroom.agreement.documents import Document, decode, hash_of
from kluis.cleanroom.agreement.exchange import Evidence, Release, ReleaseStatement, SignatureBytes
from kluis.cleanroom.agreement.keys import check_signature
from kluis.cleanroom.agreement.terms import ColumnName, Hex32, Identifier, Time, earliest
from kluis.cleanroom.receipts.verdict import Verdict, check_evidence
from kluis.errors import AuthenticityError, FreshnessError, PolicyError
from kluis.formats.kluis.runtime_data import Purpose
from kluis.frozen import frozen
from kluis.hashes import sha256


class Input(Document, frozen=True):
    """One opened data set."""

    dataset: ColumnName
    version: int
    terms: Hex32
    parts: tuple[Hex32, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The input for a data set of the agreement."""
        return cls(
            dataset=dataset.id,
            version=dataset.version,
            terms=hash_of(dataset.terms),
            parts=tuple(part.sha256 for part in dataset.parts),
        )


class Done(Document, frozen=True):
    """One analysis. Every field except the last follows from the agreement.

    The receipt is public in the room's folder, so it does not state how many groups were hidden, or whether
    the analysis could be computed: one person's value could decide that. The sealed result states it.

    Attributes:
        ``asked``: hash of the agreed analysis.
        executed: SHA-256 of the executed SQL, including rules.
        k: the applied minimum group size.
        result: SHA-256 of the sealed result, whose size follows from the agreement.
    """

    id: Identifier
    asked: Hex32
    executed: Hex32
    k: int
    result: Hex32


class ReceiptStatement(Document, frozen=True):
    """The enclave's signed statement about a run.

    Attributes:
        image_id: the measurement of the enclave itself; ``check_receipt`` compares it with its evidence.
        time: the latest time that an owner signed, not the host's.
    """

    kind: Literal["kluis-receipt/2"]
    agreement: Hex32
    run: Hex32
    image_id: Hex32
    time: Time
    inputs: tuple[Input, ...]
    analyses: tuple[Done, ...]
    releases: tuple[Hex32, ...]


class Receipt(Document, frozen=True):
    """A receipt from the enclave."""

    statement: Annotated[bytes, msgspec.Meta(max_length=1024 * 1024)]
    signature: SignatureBytes
    evidence: Evidence
    releases: tuple[Release, ...]


class ReceiptFile(Document, frozen=True):
    """A receipt with everything needed to check it offline: the agreement, and the platform's collateral."""

    kind: Literal["kluis-receipt-file/1"]
    receipt: Receipt
    agreement: SignedAgreement
    collateral: Annotated[bytes, msgspec.Meta(max_length=1024 * 1024)]


@frozen
class CheckedReceipt:
    """A receipt that passed every check."""

    statement: ReceiptStatement
    agreement: Agreement
    consents: tuple[ReleaseStatement, ...]
    verdict: Verdict

    def _repr_html_(self) -> str:
        """What ran, over what, and who agreed, for a notebook."""
        from kluis.cards import card  # only a notebook needs it

        statement = self.statement
        rows = [
            ("agreement", statement.agreement),
            ("run", statement.run),
            ("time", statement.time),
            ("image id", statement.image_id),
            *((f"input {each.dataset}", f"version {each.version}") for each in statement.inputs),
            *((f"analysis {each.id}", f"groups of at least {each.k}") for each in statement.analyses),
            *((f"consent of {each.party}", each.time) for each in self.consents),
        ]
        return card("receipt, checked offline as of its time", [(name, str(text)) for name, text in rows])


def check_receipt(file: ReceiptFile, agreement_hash: str) -> CheckedReceipt:
    """Check a receipt, with no network and no clock.

    1. The agreement is the expected one, and every party signed it.
    2. Each owner signed a release for this run, within the time that the agreement and its terms allow.
    3. The receipt's evidence, as of the latest of those times, meets the agreement, and its nonce is the hash
       of the releases.
    4. The key that evidence attests under purpose ``receipt`` signed the statement.
    5. The statement is of this agreement and run, and its inputs are those agreed; its image is the one that
       the evidence of step 3 measured.

    Args:
        file: the receipt.
        agreement_hash: the room's name, 64 hex digits, from one's own records.

    Raises:
        KluisError: with the first step that fails.
    """
    agreement = check_signed(file.agreement)
    if agreement.hash != agreement_hash:
        raise AuthenticityError(
            f"receipt: want agreement {agreement_hash[:16]}.., got {agreement.hash[:16]}..", code="receipt"
        )  # 1
    receipt = file.receipt
    statement = decode(receipt.statement, ReceiptStatement, "receipt")
    consents = tuple(_consent(each, agreement, statement.run) for each in receipt.releases)  # 2
    if tuple(each.party for each in consents) != agreement.owners:
        raise PolicyError(f"receipt: want a release of each of {list(agreement.owners)}", code="receipt")
    time = max(each.time for each in consents)
    verdict = check_evidence(
        receipt.evidence,
        agreement.code,
        purpose=Purpose.RECEIPT,
        nonce=exchange.receipt_nonce(receipt.releases),
        payload=exchange.receipt_payload(agreement.hash, statement.run),
        collateral=file.collateral,
        now=time,
    )  # 3
    if verdict.signing_key is None:
        raise AuthenticityError("receipt: its evidence holds no Ed25519 key", code="receipt")
    check_signature(
        verdict.signing_key, receipt.signature, exchange.RECEIPT, receipt.statement, "receipt"
    )  # 4
    want = ReceiptStatement(
        kind="kluis-receipt/2",
        agreement=agreement.hash,
        run=statement.run,
        image_id=verdict.measured,
        time=time,
        inputs=tuple(Input.of(each) for each in agreement.datasets),
        analyses=statement.analyses,
        releases=tuple(sha256(each.statement).hex() for each in receipt.releases),
    )
    if statement != want or [each.asked for each in statement.analyses] != [
        hash_of(each) for each in agreement.analyses
    ]:
        raise PolicyError(
            "receipt: does not match the agreement and the releases next to it", code="receipt"
        )  # 5
    return CheckedReceipt(statement, agreement, consents, verdict)


def check_result(checked: CheckedReceipt, sealed: bytes, analysis: str) -> None:
    """Check that a sealed result is the one in the receipt.

    Raises:
        AuthenticityError: it is another one.
    """
    got = sha256(sealed).hex()
    for done in checked.statement.analyses:
        if done.id == analysis and done.result == got:
            return
    raise AuthenticityError(
        f"result {analysis}: is not the one in the receipt, sha256 {got[:16]}..", code="result"
    )


def _consent(release: Release, agreement: Agreement, run: str) -> ReleaseStatement:
    statement = decode(release.statement, ReleaseStatement, "release")
    key = agreement.party(statement.party).signing_key
    check_signature(
        key, release.signature, exchange.RELEASE, release.statement, f"release, {statement.party}"
    )
    if statement.agreement != agreement.hash or statement.run != run:
        raise PolicyError(f"release, {statement.party}: is for another run", code="receipt")
    expires: datetime.datetime = earliest(
        agreement.expires, tuple(each.terms for each in agreement.owned_by(statement.party))
    )
    if not agreement.created <= statement.time < expires:
        window = f"{agreement.created} to {expires}"
        raise FreshnessError(
            f"release, {statement.party}: want a time from {window}, got {statement.time}", code="receipt"
        )
    return statement
