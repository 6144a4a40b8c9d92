"""Receipts: made of a ledger, verified under the pinned key, and one forged for each step."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import AuthenticityError, FormatError, KluisError, UsageError
from kluis.formats.ccf import cose_receipt
from kluis.formats.ccf.cose_receipt import CoseReceipt, Proof
from kluis.formats.ccf.entry import SNAPSHOT_VIEW, Entry
from kluis.formats.ccf.receipt import Components, Receipt, Step
from kluis.formats.ccf.signature import ServiceSignature
from kluis.formats.ccf.snapshot import Snapshot
from kluis.formats.ccf.txid import TxId
from kluis.hashes import sha256
from kluis.ledger import certificates, claims, receipts, sample
from kluis.ledger.merkle import Tree
from kluis.ledger.sample import Sample
from kluis.ledger.signer import key_id
from tests.formats.ccf import real
from tests.formats.ccf.test_snapshot import HEAD
from tests.ledger import making
from tests.ledger.audit.forge import Forge

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@functools.cache
def made() -> Sample:
    """A ledger."""
    return sample.make(60, NOW, os.urandom)


@functools.cache
def tree() -> Tree:
    """Its tree."""
    grown = Tree()
    for batch in made().batches:
        grown.extend(batch.leaves)
    return grown


def service() -> x509.Certificate:
    """The certificate whose key is pinned."""
    return x509.load_pem_x509_certificate(made().parties.service.encode())


def parts(seqno: int) -> Components:
    """The components of an entry."""
    return next(
        each
        for batch in made().batches
        for txid, each in zip(batch.txids, batch.components, strict=True)
        if txid.seqno == seqno
    )


def receipt(seqno: int, signature: int = -1) -> Receipt:
    """A receipt of an entry, by the signature of a batch."""
    signed = made().batches[signature].signed.node
    assert signed is not None
    return receipts.make(tree(), TxId(2, seqno), parts(seqno), signed, made().parties.node)


def test_every_entry() -> None:
    """Each entry has a receipt by each later signature, as JSON and as COSE, and all verify."""
    key = made().parties.service_key.public_key()
    for batch in made().batches:
        assert batch.signed.node is not None
        signed = ServiceSignature.parse(batch.signed.service, "signature")
        for seqno in range(1, batch.signature.seqno):
            got = receipts.make(tree(), TxId(2, seqno), parts(seqno), batch.signed.node, made().parties.node)
            again = Receipt.parse(got.encode(), "receipt")
            assert receipts.verify(again, service()) == batch.root
            raw = receipts.make_cose(tree(), TxId(2, seqno), parts(seqno), signed)
            assert receipts.verify_cose(CoseReceipt.parse(raw, "receipt"), key) == batch.root
    with pytest.raises(UsageError):
        receipt(made().last.seqno)


def test_of_a_signature() -> None:
    """The receipt of an entry that holds a signature is its root; claims it has none."""
    batch = made().batches[3]
    assert batch.signed.node is not None
    got = receipts.make_of_signature(batch.signed.node, made().parties.node)
    assert receipts.verify(got, service()) == batch.root
    for wrong, digest in ((got, bytes(32)), (dataclasses.replace(got, proof=(Step(True, bytes(32)),)), None)):
        with pytest.raises(AuthenticityError) as caught:
            receipts.verify(wrong, service(), claims_digest=digest)
        assert str(caught.value) == "receipt: want the components of a leaf, got none"


def test_endorsed_by_a_later_service() -> None:
    """A certificate between the node's and the pinned one leads from one to the other."""
    key = made().parties.service_key
    older = x509.load_pem_x509_certificate(made().parties.service.encode())
    between = certificates.node_certificate(
        key.public_key(), making.key(5), certificates.service_certificate(making.key(5), NOW), NOW
    )
    newer = x509.load_pem_x509_certificate(certificates.service_certificate(making.key(5), NOW).encode())
    got = dataclasses.replace(receipt(5), endorsements=(between,))
    receipts.verify(got, newer)
    with pytest.raises(AuthenticityError):
        receipts.verify(got, older)
    with pytest.raises(AuthenticityError):
        receipts.verify(receipt(5), newer)


def replaced(name: str, value: object) -> Callable[[Receipt], Receipt]:
    """A change of one member."""
    return lambda good: dataclasses.replace(good, **{name: value})


