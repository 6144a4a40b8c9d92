"""One run from end to end, with real quotes, and everything that stops one."""

from __future__ import annotations

import contextlib
import datetime
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from kluis.cleanroom.agreement import exchange
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.agreement.exchange import Release, ReleaseStatement, SignedStop
from kluis.cleanroom.agreement.terms import earliest
from kluis.cleanroom.analyses.model import ModelResult
from kluis.cleanroom.analyses.noise import Noise
from kluis.cleanroom.receipts.receipt import CheckedReceipt, ReceiptFile, check_receipt, check_result
from kluis.cleanroom.receipts.results import open_result
from kluis.cleanroom.running import session as sessions
from kluis.cleanroom.running.release import Owner, stop
from kluis.cleanroom.running.session import Session
from kluis.errors import AuthenticityError, FreshnessError, KluisError, PolicyError, UsageError
from tests.cleanroom import samples
from tests.cleanroom.platform import Attester, Platform

NOW = samples.NOW + datetime.timedelta(hours=1)


@dataclass
class Stage:
    """A sample room on a platform, with an enclave ready to begin."""

    platform: Platform
    setting: samples.Setting
    attester: Attester

    def session(self) -> Session:
        return Session(self.attester, self.attester.image_id, self.setting.signed())

    def owner(self, name: str, stops: tuple[SignedStop, ...] = ()) -> Owner:
        return Owner(self.setting.homes[name], self.setting.signed(), stops)

    def release(self, session: Session, name: str) -> Release:
        owner = self.owner(name)
        return owner.release(session.offer(owner.challenge()), self.platform.collateral(), NOW)

    def give(self, session: Session) -> None:
        for name in self.setting.homes:
            session.accept(self.release(session, name))
        for name, data in self.setting.files.items():
            session.add_file(name, data)

    def finished(self) -> tuple[Session, dict[str, bytes], ReceiptFile]:
        session = self.session()
        self.give(session)
        results, receipt = session.run()
        file = ReceiptFile(
            kind="kluis-receipt-file/1",
            receipt=receipt,
            agreement=self.setting.signed(),
            collateral=self.platform.collateral(),
        )
        return session, results, file


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    platform = Platform(samples.NOW)
    return Stage(platform, samples.setting(tmp_path, samples.code(root=platform.root())), Attester(platform))


def checked(stage: Stage, file: ReceiptFile) -> CheckedReceipt:
    return check_receipt(file, stage.setting.agreement.hash)


