"""Signatures over roots: the node's over the root itself, the service's over a COSE structure."""

from __future__ import annotations

from kluis.formats.ccf.signature import ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.ledger import signer
from tests.ledger import making

ROOT, TXID = bytes(range(32)), TxId(2, 16)


def test_both_sign() -> None:
    """Each signature is by its key, and names the entry and its key."""
    made = making.signer()
    signed = made.sign(ROOT, TXID, making.NOW)
    assert signed.node is not None
    making.key(0).public_key().verify(signed.node.signature, ROOT, signer.OF_ROOT)
    assert (signed.node.root, signed.node.view, signed.node.seqno) == (ROOT, 2, 16)
    assert signed.node.node == made.node == signer.key_id(making.key(0).public_key())
    assert signed.node.certificate == "certificate"
    service = ServiceSignature.parse(signed.service, "signature")
    cose.check(service.message.over(ROOT), making.key(1).public_key(), "signature")
    assert (service.txid, service.key_id) == (TXID, signer.key_id(making.key(1).public_key()))
    assert service.message.headers[15] == {6: making.NOW, 1: "service.example.com", 2: "ledger.signature"}


def test_only_the_service_signs() -> None:
    """By choice there is no signature of the node."""
    signed = making.signer(cose_only=True).sign(ROOT, TXID, making.NOW)
    assert signed.node is None
    cose.check(
        ServiceSignature.parse(signed.service, "s").message.over(ROOT), making.key(1).public_key(), "s"
    )
