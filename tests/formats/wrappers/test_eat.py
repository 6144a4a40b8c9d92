"""Entity Attestation Tokens: where they carry what, in four forms."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.encoding import cbor
from kluis.formats.encoding.cbor import Tagged
from kluis.formats.ietf import cmw, cmw_cbor, cose
from kluis.formats.ietf.cmw import Indicator, Part
from kluis.formats.wrappers import eat
from kluis.formats.wrappers.eat import Form
from tests.strategies import PROPERTY, mutations

NONCE = b"a nonce of ours"
KEY = ec.generate_private_key(ec.SECP256R1())


def url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(claims: Any, header: Any = None) -> bytes:
    """A token whose signature is noise."""
    parts = [json.dumps(each).encode() for each in ({"alg": "ES256"} if header is None else header, claims)]
    return ".".join([*map(url, parts), url(b"signature")]).encode()


def unsigned(claims: cbor.Writable) -> bytes:
    return b"\xd9\x02\x59" + cbor.dumps(claims)


BINARY: dict[cbor.Key, cbor.Writable] = {
    10: NONCE,
    256: b"\x01" + bytes(32),
    265: "tag:kluis.example,2026:eat",
    273: [[42, b"measured"], ["application/x", b"more", 4]],
    299: [30001, b"wrapped"],
    266: {
        "digest": [-16, bytes(32)],
        "inner": {10: b"another nonce", 273: [[42, b"inner"]], "text": 1},
        "token": b"\xd8\x3d\xd2\x84",
        "json": '["JWT","a.b.c"]',
    },
    "unknown": [1, {"x": True}],
}
TEXT: dict[str, Any] = {
    "eat_nonce": url(NONCE),
    "ueid": url(b"\x01" + bytes(32)),
    "eat_profile": "tag:kluis.example,2026:eat",
    "measurements": [[42, url(b"measured")], ["application/x", url(b"more"), 4]],
    "cmw": [30001, url(b"wrapped")],
    "submods": {
        "digest": ["DIGEST", ["sha-256", "AA"]],
        "inner": {"eat_nonce": "another nonce", "measurements": [[42, url(b"inner")]], "text": 1},
        "token": ["CBOR", url(b"\xd8\x3d\xd2\x84")],
        "json": ["JWT", "a.b.c"],
        "record": ["application/x", url(b"record")],
    },
}
GOOD: dict[Form, bytes] = {
    Form.CWT: cose.sign1(cbor.dumps(BINARY), KEY),
    Form.UCCS: unsigned(BINARY),
    Form.JWT: jwt(TEXT),
    Form.UJCS: json.dumps(TEXT).encode(),
}
WHERE = {
    "measurements[0]": Part(42, b"measured"),
    "measurements[1]": Part("application/x", b"more", Indicator.EVIDENCE),
    "submods.inner.measurements[0]": Part(42, b"inner"),
    "submods.token": Part("application/eat+cwt", b"\xd8\x3d\xd2\x84"),
    "submods.json": Part("application/eat+jwt", b"a.b.c"),
}


@pytest.mark.parametrize("form", GOOD)
def test_good(form: Form) -> None:
    """Every form tells the same: what it carries, where, and the nonces around it."""
    data = GOOD[form]
    assert eat.matches(data)
    token = eat.parse(data)
    assert token.form is form
    assert token.nonces[0][0] == NONCE
    assert (token.ueid, token.profile) == (b"\x01" + bytes(32), "tag:kluis.example,2026:eat")
    held = {where: each.part for where, each in token.held.items()}
    assert held.items() >= WHERE.items()
    binary = form in (Form.CWT, Form.UCCS)
    assert held["cmw"] == (
        Part(cmw_cbor.NESTED, cbor.dumps([30001, b"wrapped"]))
        if binary
        else Part(cmw.NESTED, b'[30001,"%s"]' % url(b"wrapped").encode())
    )
    assert set(held) == {*WHERE, "cmw", *(() if binary else ("submods.record",))}
    around = [spellings[0] for spellings in token.held["submods.inner.measurements[0]"].nonces]
    assert around == [NONCE, b"another nonce"]
    assert [spellings[0] for spellings in token.held["cmw"].nonces] == [NONCE]


def test_tags() -> None:
    """A CWT may have its tag, a claims set none, and both are recognised."""
    for data in (b"\xd8\x3d" + GOOD[Form.CWT], GOOD[Form.UCCS][3:], cbor.dumps({256: b"\x01" + bytes(32)})):
        assert eat.matches(data)
        assert eat.parse(data).ueid == b"\x01" + bytes(32)
    assert eat.parse(b"\xd8\x3d" + GOOD[Form.CWT]).form is Form.CWT


def test_nonces() -> None:
    """Text is base64url or literal, there may be several, and one that decodes too short is only text."""
    assert eat.parse(unsigned({10: [b"12345678", b"87654321"]})).nonces == ((b"12345678",), (b"87654321",))
    assert eat.parse(jwt({"eat_nonce": "not base64url!"})).nonces == ((b"not base64url!",),)
    assert eat.parse(jwt({"eat_nonce": "AAAAAAAA"})).nonces == ((b"AAAAAAAA",),)
    assert eat.parse(jwt({"eat_nonce": url(NONCE)})).nonces == ((NONCE, url(NONCE).encode()),)
    assert eat.parse(jwt({})).nonces == ()


def test_profile() -> None:
    """A profile may be an object identifier, and there may be none."""
    assert eat.parse(unsigned({265: b"\x2a\x03"})).profile == b"\x2a\x03"
    assert eat.parse(unsigned({10: NONCE})).profile is None


def test_wrapper() -> None:
    """A message may be in a token as its bytes, and a collection's type anywhere in it."""
    collection = {"a": [42, "AA"], "__cmwc_t": "tag:a"}
    held = eat.parse(jwt({"cmw": collection})).held["cmw"].part
    assert cmw.Collection.parse(held.value).type == "tag:a"
    assert eat.parse(jwt({"cmw": url(b"{}")})).held["cmw"].part.value == b"{}"
    assert eat.parse(unsigned({299: b"\x82"})).held["cmw"].part.value == b"\x82"
    tagged = Tagged(cmw_cbor.tag_of(42), b"x")
    assert eat.parse(unsigned({299: tagged})).held["cmw"].part.value == cbor.dumps(tagged)


