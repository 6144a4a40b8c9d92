"""CCF's and Azure's own verifiers accept our receipts, and agree with ours on changed ones."""

from __future__ import annotations

import copy
import functools
import json
import os
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from kluis.errors import KluisError
from kluis.formats.ccf.cose_receipt import CoseReceipt
from kluis.formats.ccf.receipt import Components, Receipt
from kluis.formats.ccf.signature import ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.ledger import certificates, claims, receipts, sample
from kluis.ledger.merkle import Tree
from kluis.ledger.sample import Sample
from tests.clients.ccf import environments
from tests.clients.ccf.environments import VERSIONS
from tests.ledger import making

NOW = datetime.now(UTC)
FEW, MANY = 200, 10_000


@functools.cache
def made() -> Sample:
    """A ledger of ours."""
    return sample.make(100, NOW, os.urandom)


@functools.cache
def tree() -> Tree:
    """Its tree."""
    grown = Tree()
    for batch in made().batches:
        grown.extend(batch.leaves)
    return grown


@functools.cache
def parts() -> dict[TxId, Components]:
    """The components of each entry."""
    return {
        txid: each
        for batch in made().batches
        for txid, each in zip(batch.txids, batch.components, strict=True)
    }


def receipt(seqno: int) -> Receipt:
    """A receipt by the last signature."""
    signed = made().batches[-1].signed.node
    assert signed is not None
    txid = TxId(2, seqno)
    return receipts.make(tree(), txid, parts()[txid], signed, made().parties.node)


def cose_receipt(seqno: int) -> bytes:
    """Likewise, as COSE."""
    signed = ServiceSignature.parse(made().batches[-1].signed.service, "signature")
    return receipts.make_cose(tree(), TxId(2, seqno), parts()[TxId(2, seqno)], signed)


SEQNOS = [*range(1, 100, 7), 99]


@pytest.mark.parametrize("version", VERSIONS)
def test_accepted(version: str) -> None:
    """Each receipt is accepted by CCF's check of root, signature and chain, and by Azure's."""
    given = [json.loads(receipt(seqno).encode()) for seqno in SEQNOS]
    answer = environments.check(
        version, "receipts", {"service": made().parties.service, "receipts": given, "chain": True}
    )
    assert answer == [{"ccf": "", "azure": "", "chain": ""}] * len(SEQNOS)


@pytest.mark.parametrize("version", VERSIONS)
def test_azures_words(version: str) -> None:
    """Azure's verifier reads the receipt in Azure's words, too."""
    given = [receipt(seqno).to_azure() for seqno in SEQNOS]
    answer = environments.check(version, "receipts", {"service": made().parties.service, "receipts": given})
    assert [each["azure"] for each in answer] == [""] * len(SEQNOS)


@pytest.mark.parametrize("version", VERSIONS)
def test_of_a_signature(version: str) -> None:
    """CCF verifies the receipt of an entry that holds a signature, and Azure's client refuses it."""
    signed = made().batches[4].signed.node
    assert signed is not None
    given = json.loads(receipts.make_of_signature(signed, made().parties.node).encode())
    answer = environments.check(version, "receipts", {"service": made().parties.service, "receipts": [given]})
    assert answer == [{"ccf": "", "azure": "ValueError"}]


@pytest.mark.parametrize("version", VERSIONS)
def test_cose(version: str) -> None:
    """COSE receipts are accepted under the service's key, and refused with other claims or another key."""
    given = [
        {"receipt": cose_receipt(seqno).hex(), "claims": (parts()[TxId(2, seqno)].claims_digest or b"").hex()}
        for seqno in SEQNOS
    ]
    service = made().parties.service
    assert environments.check(version, "cose", {"service": service, "receipts": given}) == [""] * len(given)
    other = [{**given[0], "claims": "aa" * 32}]
    assert environments.check(version, "cose", {"service": service, "receipts": other}) != [""]
    foreign = certificates.service_certificate(making.key(3), NOW)
    assert environments.check(version, "cose", {"service": foreign, "receipts": given[:1]}) != [""]