def component(index: int, value: object) -> Callable[[Receipt], Receipt]:
    """A change of one component."""

    def change(good: Receipt) -> Receipt:
        assert good.components is not None
        values: list[Any] = list(good.components)
        values[index] = value
        return dataclasses.replace(good, components=Components(*values))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (component(0, bytes(32)), "is not signed by its node"),
        (component(1, "ce:2.5:00"), "is not signed by its node"),
        (component(2, b"c" * 32), "is not signed by its node"),
        (replaced("proof", ()), "is not signed by its node"),
        (replaced("signature", b""), "is not signed by its node"),
        (replaced("signature", b"\x30\x06\x02\x01\x01\x02\x01\x01"), "is not signed by its node"),
        (replaced("node", bytes(32)), "receipt.node_id: want "),
        (replaced("components", None), "receipt: want the components of a leaf, got none"),
        (replaced("endorsements", ("x",)), "receipt.service_endorsements[0]: want a PEM certificate"),
        (replaced("certificate", "x"), "receipt.cert: want a PEM certificate"),
    ],
)
def test_changed(change: Callable[[Receipt], Receipt], said: str) -> None:
    """A receipt that was changed in one place is refused."""
    with pytest.raises(KluisError) as caught:
        receipts.verify(change(receipt(7)), service())
    assert isinstance(caught.value, AuthenticityError | FormatError)
    assert said in str(caught.value)


def test_another_service() -> None:
    """A receipt counts under the pinned key only, whatever certificate it brings."""
    other = certificates.service_certificate(making.key(7), NOW)
    with pytest.raises(AuthenticityError) as caught:
        receipts.verify(receipt(7), x509.load_pem_x509_certificate(other.encode()))
    assert str(caught.value) == "receipt.cert: is not signed by the key it should be"
    raw = receipts.make_cose(
        tree(), TxId(2, 7), parts(7), ServiceSignature.parse(made().batches[-1].signed.service, "s")
    )
    with pytest.raises(AuthenticityError) as caught:
        receipts.verify_cose(CoseReceipt.parse(raw, "receipt"), making.key(7).public_key())
    assert str(caught.value).startswith("receipt.kid: want ")


def test_claims() -> None:
    """Claims that the reader computed must be the receipt's; where it states none, they are its."""
    claimed = next(
        txid.seqno
        for batch in made().batches
        for txid, each in zip(batch.txids, batch.components, strict=True)
        if any(each.claims_digest or b"")
    )
    digest = parts(claimed).claims_digest
    got, bare = receipt(claimed), component(2, None)(receipt(claimed))
    receipts.verify(got, service(), claims_digest=digest)
    receipts.verify(bare, service(), claims_digest=digest)
    for wrong, given in ((got, b"x" * 32), (bare, b"x" * 32), (bare, None)):
        with pytest.raises(AuthenticityError):
            receipts.verify(wrong, service(), claims_digest=given)


@pytest.mark.parametrize("change", ["digest", "path", "drop", "second", "signature", "claims"])
def test_cose_changed(change: str) -> None:
    """A COSE receipt that was changed in one place is refused."""
    key, batch = made().parties.service_key.public_key(), made().batches[-1]
    raw = receipts.make_cose(tree(), TxId(2, 7), parts(7), ServiceSignature.parse(batch.signed.service, "s"))
    good = CoseReceipt.parse(raw, "receipt")
    ((leaf, path),) = good.proofs
    receipts.verify_cose(good, key, claims_digest=leaf.claims_digest)
    proofs, signature, wanted = [good.proofs[0]], good.signed.message.signature, None
    match change:
        case "digest":
            proofs = [Proof(leaf._replace(write_set_digest=bytes(32)), path)]
        case "path":
            proofs = [Proof(leaf, (Step(path[0].left, bytes(32)), *path[1:]))]
        case "drop":
            proofs = [Proof(leaf, path[:-1])]
        case "second":
            proofs.append(Proof(leaf, path[:-1]))
        case "signature":
            signature = bytes(96)
        case _:
            wanted = b"x" * 32
    message = dataclasses.replace(good.signed.message, signature=signature)
    wrong = CoseReceipt.parse(cose_receipt.encode(message, proofs), "receipt")
    with pytest.raises(AuthenticityError):
        receipts.verify_cose(wrong, key, claims_digest=wanted)