def test_matches() -> None:
    """Other CBOR and JSON is no token; a token of a service is one."""
    assert eat.matches(jwt({"iss": "a service"}))
    assert eat.matches_jwt(jwt({}))
    for data in (
        b"",
        b"{}",
        b'{"quote":"aa"}',
        b"\xa0",
        cbor.dumps({1: 2}),
        cbor.dumps({"eat_nonce": NONCE}),
        cbor.dumps([1, 2]),
        cose.sign1(cbor.dumps({1: "iss"}), KEY),
        cose.sign1(b"text", KEY),
        cose.sign1(cbor.dumps({"module_id": "i", 10: NONCE}), KEY)[:3]
        + b"\x44\xa1\x01\x38\x22\xa0\x40module_id",
    ):
        assert not eat.matches(data), data
        assert not eat.matches_jwt(data)


REFUSED: dict[str, tuple[bytes, type[KluisError], str]] = {
    "a bundle": (b"\xd9\x02\x5a\x82\x40\xa0", UnsupportedError, "bad_type"),
    "a bundle within": (jwt({"submods": {"a": ["BUNDLE", []]}}), UnsupportedError, "bad_type"),
    "no claims": (unsigned([1]), FormatError, "bad_type"),
    "no claims of JSON": (jwt([1]), FormatError, "bad_type"),
    "a header that is none": (jwt({}, [1]), FormatError, "bad_type"),
    "claims with floats": (jwt({"eat_nonce": 1.5}), FormatError, "bad_type"),
    "another kind of COSE": (b"\xd8\x3d\xd1\x84", FormatError, "bad_type"),
    "a short nonce": (unsigned({10: b"1234567"}), FormatError, "bad_length"),
    "a long nonce": (unsigned({10: bytes(65)}), FormatError, "bad_length"),
    "a nonce of text": (unsigned({10: "12345678"}), FormatError, "bad_length"),
    "a short nonce of JSON": (jwt({"eat_nonce": "1234567"}), FormatError, "bad_length"),
    "a long nonce of JSON": (jwt({"eat_nonce": "1" * 89}), FormatError, "bad_length"),
    "a nonce past ASCII": (jwt({"eat_nonce": "é" * 8}), FormatError, "bad_length"),
    "a nonce that is a number": (jwt({"eat_nonce": 12345678}), FormatError, "bad_length"),
    "many nonces": (unsigned({10: [NONCE] * 9}), FormatError, "too_large"),
    "a profile that is a number": (unsigned({265: 1}), FormatError, "bad_type"),
    "a profile of JSON that is a number": (jwt({"eat_profile": 1}), FormatError, "bad_type"),
    "an id that is text": (unsigned({256: "id"}), FormatError, "bad_type"),
    "an id that is a number": (jwt({"ueid": 1}), FormatError, "bad_type"),
    "measurements that are no list": (unsigned({273: 1}), FormatError, "bad_type"),
    "a measurement without bytes": (unsigned({273: [[42]]}), FormatError, "bad_type"),
    "a measurement of text": (unsigned({273: [[42, "x"]]}), FormatError, "bad_type"),
    "a measurement that is no base64url": (jwt({"measurements": [[42, "="]]}), FormatError, "bad_encoding"),
    "a measurement without a type": (unsigned({273: [[True, b"x"]]}), FormatError, "bad_type"),
    "a measurement with more": (unsigned({273: [[42, b"x", 4, 4]]}), FormatError, "bad_type"),
    "an indicator past its bits": (unsigned({273: [[42, b"x", 32]]}), FormatError, "bad_type"),
    "an indicator true": (unsigned({273: [[42, b"x", True]]}), FormatError, "bad_type"),
    "submodules that are no map": (unsigned({266: [1]}), FormatError, "bad_type"),
    "a label that is a number": (unsigned({266: {1: b""}}), FormatError, "bad_encoding"),
    "a label with a line end": (jwt({"submods": {"a\nb": {}}}), FormatError, "bad_encoding"),
    "a submodule that is a number": (jwt({"submods": {"a": 1}}), FormatError, "bad_type"),
    "a selector that is no JSON": (unsigned({266: {"a": "["}}), FormatError, "bad_encoding"),
    "a selector of no kind": (jwt({"submods": {"a": ["OTHER", "AA"]}}), FormatError, "bad_type"),
    "too much": (unsigned({273: [[42, b"x"]] * 33}), FormatError, "too_large"),
    "too deep": (jwt({"submods": {"a": {"submods": {"a": {"submods": {"a": {"submods": {"a": {}}}}}}}}}),
                 FormatError, "too_deep"),
    "too large": (b"{" * (eat.MAX_SIZE + 1), FormatError, "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """What is malformed, too large, too deep or of another kind is refused."""
    data, error, code = REFUSED[case]
    with pytest.raises(error) as caught:
        eat.parse(data)
    assert caught.value.code == code


@PROPERTY
@given(mutations(*GOOD.values()))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape, for any input."""
    eat.matches(data)
    try:
        eat.parse(data)
    except KluisError:
        return


@pytest.mark.parametrize(
    ("claims", "device"),
    [
        ({265: "tag:psacertified.org,2023:psa#tfm"}, "PSA token"),
        ({265: "tag:psacertified.org,2019:psa#legacy"}, "PSA token"),
        ({265: "http://arm.com/psa/2.0.0"}, "PSA token"),
        ({-75000: "PSA_IOT_PROFILE_1"}, "PSA token"),
        ({-212: bytes(64), -11: {}}, "TDX quote by DICE"),
        ({10: NONCE, -212: bytes(64)}, None),
        ({10: NONCE, -75000: "another"}, None),
        ({265: "tag:another"}, None),
    ],
)
def test_devices(claims: dict[cbor.Key, cbor.Writable], device: str | None) -> None:
    """A device's own evidence is distinguished from containers of evidence, and from a service's results."""
    for data in (cose.sign1(cbor.dumps(claims), KEY), unsigned(claims)):
        assert eat.matches(data)
        assert eat.parse(data).device == device