def test_whole_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two owners release, both analyses run, each recipient opens its results, the receipt holds offline."""
    monkeypatch.setattr(Noise, "normal", lambda self, label: 0.0)  # which withholds scores of so few at times
    _, results, file = stage.finished()
    proof = checked(stage, file)
    assert f"<tr><th>agreement</th><td>{stage.setting.agreement.hash}</td></tr>" in proof._repr_html_()
    assert proof.verdict.level == "process"
    assert [(done.id, done.k) for done in proof.statement.analyses] == [("by-sex", 5), ("death", 5)]
    for name, sealed in results.items():
        check_result(proof, sealed, name)
    _, plain = open_result(results["by-sex"], "clinic", stage.setting.homes["clinic"].sealing)
    assert pl.read_parquet(io.BytesIO(plain))["persons"].to_list() == [86, 86]
    _, plain = open_result(results["death"], "laboratory", stage.setting.homes["laboratory"].sealing)
    assert [arm.name for arm in decode(plain, ModelResult, "result").arms] == ["clinic", "both"]


def test_result_is_for_its_recipient(stage: Stage) -> None:
    """A party that the analysis does not name cannot open its result."""
    _, results, _ = stage.finished()
    with pytest.raises(PolicyError) as caught:
        open_result(results["by-sex"], "laboratory", stage.setting.homes["laboratory"].sealing)
    assert caught.value.message == "result by-sex: want laboratory among its recipients, got ['clinic']"
    with pytest.raises(AuthenticityError):
        open_result(results["by-sex"], "clinic", stage.setting.homes["laboratory"].sealing)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "33" * 32}, "contraindicated: measurement: want 11111111..1111, got 33333333..3333"),
        ({"mrsigner": "33" * 32}, "contraindicated: signer: want 2222222222222222.., got 3333333333333333.."),
        ({"product_id": 1}, "contraindicated: product_id: want 31, got 1"),
        ({"svn": 0}, "contraindicated: svn: want at least 1, got 0"),
        ({"missing": ("memory",)}, "contraindicated: missing: want none, got memory"),
        (
            {"debug": True},
            "contraindicated: protection: want process, got none; debug: want off, got on",
        ),
    ],
    ids=["image", "signer", "product", "svn", "lack", "debug"],
)
def test_other_code_gets_no_key(stage: Stage, change: dict[str, object], message: str) -> None:
    """Other code, another signer, an older version, a debug build, a machine without a protection: no key
    leaves.
    """
    session = stage.session()
    owner = stage.owner("clinic")
    stage.attester.__dict__.update(change)
    offer = session.offer(owner.challenge())
    with pytest.raises(KluisError) as caught:
        owner.release(offer, stage.platform.collateral(), NOW)
    assert caught.value.message == message
    assert stage.setting.homes["clinic"].releases(stage.setting.agreement.hash) == ()


def test_another_root(stage: Stage) -> None:
    """Evidence from a platform whose root the agreement does not pin is not authentic."""
    owner, other = stage.owner("clinic"), Platform(samples.NOW)
    session = Session(Attester(other), stage.attester.image_id, stage.setting.signed())
    with pytest.raises(AuthenticityError):
        owner.release(session.offer(owner.challenge()), other.collateral(), NOW)


def test_relay(stage: Stage) -> None:
    """A relay that has the genuine enclave quote the relay's own key, under another purpose, gets nothing."""
    from kluis.cleanroom.agreement.keys import SealingKey
    from kluis.formats.kluis.runtime_data import Purpose

    owner = stage.owner("clinic")
    challenge = owner.challenge()
    payload = exchange.offer_payload(challenge.agreement, "00" * 32, "clinic", SealingKey.generate().public)
    relayed = exchange.Offer(
        party="clinic", evidence=stage.attester.quote(Purpose.CLI, challenge.nonce, payload)
    )
    with pytest.raises(PolicyError) as caught:
        owner.release(relayed, stage.platform.collateral(), NOW)
    assert caught.value.message == "contraindicated: purpose: want release-key, got cli"


def test_replayed_offer(stage: Stage) -> None:
    """An offer that was answered once is stale, and so is one over somebody else's nonce."""
    session, owner = stage.session(), stage.owner("clinic")
    offer = session.offer(owner.challenge())
    owner.release(offer, stage.platform.collateral(), NOW)
    with pytest.raises(FreshnessError) as caught:
        owner.release(offer, stage.platform.collateral(), NOW)
    assert caught.value.message.startswith("offer: want a nonce that clinic made and has not used, got ")


def test_runtime_data_swapped(stage: Stage) -> None:
    """Runtime data that the quote is not over is refused: the key in it is not the enclave's."""
    session, owner = stage.session(), stage.owner("clinic")
    offer = session.offer(owner.challenge())
    forged = msgspec.structs.replace(
        offer.evidence, quote=stage.attester.release_offer(b"n" * 32, b"x").quote
    )
    with pytest.raises(PolicyError) as caught:
        owner.release(msgspec.structs.replace(offer, evidence=forged), stage.platform.collateral(), NOW)
    assert caught.value.code == "runtime_data"


def test_payload_of_another_party(stage: Stage) -> None:
    """An offer made for one owner is refused by another: its recipient is in the quoted data."""
    session, owner = stage.session(), stage.owner("clinic")
    challenge = owner.challenge()
    payload = exchange.offer_payload(challenge.agreement, session.run_id, "laboratory", bytes(1216))
    forged = exchange.Offer(party="clinic", evidence=stage.attester.release_offer(challenge.nonce, payload))
    with pytest.raises(AuthenticityError) as caught:
        owner.release(forged, stage.platform.collateral(), NOW)
    assert caught.value.message == "evidence: its payload is not of this agreement, run and party"


def test_runs_are_counted(stage: Stage) -> None:
    """An owner's client releases as often as the agreement allows, and no more, whatever the host claims."""
    for _ in range(stage.setting.agreement.max_runs):
        stage.release(stage.session(), "clinic")
    with pytest.raises(PolicyError) as caught:
        stage.release(stage.session(), "clinic")
    assert caught.value.message == "release: want at most 2 runs under this agreement, clinic released 2"


