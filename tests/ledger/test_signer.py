"""Signatures over roots: the node's over the root itself, the service's over a COSE structure."""

from __future__ import annotations

import sys
import tomllib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.formats.ccf.signature import ServiceSignature
from kluis.formats.ccf.txid import TxId
from kluis.formats.ietf import cose
from kluis.ledger import signer
from kluis.serve import images
from tests.ledger import making

ROOT, TXID = bytes(range(32)), TxId(2, 16)


@pytest.fixture(params=["awscrt", "cryptography"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which library signs."""
    name = str(request.param)
    if name == "awscrt":
        pytest.importorskip("awscrt.crypto")
    else:
        monkeypatch.setitem(sys.modules, "awscrt.crypto", None)
    return name


def test_a_node_signs_with_the_fast_library() -> None:
    """Its image has the package, and the key of a signer is that library's."""
    pytest.importorskip("awscrt.crypto")
    wanted = tomllib.loads((images.folder_of("ledger") / "kluis.toml").read_text())["requirements"]
    assert any(one.startswith("awscrt") for one in wanted)
    key = making.key(0)
    assert signer.signature_function(key) != key.sign


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
@pytest.mark.parametrize("scheme", [signer.OF_ROOT, ec.ECDSA(hashes.SHA384()), ec.ECDSA(hashes.SHA512())])
def test_a_signature_is_one_of_its_key(library: str, curve: ec.EllipticCurve, scheme: ec.ECDSA) -> None:
    """On each curve and with each hash, whatever library makes it; no two are the same."""
    key = ec.generate_private_key(curve)
    sign = signer.signature_function(key)
    first, second = sign(ROOT, scheme), sign(ROOT, scheme)
    assert first != second  # a nonce that repeats would reveal the key
    for made in (first, second):
        key.public_key().verify(made, ROOT, scheme)
        with pytest.raises(InvalidSignature):
            key.public_key().verify(made, bytes(32), scheme)


def test_both_sign(library: str) -> None:
    """Each signature is by its key, and names the entry and its key."""
    made = making.signer()
    signed = made.sign(ROOT, TXID, making.NOW)
    assert signed.node is not None
    making.key(0).public_key().verify(signed.node.signature, ROOT, signer.OF_ROOT)
    assert (signed.node.root, signed.node.view, signed.node.seqno) == (ROOT, 2, 16)
    assert signed.node.node == made.node == signer.key_id(making.key(0).public_key())
    assert signed.node.certificate == "certificate"
    assert signed.node_value == signed.node.encode()
    service = ServiceSignature.parse(signed.service, "signature")
    cose.check(service.message.over(ROOT), making.key(1).public_key(), "signature")
    assert (service.txid, service.key_id) == (TXID, signer.key_id(making.key(1).public_key()))
    assert service.message.headers[15] == {6: making.NOW, 1: "service.example.com", 2: "ledger.signature"}


def test_only_the_service_signs() -> None:
    """By choice there is no signature of the node."""
    signed = making.signer(cose_only=True).sign(ROOT, TXID, making.NOW)
    assert (signed.node, signed.node_value) == (None, b"")
    cose.check(
        ServiceSignature.parse(signed.service, "s").message.over(ROOT), making.key(1).public_key(), "s"
    )