@real.needed
def test_real() -> None:
    """Receipts of Azure's service and of another writer verify under their services' keys."""
    azure = json.loads((real.CCF / "acl_receipt_2.35_p256.json").read_text())
    cert = x509.load_pem_x509_certificate(azure["service_cert"].strip().encode())
    receipts.verify(Receipt.of(azure["receipt"], "receipt"), cert)
    folder = real.CCF / "poc_dual" / "out"
    cert = x509.load_pem_x509_certificate((folder / "service_cert.pem").read_bytes())
    claimed = bytes.fromhex((folder / "claims.hex").read_text())
    root = receipts.verify(
        Receipt.parse((folder / "receipt.json").read_bytes(), "receipt"), cert, claims_digest=claimed
    )
    raw = CoseReceipt.parse((folder / "receipt.cose").read_bytes(), "receipt")
    assert receipts.verify_cose(raw, receipts.curve_key(cert), claims_digest=claimed) == root


@real.needed
def test_production() -> None:
    """A receipt that a service in production issued for a signed statement verifies, over that statement."""
    folder = real.CCF / "scitt"
    statement = cbor2.loads((folder / "uvm_0.2.10.cose").read_bytes()).value
    (raw,) = statement[1][394]
    bare = cbor2.dumps(cbor2.CBORTag(18, [statement[0], {}, *statement[2:]]))
    read = CoseReceipt.parse(raw, "receipt")
    services = json.loads((folder / "esrp-cts-db.json").read_text())["parameters"]
    certs = [
        x509.load_der_x509_certificate(base64.b64decode(each["serviceCertificate"])) for each in services
    ]
    cert = next(each for each in certs if key_id(receipts.curve_key(each)) == read.signed.key_id)
    assert read.encode() == raw
    receipts.verify_cose(read, receipts.curve_key(cert), claims_digest=sha256(bare))
    assert str(read.signed.txid) == "458.12441"
    with pytest.raises(AuthenticityError):
        receipts.verify_cose(read, receipts.curve_key(cert), claims_digest=sha256(bare[:-1]))


@real.needed
def test_claims_of_the_documentation() -> None:
    """Both forms of application claims give the digest of Azure's documentation."""
    known = json.loads((real.CCF / "acl_claims_LedgerEntryV1.json").read_text())
    assert claims.read(known["application_claims"], "claims").hex() == known["digest"]
    assert claims.read(known["application_claims_digested"], "claims").hex() == known["digest2"]


@pytest.mark.parametrize("value", [[], {}, None, [{}], [{"kind": "Other"}], [{"kind": "LedgerEntry"}], [1]])
def test_claims_refused(value: Any) -> None:
    """Claims of another form are refused as ours, not by an assertion."""
    with pytest.raises(FormatError):
        claims.read(value, "claims")


def test_claims_by_hand() -> None:
    """A claim is hashed with its protocol, after a digest that needs the entry's key."""
    digest = claims.entry_digest("subledger:0", "Hello", b"k" * 32)
    assert claims.claims_digest([(claims.LEDGER_ENTRY, digest)]) == sha256(
        b"\1\0\0\0" + sha256(b"LedgerEntryV1" + digest)
    )
    assert claims.entry_digest("subledger:0", "Hello", b"l" * 32) != digest


@pytest.mark.parametrize(("offset", "value"), [(4, 5), (7, 0x83)])
def test_odd_certificates(offset: int, value: int) -> None:
    """A certificate of an unknown version, or with a negative serial number, is refused as ours."""
    der = bytearray(service().public_bytes(Encoding.DER))
    der[der.index(b"\xa0\x03\x02\x01\x02") + offset] = value
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
    with pytest.raises((FormatError, AuthenticityError)):
        receipts.verify(dataclasses.replace(receipt(7), certificate=pem.decode()), service())


def test_snapshots() -> None:
    """A snapshot counts with a receipt of its digest, under the pinned key."""
    made = Forge.governed()
    bare = Entry(tag=bytes(16), seqno=14, view=SNAPSHOT_VIEW, public=HEAD, private=b"").encode()
    snapshot = Snapshot.parse(bare, "snapshot")
    made.write({"public:x": {b"k": b"v"}}, snapshot.digest)
    batch = made.batches[-1]
    assert batch.signed.node is not None
    receipt = receipts.make(
        made.sequencer.tree, batch.txids[0], batch.components[0], batch.signed.node, made.parties.node
    )
    whole = Snapshot.parse(bare + receipt.encode(), "snapshot")
    pinned = x509.load_pem_x509_certificate(made.parties.service.encode())
    receipts.check_snapshot(whole, pinned)
    for wrong in (snapshot, dataclasses.replace(whole, tag=b"x" * 16), dataclasses.replace(whole, seqno=15)):
        with pytest.raises(AuthenticityError):
            receipts.check_snapshot(wrong, pinned)