def test_any_owner_stops(stage: Stage) -> None:
    """One owner's stop keeps every client from releasing; its own client remembers without the folder."""
    signed = stop(stage.setting.homes["laboratory"], stage.setting.agreement, NOW)
    with pytest.raises(PolicyError) as caught:
        stage.owner("clinic", (signed,))
    assert caught.value.message.endswith("laboratory stopped it on 2026-11-24")
    with pytest.raises(PolicyError):
        stage.owner("laboratory")


def test_expired(stage: Stage) -> None:
    """After the earliest end that anyone agreed to, no key leaves."""
    session, owner = stage.session(), stage.owner("clinic")
    with pytest.raises(FreshnessError) as caught:
        owner.release(session.offer(owner.challenge()), stage.platform.collateral(), samples.LATER)
    assert caught.value.code == "agreement_expired"


def test_not_agreed_by_own_record(stage: Stage, tmp_path: Path) -> None:
    """A client does not act on an agreement that its own party did not sign, even if all others did."""
    signed = stage.setting.signed()
    (stage.setting.homes["clinic"].path / "agreed" / stage.setting.agreement.hash).unlink()
    with pytest.raises(PolicyError) as caught:
        Owner(stage.setting.homes["clinic"], signed)
    assert caught.value.code == "agreement_unsigned"


def test_unsigned_agreement_does_not_begin(stage: Stage) -> None:
    """The enclave itself refuses an agreement without all signatures."""
    with pytest.raises(PolicyError):
        Session(stage.attester, stage.attester.image_id, stage.setting.signed("clinic"))


def test_one_owner_missing(stage: Stage) -> None:
    """Nothing runs until every owner has released."""
    session = stage.session()
    session.accept(stage.release(session, "clinic"))
    with pytest.raises(UsageError) as caught:
        session.run()
    assert caught.value.message == "run: want the keys of every owner, missing ['laboratory']"


def test_release_for_another_run(stage: Stage) -> None:
    """A release cannot be carried to another enclave of the same code."""
    release = stage.release(stage.session(), "clinic")
    other = stage.session()
    other.offer(stage.owner("clinic").challenge())
    with pytest.raises(PolicyError) as caught:
        other.accept(release)
    assert caught.value.message == "release, clinic: is not for this run"


def test_release_by_somebody_else(stage: Stage) -> None:
    """A release that its owner did not sign is refused."""
    session = stage.session()
    release = stage.release(session, "clinic")
    statement = decode(release.statement, ReleaseStatement, "release")
    forged = encode(msgspec.structs.replace(statement, party="laboratory"))
    with pytest.raises(AuthenticityError):
        session.accept(msgspec.structs.replace(release, statement=forged))


