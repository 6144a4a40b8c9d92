"""What endorses a CCA token: a platform's public key, in three forms, and whose it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from joserfc.jwk import ECKey

from kluis.errors import FormatError
from kluis.formats.cca.endorsements import Endorsements
from tests.strategies import PROPERTY, mutations

KEY = ec.generate_private_key(ec.SECP384R1()).public_key()
DER = KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
PEM = KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWK = json.dumps(ECKey.import_key(PEM).as_dict(private=False)).encode()
IDS = {"implementation_id": bytes(32), "instance_id": b"\x01" + bytes(32)}


@pytest.mark.parametrize("data", [DER, PEM, JWK], ids=["DER", "PEM", "JWK"])
@pytest.mark.parametrize("ids", [{}, IDS], ids=["no ids", "ids"])
def test_forms(data: bytes, ids: dict[str, bytes]) -> None:
    """Each form is the same key, and travels as JSON; DER travels as PEM."""
    given_key = Endorsements(cpak=data, **ids)
    assert given_key.key.spki == DER
    read = Endorsements.from_json(given_key.to_json())
    assert read == Endorsements(cpak=PEM if data == DER else data, **ids)
    assert read.to_json() == given_key.to_json()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "CCA endorsements: want members ['cpak'], got []"),
        ({"cpak": "", "kid": ""}, "CCA endorsements: want members ['cpak'], got ['cpak', 'kid']"),
        ({"cpak": 1}, "CCA endorsements.cpak: want text, got an integer"),
        ({"cpak": "", "instance_id": "00"}, "CCA endorsements.instance_id: want 33 bytes, got 1"),
        ({"cpak": "", "implementation_id": None}, "CCA endorsements.implementation_id: want text, got null"),
        ([], "CCA endorsements: want an object, got a list"),
    ],
)
def test_refused(value: Any, message: str) -> None:
    """Members unknown, missing, or of another kind are refused."""
    with pytest.raises(FormatError) as caught:
        Endorsements.from_json(json.dumps(value).encode())
    assert str(caught.value) == message


@pytest.mark.parametrize("data", [b"", b"{}", b"-----BEGIN", b"\xff", DER + b"\0"])
def test_no_key(data: bytes) -> None:
    """What is no public key is refused where it is read, and is not written."""
    with pytest.raises(FormatError):
        _ = Endorsements(cpak=data).key
    with pytest.raises(FormatError):
        Endorsements(cpak=data).to_json()


GOODS = (Endorsements(cpak=JWK, **IDS).to_json(), Endorsements(cpak=PEM).to_json())


@given(mutations(*GOODS))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever is read is written and read again, or refused by our errors."""
    try:
        read = Endorsements.from_json(data)
        written = read.to_json()
    except FormatError:
        return
    assert Endorsements.from_json(written) == read
