"""The owner's client: runs on the owner's machine, verifies the enclave, and only then releases a key.

It trusts nothing it receives. The host can at most keep it from releasing.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

from kluis.cleanroom.agreement import exchange
from kluis.cleanroom.agreement.agreement import Agreement, SignedAgreement, check_signed
from kluis.cleanroom.agreement.documents import decode, encode, hash_of
from kluis.cleanroom.agreement.exchange import (
    NONCE_SIZE,
    Challenge,
    KeyFor,
    Offer,
    OfferPayload,
    Release,
    ReleaseStatement,
    SignedStop,
    Stop,
)
from kluis.cleanroom.agreement.keys import check_signature, seal
from kluis.cleanroom.agreement.terms import earliest
from kluis.cleanroom.receipts.verdict import check_evidence
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.trust import Trust
from kluis.errors import FreshnessError, PolicyError
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.hashes import sha256


class Owner:
    """One owner under one agreement.

    Args:
        home: the owner's own folder.
        signed: the agreement; every party must have signed it, this one also by its own record.
        stops: the withdrawals in the room's folder.

    Raises:
        PolicyError: not signed by this party, superseded by a later one that it signed, or stopped.
        AuthenticityError: a party has other keys than those that this party confirmed.
        KluisError: the agreement is not complete.
    """

    def __init__(self, home: Home, signed: SignedAgreement, stops: Sequence[SignedStop] = ()) -> None:
        self._home = home
        self.agreement: Agreement = check_signed(signed)
        if not home.has_signed(self.agreement.hash):
            raise PolicyError(
                f"agreement {self.agreement.hash[:16]}: {home.party} did not sign it, by its own record",
                hint=f"kluis room approve ROOM --as {home.party}",
                code="agreement_unsigned",
            )
        self._nonce: bytes | None = None
        self._require_in_force()
        check_stops(stops, self.agreement)

    def challenge(self) -> Challenge:
        """Request evidence, over a new nonce that is valid for one release by this client."""
        self._nonce = os.urandom(NONCE_SIZE)
        return Challenge(agreement=self.agreement.hash, party=self._home.party, nonce=self._nonce)

    def release(
        self, offer: Offer, collateral: bytes, now: datetime.datetime, run: str | None = None
    ) -> Release:
        """Verify an offer, and seal this owner's data keys to the enclave that made it.

        1. The agreement is in force by this party's own record. Neither it nor this owner's terms have
           expired by this machine's clock.
        2. The evidence is over the last nonce of this client, which was not used before.
        3. It meets the agreement's requirements on the code and its platform, under the roots the agreement
           pins, with purpose release-key. Its payload is this agreement, this party, the run and its key.
        4. The run does not have its keys yet, and the agreement's runs are not used up; recorded.
        5. The agreement is still in force: a stop before step 4 is effective.

        Args:
            offer: from the host.
            collateral: TCB info, QE identity and CRLs from the host; they are signed.
            now: this machine's time, aware.
            run: the run that the host announced; None if it announced none.

        Raises:
            KluisError: with the first step that fails; no key has left.
        """
        self._require_in_force()  # 1
        agreement, party = self.agreement, self._home.party
        owned = agreement.owned_by(party)
        expires = earliest(agreement.expires, tuple(each.terms for each in owned))
        if not agreement.created <= now < expires:  # 1
            raise FreshnessError(
                f"agreement is valid from {agreement.created} to {expires}, not at {now}",
                code="agreement_expired",
            )
        document = RuntimeData.parse(offer.evidence.runtime_data)
        if document.nonce != self._nonce:  # 2
            raise FreshnessError(
                f"offer: want a nonce that {party} made and has not used, got {document.nonce.hex()[:16]}..",
                code="nonce",
            )
        self._nonce = None
        payload = decode(document.payload, OfferPayload, "offer")
        if run is not None and payload.run != run:
            raise PolicyError(
                f"offer: want run {run[:16]}.., got {payload.run[:16]}..", code="room_release"
            )  # 3
        verdict = check_evidence(
            offer.evidence,
            agreement.code,
            purpose=Purpose.RELEASE_KEY,
            nonce=document.nonce,
            payload=exchange.offer_payload(agreement.hash, payload.run, party, payload.sealing_key),
            collateral=collateral,
            now=now,
        )  # 3
        keys = []
        for dataset in owned:
            data_key = self._home.key(agreement.room, dataset.id, dataset.version)
            if data_key.terms != hash_of(dataset.terms) or data_key.parts != tuple(
                each.sha256 for each in dataset.parts
            ):
                raise PolicyError(
                    f"data set {dataset.id}: the agreement has other terms or files", code="terms"
                )
            info = exchange.release_info(agreement.hash, payload.run, party, dataset.id, dataset.version)
            keys.append(
                KeyFor(
                    dataset=dataset.id,
                    version=dataset.version,
                    sealed=seal(payload.sealing_key, data_key.key, info),
                )
            )
        statement = ReleaseStatement(
            kind="kluis-release/1",
            agreement=agreement.hash,
            run=payload.run,
            party=party,
            time=now.replace(microsecond=0),
            evidence=sha256(offer.evidence.quote).hex(),
            level=verdict.level,
            rules=verdict.rules,
            keys=tuple(keys),
        )
        self._home.record_release(statement, agreement.max_runs)  # 4
        self._require_in_force()  # 5
        raw = encode(statement)
        return Release(statement=raw, signature=self._home.signing.sign(exchange.RELEASE, raw))

    def _require_in_force(self) -> None:
        """Refuse an agreement that this party stopped or replaced, or whose parties it no longer confirms."""
        home, name = self._home, self.agreement.hash
        Trust(home).require_parties(self.agreement.parties)
        if home.has_withdrawn(name):
            raise PolicyError(f"agreement {name[:16]}: {home.party} stopped it", code="stopped")
        # Anyone who can write the folder can restore an earlier agreement, including signatures.
        if (current := home.current(self.agreement.room)) != name:
            raise PolicyError(
                f"agreement {name[:16]}: {home.party} signed {current[:16]} after it",
                hint="to have the earlier one again, propose and sign it again",
                code="superseded",
            )


def stop(home: Home, agreement: Agreement, now: datetime.datetime) -> SignedStop:
    """Withdraw from an agreement permanently; from now on this party's client releases nothing under it.

    Args:
        home: the party's own folder.
        agreement: by this party's own record; the room's folder may contain another.
        now: this machine's time, aware.

    Raises:
        PolicyError: this party owns no data under it.
    """
    if home.party not in agreement.owners:
        raise PolicyError(f"agreement: {home.party} owns no data under it", code="agreement")
    home.stop(agreement.hash)
    raw = encode(
        Stop(kind="kluis-stop/1", agreement=agreement.hash, party=home.party, time=now.replace(microsecond=0))
    )
    return SignedStop(statement=raw, signature=home.signing.sign(exchange.STOP, raw))


def check_stops(stops: Sequence[SignedStop], agreement: Agreement) -> None:
    """Refuse an agreement that any owner stopped; call it again after each wait.

    Raises:
        PolicyError: one is a valid stop of this agreement.
        AuthenticityError: one is not signed by a party that may stop it.
    """
    for each in stops:
        check_stop(each, agreement)


def check_stop(signed: SignedStop, agreement: Agreement) -> None:
    """Refuse an agreement that any owner stopped; a stop of another agreement is ignored.

    Raises:
        PolicyError: it is a valid stop of this agreement.
        AuthenticityError: it is not signed by a party that may stop it.
    """
    statement = decode(signed.statement, Stop, "stop")
    if statement.agreement != agreement.hash:
        return  # its party, or its key, need not be in this one
    key = agreement.party(statement.party).signing_key
    check_signature(key, signed.signature, exchange.STOP, signed.statement, f"stop, {statement.party}")
    if statement.party in agreement.owners:
        raise PolicyError(
            f"agreement {agreement.hash[:16]}: {statement.party} stopped it on {statement.time:%Y-%m-%d}",
            code="stopped",
        )