CLAIMS = [
    [{"kind": "ClaimDigest", "digest": {"protocol": "P", "value": "ab" * 32}}],
    [
        {
            "kind": "LedgerEntry",
            "ledgerEntry": {
                "collectionId": "subledger:0", "contents": "Hello é", "protocol": "LedgerEntryV1",
                "secretKey": "Jde/VvaIfyrjQ/B19P+UJCBwmcrgN7sERStoyHnYO0M=",
            },
        },
        {"kind": "ClaimDigest", "digest": {"protocol": "LedgerEntryV1", "value": "cd" * 32}},
    ],
    [{"kind": "Other"}],
    [{"kind": "LedgerEntry", "ledgerEntry": {}}],
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_claims(version: str) -> None:
    """Application claims have Azure's digest, and those that its code refuses are refused."""
    ours = []
    for each in CLAIMS:
        try:
            ours.append(claims.read(each, "claims").hex())
        except KluisError:
            ours.append("")
    assert environments.check(version, "claims", CLAIMS) == ours
    assert ours[2:] == ["", ""]


def changed(good: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A receipt with one change."""
    value = copy.deepcopy(good)
    kind = rng.randrange(12)
    components = value["leaf_components"]

    def other(text: str, letters: str) -> str:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice([each for each in letters if each != text[at]]) + text[at + 1 :]

    base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    digits = "0123456789abcdef"
    match kind:
        case 0 | 1 | 2:
            name = ("write_set_digest", "claims_digest", "commit_evidence")[kind]
            components[name] = other(components[name], digits)
        case 3:
            value["proof"].pop(rng.randrange(len(value["proof"])))
        case 4:
            step = rng.choice(value["proof"])
            ((side, text),) = step.items()
            step[side] = other(text, digits)
        case 5:
            step = rng.choice(value["proof"])
            ((side, text),) = list(step.items())
            step.clear()
            step["left" if side == "right" else "right"] = text
        case 6:
            rng.shuffle(value["proof"])
        case 7:
            value["signature"] = other(value["signature"].rstrip("="), base64).ljust(
                len(value["signature"]), "="
            )
        case 8:
            body = value["cert"].splitlines(keepends=True)
            line = rng.randrange(1, len(body) - 2)
            body[line] = other(body[line].rstrip("\n"), base64) + "\n"
            value["cert"] = "".join(body)
        case 9:
            components[rng.choice(list(components))] = components["write_set_digest"].upper()
        case 10:
            value["proof"].append({rng.choice(("left", "right")): components["write_set_digest"]})
        case _:
            value["service_endorsements"] = [made().parties.service] * rng.randrange(1, 3)
    return value


def accepted(value: dict[str, Any], service: x509.Certificate) -> bool:
    """Whether ours accepts a receipt."""
    try:
        receipts.verify(Receipt.of(value, "receipt"), service)
    except KluisError:
        return False
    return True


def agree(count: int, seed: int) -> None:
    """Four verifiers say the same of each receipt that was changed in one place."""
    rng, goods = random.Random(seed), [json.loads(receipt(seqno).encode()) for seqno in SEQNOS]
    service = x509.load_pem_x509_certificate(made().parties.service.encode())
    values = [changed(rng.choice(goods), rng) for _ in range(count)]
    ours = [accepted(value, service) for value in values]
    # Not all are refused: a root of trust that endorses itself changes nothing, nor does an order of one.
    assert 0 < ours.count(True) < count // 2
    for version in VERSIONS:
        answers = environments.check(
            version, "receipts", {"service": made().parties.service, "receipts": values}
        )
        for value, our, answer in zip(values, ours, answers, strict=True):
            said = {name: not error for name, error in answer.items()}
            assert said == {"ccf": our, "azure": our}, (value, answer)


def test_agree() -> None:
    """On a few hundred."""
    agree(FEW, 1)


@pytest.mark.slow
def test_agree_on_many() -> None:
    """On ten thousand."""
    agree(MANY, 2)


def agree_on_cose(count: int, seed: int) -> None:
    """Three verifiers say the same of each COSE receipt with a changed byte."""
    rng, service = random.Random(seed), made().parties.service
    key = receipts.curve_key(x509.load_pem_x509_certificate(service.encode()))
    given, ours = [], []
    for _ in range(count):
        seqno = rng.choice(SEQNOS)
        raw = bytearray(cose_receipt(seqno))
        digest = parts()[TxId(2, seqno)].claims_digest
        at = rng.randrange(len(raw))
        raw[at] ^= 1 << rng.randrange(8)
        given.append({"receipt": bytes(raw).hex(), "claims": (digest or b"").hex()})
        try:
            receipts.verify_cose(CoseReceipt.parse(bytes(raw), "receipt"), key, claims_digest=digest)
            ours.append(True)
        except KluisError:
            ours.append(False)
    for version in VERSIONS:
        answers = environments.check(version, "cose", {"service": service, "receipts": given})
        for each, our, error in zip(given, ours, answers, strict=True):
            # Theirs read more forms of the same CBOR: a longer head, a map with a further key.
            assert our <= (not error), (each, error)


def test_agree_on_cose() -> None:
    """What ours accepts, theirs accept; what theirs refuse, ours refuses."""
    agree_on_cose(FEW, 3)
