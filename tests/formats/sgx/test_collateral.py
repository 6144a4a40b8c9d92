"""Collateral as a bundle of bytes: the signed parts stay byte for byte what they were."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.sgx import collateral
from kluis.formats.sgx.collateral import Collateral, split_signed
from tests.evidence.forge import Forge
from tests.strategies import PROPERTY, mutations

GOOD = Forge().collateral()
TEXT = GOOD.to_json()


def test_round_trip() -> None:
    """A bundle reads back with the same parts."""
    assert Collateral.from_json(TEXT) == GOOD


def test_numbers() -> None:
    """CRLs and signatures may come byte by byte, as dcap-qvl wrote them before; nothing else is a byte."""
    names = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
    value = json.loads(TEXT)
    for name in names:
        value[name] = list(bytes.fromhex(value[name]))
    assert Collateral.from_json(json.dumps(value).encode()) == GOOD
    for odd in (256, -1, True, "30", None):
        with pytest.raises(FormatError) as caught:
            Collateral.from_json(json.dumps({**value, "pck_crl": [48, odd]}).encode())
        assert str(caught.value) == "collateral.pck_crl: want bytes as numbers"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "collateral: want an object, got a list"),
        (b"{}", "collateral: member 'pck_crl_issuer_chain' is missing"),
        (TEXT.replace(b'"root_ca_crl":"30', b'"root_ca_crl":"3x'), "collateral.root_ca_crl: is not hex"),
        (bytes((4 << 20) + 1), "collateral: is 4194305 bytes, must be at most 4194304"),
    ],
    ids=["list", "empty", "hex", "large"],
)
def test_refuses(data: bytes, message: str) -> None:
    """A bundle without a part, or with one of another kind, is refused."""
    with pytest.raises(FormatError) as caught:
        Collateral.from_json(data)
    assert str(caught.value) == message


def test_split_signed() -> None:
    """The signed document is cut out byte for byte."""
    inner, signature = b'{"a": 1 ,"signature":"x"}', b"\xab" * 64
    body = b'{"tcbInfo":' + inner + b',"signature":"' + signature.hex().encode() + b'"}\n'
    assert split_signed(body, "tcbInfo") == (inner, signature)
    for bad in (body[1:], body.replace(b"abab", b"zzzz"), body + b"x", body.replace(b"tcbInfo", b"other")):
        with pytest.raises(FormatError) as caught:
            split_signed(bad, "tcbInfo")
        assert str(caught.value) == "tcbInfo: is not a signed document of Intel's service"


@PROPERTY
@given(mutations(TEXT))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the reader."""
    try:
        read = collateral.Collateral.from_json(data)
    except KluisError:
        return
    assert Collateral.from_json(read.to_json()) == read


def test_the_pck_chain_may_come_beside() -> None:
    """A bundle may contain the platform's chain, for quotes without one; null means that there is no
    chain.
    """
    chain = b"-----BEGIN CERTIFICATE-----\n"
    with_chain = dataclasses.replace(GOOD, pck_certificate_chain=chain)
    assert Collateral.from_json(with_chain.to_json()) == with_chain
    assert b"pck_certificate_chain" not in TEXT
    assert Collateral.from_json(TEXT[:-1] + b',"pck_certificate_chain":null}') == GOOD


def test_an_endorsement_may_be_there() -> None:
    """A machine's endorsement is text in an optional member; null means that there is none."""
    endorsed = dataclasses.replace(GOOD, endorsement=b'{"kind":"snp"}')
    assert Collateral.from_json(endorsed.to_json()) == endorsed
    assert json.loads(endorsed.to_json())["endorsement"] == '{"kind":"snp"}'
    assert b"endorsement" not in TEXT
    assert Collateral.from_json(TEXT[:-1] + b',"endorsement":null}') == GOOD
    for value, message in (
        ("{}", "want text, got an object"),
        (f'"{"a" * 262145}"', "is 262145 long, must be at"),
    ):
        with pytest.raises(FormatError, match=message):
            Collateral.from_json(TEXT[:-1] + f',"endorsement":{value}}}'.encode())


def _pem(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN X509 CRL-----\n" + body + b"-----END X509 CRL-----\n"


CRL = GOOD.root_ca_crl
FORMS = {
    "DER": CRL,
    "hex": CRL.hex().encode(),
    "hex, ended": CRL.hex().upper().encode() + b"\n",
    "PEM": _pem(CRL),
}


@pytest.mark.parametrize("form", FORMS)
def test_crl_in_every_form(form: str) -> None:
    """A CRL is DER whichever way a service gave it."""
    assert collateral.crl_der(FORMS[form], "it") == CRL


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it: is neither DER, nor hex of DER, nor PEM"),
        (CRL.hex().encode()[:-1], "it: is neither DER, nor hex of DER, nor PEM"),
        (_pem(CRL).replace(b"\n", b"=\n", 2), "it: is neither DER, nor hex of DER, nor PEM"),
        (_pem(CRL).replace(b"MII", b"M=I"), "it: is not base64"),
        (bytes((4 << 20) + 1), "it: is 4194305 bytes, must be at most 4194304"),
    ],
    ids=["empty", "odd", "marker", "base64", "large"],
)
def test_crl_in_no_form(data: bytes, message: str) -> None:
    """Anything else is refused."""
    with pytest.raises(FormatError) as caught:
        collateral.crl_der(data, "it")
    assert str(caught.value) == message
