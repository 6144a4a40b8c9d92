"""One run inside the enclave: offers, keys, data, analyses, results, in that order and once.

Nothing here trusts its caller. It opens the data that the signed agreement pins, with keys that the owners
released for this run, and runs the agreement's analyses. It returns only sealed results, one receipt, and
codes.
"""

from __future__ import annotations

import datetime
import os
import threading
from typing import TYPE_CHECKING

from kluis.cleanroom.agreement import exchange
from kluis.cleanroom.agreement.agreement import Agreement, Analysis, SignedAgreement, check_signed
from kluis.cleanroom.agreement.documents import decode, encode, hash_of
from kluis.cleanroom.agreement.exchange import Attester, Challenge, Offer, Release, ReleaseStatement
from kluis.cleanroom.agreement.keys import SealingKey, check_signature
from kluis.cleanroom.agreement.terms import earliest, strictest_k
from kluis.cleanroom.analyses import budget
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.receipts import results
from kluis.cleanroom.receipts.receipt import Done, Input, Receipt, ReceiptStatement
from kluis.errors import AuthenticityError, FreshnessError, PolicyError, UsageError
from kluis.hashes import sha256

if TYPE_CHECKING:
    import polars as pl

HOURS_APART = 24  # the times that the owners of one run sign


class Session:
    """One run of one agreement.

    Args:
        attester: the runtime, which sets the purpose of all evidence.
        image_id: this enclave's own, 64 hex digits.
        signed: the agreement, signed by every party; checked here.

    Raises:
        KluisError: the agreement is not complete, or is for other code.
    """

    def __init__(self, attester: Attester, image_id: str, signed: SignedAgreement) -> None:
        self._attester = attester
        self._agreement: Agreement = check_signed(signed)
        if self._agreement.code.image_id != image_id:
            raise PolicyError(
                f"agreement: want image {self._agreement.code.image_id[:16]}.., this is {image_id[:16]}..",
                code="image",
            )
        self._image_id = image_id
        self._key = SealingKey.generate()
        self._offers: dict[str, Offer] = {}
        self._releases: dict[str, tuple[Release, ReleaseStatement]] = {}
        self._keys: dict[str, bytes] = {}
        self._files: dict[str, list[bytes]] = {}
        self._tables: dict[str, pl.DataFrame] = {}
        self._ended = False
        # A host may call twice at once: while keys are checked, none is replaced, and no run begins.
        self._turn = threading.Lock()
        self.run_id = os.urandom(32).hex()

    def offer(self, challenge: Challenge) -> Offer:
        """Answer an owner's challenge: evidence over its nonce and the key generated for this run.

        Raises:
            PolicyError: not an owner of this agreement, or it already has its offer.
        """
        party = challenge.party
        if challenge.agreement != self._agreement.hash or party not in self._agreement.owners:
            raise PolicyError(
                f"challenge: {party} owns no data under agreement {challenge.agreement[:16]}",
                code="room_challenge",
            )
        if party in self._offers:
            raise PolicyError(f"challenge: {party} has its offer for this run", code="room_challenge")
        payload = exchange.offer_payload(self._agreement.hash, self.run_id, party, self._key.public)
        self._offers[party] = Offer(
            party=party, evidence=self._attester.release_offer(challenge.nonce, payload)
        )
        return self._offers[party]

    def accept(self, release: Release) -> None:
        """Take an owner's keys.

        1. Its owner signed it.
        2. It is for this agreement, this run, and the evidence in this owner's offer; and the first.
        3. It contains a key for every data set of that owner, sealed to this run's key.

        Raises:
            AuthenticityError: step 1 or 3.
            PolicyError: step 2.
        """
        with self._turn:
            statement = decode(release.statement, ReleaseStatement, "release")
            owner = self._agreement.party(statement.party)
            check_signature(
                owner.signing_key,
                release.signature,
                exchange.RELEASE,
                release.statement,
                f"release, {owner.id}",
            )  # 1
            offer = self._offers.get(owner.id)
            if (
                statement.agreement != self._agreement.hash
                or statement.run != self.run_id
                or offer is None
                or statement.evidence != sha256(offer.evidence.quote).hex()
                or owner.id in self._releases
            ):
                raise PolicyError(f"release, {owner.id}: is not for this run", code="room_release")  # 2
            owned = self._agreement.owned_by(owner.id)
            if [(key.dataset, key.version) for key in statement.keys] != [
                (each.id, each.version) for each in owned
            ]:
                raise PolicyError(
                    f"release, {owner.id}: want a key for each of {[each.id for each in owned]}",
                    code="room_release",
                )
            opened = {}
            for key in statement.keys:  # 3
                info = exchange.release_info(
                    self._agreement.hash, self.run_id, owner.id, key.dataset, key.version
                )
                opened[key.dataset] = self._key.open(key.sealed, info)
            self._keys.update(opened)
            self._releases[owner.id] = (release, statement)

    def add_file(self, dataset: str, data: bytes) -> None:
        """Take the next sealed file of a data set, if it is the agreed one.

        Raises:
            PolicyError: the agreement has no such data set, or no further file of it.
            AuthenticityError: it is another file.
        """
        wanted = self._agreement.dataset(dataset)
        files = self._files.setdefault(dataset, [])
        number, got = len(files), sha256(data).hex()
        if number >= len(wanted.parts):
            raise PolicyError(
                f"data set {dataset}: want {len(wanted.parts)} files, got another", code="dataset"
            )
        if got != wanted.parts[number].sha256:
            want = wanted.parts[number].sha256
            raise AuthenticityError(
                f"data set {dataset} part {number}: want sha256 {want[:16]}.., got {got[:16]}..",
                code="dataset",
            )
        files.append(data)

    def run(self) -> tuple[dict[str, bytes], Receipt]:
        """Open the data, run every analysis, seal the results, sign the receipt; once.

        Every analysis has a result. One that cannot be computed is sealed as a result without figures, so
        that only its recipients can tell.

        Returns:
            Sealed results by analysis, and the receipt, to which the host adds the collateral.

        Raises:
            UsageError: it ran already, an owner has not released its keys, or a file is missing.
            FreshnessError: by an owner's clock, the agreement or its terms have expired; or an owner signed
                another time than the others.
            AuthenticityError: a key does not open a file.
            PolicyError: the agreement publishes more figures than its limit, or a query is not allowed.
        """
        with self._turn:
            now = self._begin()
        budget.check(self._agreement)
        from kluis.cleanroom.analyses import analysis

        # Kept until the enclave ends: freed memory is not erased either, and the host ends it after the run.
        self._tables = analysis.open_all(self._agreement, self._files, self._keys)
        noise = Noise.of(self._agreement, self._keys)
        self._keys.clear()
        sealed: dict[str, bytes] = {}
        done = []
        for each in self._agreement.analyses:
            record, sealed[each.id] = self._analyse(each, noise)
            done.append(record)
        return sealed, self._receipt(tuple(done), now)

    def _begin(self) -> datetime.datetime:
        """Check that this run may begin, and begin it; the time that its owners signed."""
        if self._ended:
            raise UsageError("run: this run has ended; start another", code="run_ended")
        missing = [each for each in self._agreement.owners if each not in self._releases]
        if missing:
            raise UsageError(f"run: want the keys of every owner, missing {missing}", code="run_unreleased")
        # The host could set this machine's clock: the time of a run is the one that the owners signed. One of
        # them can sign any: a receipt of that time would be wrong, or nobody could check it.
        times = [statement.time for _, statement in self._releases.values()]
        now = max(times)
        if min(times) < self._agreement.created or now - min(times) > datetime.timedelta(hours=HOURS_APART):
            raise FreshnessError(
                f"release: want times from {self._agreement.created}, at most {HOURS_APART} hours apart, "
                f"got {min(times)} to {now}",
                code="room_release",
            )
        expires = earliest(self._agreement.expires, tuple(each.terms for each in self._agreement.datasets))
        if now >= expires:
            raise FreshnessError(
                f"agreement: want a run before {expires}, owners say {now}", code="agreement_expired"
            )
        for dataset in self._agreement.datasets:
            count = len(self._files.get(dataset.id, ()))
            if count != len(dataset.parts):
                raise UsageError(
                    f"data set {dataset.id}: want {len(dataset.parts)} files, got {count}", code="dataset"
                )
        self._ended = True
        return now

    def _analyse(self, question: Analysis, noise: Noise) -> tuple[Done, bytes]:
        from kluis.cleanroom.analyses import analysis

        inputs = tuple(self._agreement.dataset(name) for name in question.inputs)
        k = strictest_k(self._agreement.k_min, tuple(each.terms for each in inputs))
        tables = {each.id: self._tables[each.id] for each in inputs}
        padded, executed = analysis.compute(question, inputs, tables, k, noise)
        recipients = tuple(self._agreement.party(each) for each in question.recipients)
        sealed = results.seal_result(
            padded, self._agreement.hash, self.run_id, question.id, results.format_of(question), recipients
        )
        record = Done(
            id=question.id,
            asked=hash_of(question),
            executed=sha256(executed.encode()).hex(),
            k=k,
            result=sha256(sealed).hex(),
        )
        return record, sealed

    def _receipt(self, done: tuple[Done, ...], time: datetime.datetime) -> Receipt:
        releases = tuple(self._releases[owner][0] for owner in self._agreement.owners)
        evidence = self._attester.receipt_offer(
            exchange.receipt_nonce(releases), exchange.receipt_payload(self._agreement.hash, self.run_id)
        )
        statement = encode(
            ReceiptStatement(
                kind="kluis-receipt/2",
                agreement=self._agreement.hash,
                run=self.run_id,
                image_id=self._image_id,
                time=time,
                inputs=tuple(Input.of(each) for each in self._agreement.datasets),
                analyses=done,
                releases=tuple(sha256(each.statement).hex() for each in releases),
            )
        )
        return Receipt(
            statement=statement,
            signature=self._attester.sign_receipt(statement),
            evidence=evidence,
            releases=releases,
        )
