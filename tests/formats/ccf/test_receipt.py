"""JSON receipts: in the words of CCF and of Azure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.ccf.receipt import Components, Receipt, Step
from kluis.formats.encoding import jcs
from tests.formats.ccf import real
from tests.strategies import PROPERTY, mutations

MADE = Receipt(
    certificate="cert",
    node=b"n" * 32,
    components=Components(b"w" * 32, "ce:2.3:00", bytes(32)),
    proof=(Step(True, b"l" * 32), Step(False, b"r" * 32)),
    signature=b"sig",
    endorsements=("endorsement",),
)
GOOD = MADE.encode()


def changed(**change: Any) -> bytes:
    """The good receipt, with other members; None takes one away."""
    value: dict[str, Any] = {**json.loads(GOOD), **change}
    return json.dumps({name: each for name, each in value.items() if each is not None}).encode()


def test_read_and_written() -> None:
    """A receipt is read with both vocabularies, bare and in Azure's answer."""
    azure = jcs.dumps(MADE.to_azure())
    assert set(json.loads(azure)) == {
        "cert", "isSignatureTransaction", "leafComponents", "nodeId", "proof", "serviceEndorsements",
        "signature",
    }  # fmt: skip
    assert set(json.loads(azure)["leafComponents"]) == {"claimsDigest", "commitEvidence", "writeSetDigest"}
    answer = jcs.dumps({"receipt": MADE.to_azure(), "state": "Ready", "transactionId": "2.3"})
    for raw in (GOOD, azure, answer):
        assert Receipt.parse(raw, "receipt") == MADE
    assert Receipt.parse(GOOD, "receipt").encode() == GOOD


def test_of_a_signature() -> None:
    """The receipt of a signature has a root for a leaf, and no components."""
    made = Receipt(certificate="cert", node=b"n" * 32, leaf=b"r" * 32, signature=b"sig")
    assert json.loads(made.encode()) == {
        "cert": "cert", "leaf": (b"r" * 32).hex(), "node_id": (b"n" * 32).hex(), "proof": [],
        "signature": "c2ln",
    }  # fmt: skip
    assert Receipt.parse(made.encode(), "receipt") == made
    assert made.to_azure()["isSignatureTransaction"] is True


def test_without_claims() -> None:
    """A receipt may leave the claims digest out, for its reader to compute."""
    made = Receipt(certificate="", components=Components(b"w" * 32, "e", None), signature=b"")
    assert "claims_digest" not in json.loads(made.encode())["leaf_components"]
    assert Receipt.parse(made.encode(), "receipt") == made


SIDE = "ab" * 32


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(cert=None), "receipt: member 'cert' is missing"),
        (changed(cert=1), "receipt.cert: want text, got an integer"),
        (changed(node_id="ab"), "receipt.node_id: want 32 bytes, got 1"),
        (changed(signature="!"), "receipt.signature: is not base64"),
        (changed(signature="c2ln\n"), "receipt.signature: is not base64"),
        (changed(proof=[{}]), "receipt.proof: want left or right, got neither"),
        (
            changed(proof=[{"left": SIDE, "right": SIDE}]),
            "receipt.proof: want left or right, got left and right",
        ),
        (changed(proof=[{"left": SIDE}] * 65), "receipt.proof: has 65 items, must be at most 64"),
        (changed(leaf_components=None), "receipt: member 'leaf' is missing"),
        (changed(leafComponents={}), "receipt: leaf_components occurs twice"),
        (changed(service_endorsements=[1]), "receipt.service_endorsements: want text, got an integer"),
        (
            changed(leaf_components={"commit_evidence": "", "claims_digest": ""}),
            "receipt.leaf_components: member 'write_set_digest' is missing",
        ),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    """What is no receipt is refused, with the member."""
    with pytest.raises(FormatError) as caught:
        Receipt.parse(data, "receipt")
    assert str(caught.value) == message


@given(mutations(GOOD))
@PROPERTY
def test_same_receipt_or_refused(data: bytes) -> None:
    """Whatever is read is read again from what it is written to; only our errors escape."""
    try:
        read = Receipt.parse(data, "receipt")
    except FormatError:
        return
    assert Receipt.parse(read.encode(), "receipt") == read


@real.needed
def test_real() -> None:
    """A receipt of Azure's own service, and one of another writer, parse."""
    azure = json.loads((real.CCF / "acl_receipt_2.35_p256.json").read_text())
    read = Receipt.parse(json.dumps(azure["receipt"]).encode(), "receipt")
    assert read.components is not None
    assert read.components.evidence.startswith("ce:2.35:")
    assert [step.left for step in read.proof] == [True, True, True]
    other = Receipt.parse((real.CCF / "poc_dual" / "out" / "receipt.json").read_bytes(), "receipt")
    assert [step.left for step in other.proof] == [False, True, True, False]