def test_swapped_dataset(stage: Stage) -> None:
    """Another file in a data set's place is refused inside, and nothing runs without the right one."""
    session = stage.session()
    for name in stage.setting.homes:
        session.accept(stage.release(session, name))
    changed = bytearray(stage.setting.files["labs"])
    changed[len(changed) // 2] ^= 1
    for other in (bytes(changed), stage.setting.files["people"], b""):
        with pytest.raises(AuthenticityError) as caught:
            session.add_file("labs", other)
        assert caught.value.code == "dataset"
    with pytest.raises(UsageError) as missing:
        session.run()
    assert missing.value.message == "data set people: want 1 files, got 0"


def test_runs_once(stage: Stage) -> None:
    """An enclave makes one run."""
    session, _, _ = stage.finished()
    with pytest.raises(UsageError) as caught:
        session.run()
    assert caught.value.message == "run: this run has ended; start another"


def test_runs_once_if_it_is_called_twice_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may make both calls before either has begun."""
    session, both = stage.session(), threading.Barrier(2)
    stage.give(session)

    def wait(*given: Any) -> datetime.datetime:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1)
        return earliest(*given)

    monkeypatch.setattr(sessions, "earliest", wait)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(session.run) for _ in range(2)]
    ended = [each.exception() for each in calls]
    assert sorted(type(each).__name__ for each in ended) == ["NoneType", "UsageError"]


def test_keys_are_taken_once_if_they_are_given_twice_at_once(stage: Stage) -> None:
    """A host and an owner cannot replace a key that a run has begun with, and so not draw its noise again."""
    session = stage.session()
    owner = stage.owner("clinic")
    offer = session.offer(owner.challenge())
    first = owner.release(offer, stage.platform.collateral(), NOW)
    second = _with_another_time(stage, first)
    both = threading.Barrier(2)
    open_ = session._key.open

    def slowly(sealed: bytes, info: bytes) -> bytes:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1)
        return open_(sealed, info)

    session._key.open = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(session.accept, each) for each in (first, second)]
    ended = [each.exception() for each in calls]
    assert sorted(type(each).__name__ for each in ended) == ["NoneType", "PolicyError"]


def _with_another_time(stage: Stage, release: Release) -> Release:
    """A release as its owner could have signed it, too."""
    statement = decode(release.statement, ReleaseStatement, "release")
    later = msgspec.structs.replace(statement, time=statement.time + datetime.timedelta(seconds=1))
    raw = encode(later)
    return Release(statement=raw, signature=stage.setting.homes["clinic"].signing.sign(exchange.RELEASE, raw))


def test_too_few_persons_have_a_result(tmp_path: Path) -> None:
    """A model over too few persons has a sealed result as any other has, and no score in it."""
    platform = Platform(samples.NOW)
    few = msgspec.structs.replace(samples.MODEL, id="few", table=samples.MODEL.table + " WHERE p.age > 78")
    setting = samples.setting(tmp_path, samples.code(root=platform.root()), (samples.QUERY, few))
    stage = Stage(platform, setting, Attester(platform))
    _, results, file = stage.finished()
    check_result(checked(stage, file), results["few"], "few")
    _, plain = open_result(results["few"], "clinic", setting.homes["clinic"].sealing)
    found = decode(plain, ModelResult, "result")
    assert (found.persons, found.with_outcome, found.arms, found.differences) == (0, 0, (), ())


def test_receipt_key_is_attested(stage: Stage) -> None:
    """A receipt signed by another key than the evidence attests does not hold."""
    _, _, file = stage.finished()
    other = Attester(stage.platform).sign_receipt(file.receipt.statement)
    forged = msgspec.structs.replace(file, receipt=msgspec.structs.replace(file.receipt, signature=other))
    with pytest.raises(AuthenticityError) as caught:
        checked(stage, forged)
    assert caught.value.message == "receipt: the signature is not by this key over these bytes"


def test_receipt_of_an_app_quote(stage: Stage) -> None:
    """Evidence of any other purpose does not make a receipt, even from the genuine enclave."""
    from kluis.formats.kluis.runtime_data import Purpose

    session, _, file = stage.finished()
    payload = exchange.receipt_payload(stage.setting.agreement.hash, session.run_id)
    nonce = exchange.receipt_nonce(file.receipt.releases)
    other = stage.attester.quote(Purpose.APP, nonce, payload)
    forged = msgspec.structs.replace(file, receipt=msgspec.structs.replace(file.receipt, evidence=other))
    with pytest.raises(PolicyError) as caught:
        checked(stage, forged)
    assert caught.value.message == "contraindicated: purpose: want receipt, got app"


def test_receipt_without_a_consent(stage: Stage) -> None:
    """A receipt from which an owner's release was taken does not hold."""
    _, _, file = stage.finished()
    fewer = msgspec.structs.replace(file.receipt, releases=file.receipt.releases[:1])
    with pytest.raises(PolicyError) as caught:
        checked(stage, msgspec.structs.replace(file, receipt=fewer))
    assert caught.value.message == "receipt: want a release of each of ['clinic', 'laboratory']"


def test_receipt_of_another_agreement(stage: Stage) -> None:
    """A receipt is valid only for one agreement, the reader's."""
    _, _, file = stage.finished()
    with pytest.raises(AuthenticityError):
        check_receipt(file, "00" * 32)


def test_swapped_result(stage: Stage) -> None:
    """A sealed result that is not the receipt's is found out."""
    _, results, file = stage.finished()
    _, others, _ = stage.finished()
    with pytest.raises(AuthenticityError):
        check_result(checked(stage, file), others["by-sex"], "by-sex")
    check_result(checked(stage, file), results["by-sex"], "by-sex")
