"""Ledgers that somebody without the service's key signed, by a node of their own: a reader finds them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography import x509

from kluis.formats.ccf import tables
from kluis.formats.encoding import jcs
from kluis.ledger import certificates
from kluis.ledger.audit import Check, Copy, Level, Source
from kluis.ledger.governance.replay import Replay
from kluis.ledger.sample.parties import Parties
from kluis.ledger.sequencer import Sequencer
from kluis.ledger.signer import Signed, Signer
from tests.ledger import making
from tests.ledger.audit import forge
from tests.ledger.audit.forge import NOW, Forge, failed, parties

LEVELS = [(Level.FULL, False), (Level.ALL, False), (Level.ALL, True)]
INVENTED = {"public:app.entries": {b"subledger:0": b"invented"}}


def mallory(real: Parties) -> Parties:
    """What somebody has who knows the service by its certificate only: a node, which a service of their own
    certified.
    """
    key, own = making.key(11), making.key(77)
    service = certificates.service_certificate(own, NOW)
    certificate = certificates.node_certificate(key.public_key(), own, service, NOW)
    return dataclasses.replace(real, node_key=key, node=certificate, service_key=own)


def node_writes(who: Parties, form: str) -> dict[str, dict[bytes, bytes | None]]:
    """What makes a node trusted: anybody can write it."""
    info = jcs.loads(who.node_info(), "node")
    assert isinstance(info, dict)
    if form == "without a quote":
        info["quote_info"] = {"endorsements": "", "format": "Insecure_Virtual", "quote": ""}
    if form == "of an older service":
        info = {**{name: each for name, each in info.items() if name != "public_key"}, "cert": who.node}
    name = who.node_id.encode()
    certificate = (
        {tables.NODE_CERTIFICATES: {name: who.node.encode()}} if form == "with a certificate" else {}
    )
    return {tables.NODES: {name: jcs.dumps(info)}, **certificate}


def sign_alone(made: Forge, who: Parties) -> None:
    """From now on only this node signs."""
    made.sequencer.signer = Signer(who.node_key, who.node, who.service_key)
    both = made.sequencer._signature_writes

    def as_node(signed: Signed) -> Any:
        return {name: rows for name, rows in both(signed).items() if name != tables.COSE_SIGNATURES}

    made.sequencer._signature_writes = as_node  # type: ignore[method-assign]


def pinned() -> x509.Certificate:
    """The real service's certificate, which everybody has."""
    return x509.load_pem_x509_certificate(parties().service.encode())


FORMS = ["with a quote", "without a quote", "with a certificate", "of an older service"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("level", "replayed"), LEVELS)
def test_entries_that_a_node_of_nobody_signed(form: str, level: Level, replayed: bool) -> None:
    """Whoever has the files adds a node to the tables, and entries that it signs."""
    made = Forge.governed()
    sign_alone(made, mallory(made.parties))
    made.write(node_writes(mallory(made.parties), form))
    made.write(INVENTED)
    report = made.audit(service=pinned(), level=level, replay=Replay() if replayed else None)
    assert Check.NODE_SIGNATURES in {check for check, *_ in failed(report)}
    assert report.verified is not None
    assert report.verified.seqno == made.sequencer.last.seqno - 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("level", "replayed"), LEVELS)
def test_a_whole_ledger_without_the_services_key(
    form: str, level: Level, replayed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first entry names the service that a reader pins, and nothing in it is that service's."""
    who, real = mallory(parties()), forge.genesis
    monkeypatch.setattr(forge, "parties", lambda: who)
    monkeypatch.setattr(
        forge,
        "genesis",
        lambda each: {
            **{name: rows for name, rows in real(each).items() if name != tables.NODE_CERTIFICATES},
            **node_writes(who, form),
        },
    )
    monkeypatch.setattr(
        Forge,
        "begin_view",
        lambda self, view, of=Forge.begin_view: (of(self, view), sign_alone(self, who))[0],
    )
    made = Forge()
    assert isinstance(made.sequencer, Sequencer)
    made.write(INVENTED)
    report = made.audit(service=pinned(), level=level, replay=Replay() if replayed else None)
    found = {check for check, *_ in failed(report)}
    assert found & {Check.NODE_SIGNATURES, Check.IDENTITY}
    if form == "of an older service":
        said = "names the pinned service, and no signature leads to the service's key"
        assert (Check.IDENTITY, "", "", said) in failed(report)


@pytest.mark.parametrize("level", Level)
def test_a_service_that_a_signature_brings_with_it(level: Level) -> None:
    """The entry that holds a signature also makes its key the service's."""
    made, who = Forge.governed(), mallory(parties())
    made.sequencer.signer = Signer(making.key(9), made.parties.node, who.service_key, cose_only=True)
    service = certificates.service_certificate(who.service_key, NOW)
    info = {"cert": service, "status": "Open", "current_service_create_txid": "2.1", "recovery_count": 0}
    both = made.sequencer._signature_writes

    def with_a_service(signed: Signed) -> Any:
        return {**both(signed), tables.SERVICE_INFO: {tables.ONLY: jcs.dumps(info)}}

    made.sequencer._signature_writes = with_a_service  # type: ignore[method-assign]
    made.write(INVENTED)
    found = {check for check, *_ in failed(made.audit(service=pinned(), level=level))}
    assert Check.IDENTITY in found


def test_a_fork_that_a_node_of_nobody_signed_accuses_no_service() -> None:
    """A copy with entries of somebody else's is no fork of the service's: its signatures do not hold."""
    made, other = Forge.governed(), Forge.governed()
    made.write({"public:app": {b"k": b"v"}})
    kept = dict(other.files())
    sign_alone(other, mallory(other.parties))
    other.write(node_writes(mallory(other.parties), "with a quote"))
    other.write(INVENTED)
    assert other.files() != kept
    sources = [Source(name, lambda data=data: data) for name, data in other.files().items()]
    report = made.audit(service=pinned(), copies=[Copy("there", sources)])
    assert any("the service issued no certificate for it" in said for *_, said in failed(report))
