"""Signed claims: the form of authorities, what a header may name besides its key, and size limits."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kluis.appraisal.tokens import signed_claims
from kluis.appraisal.tokens.signed_claims import Assertion, check, origin
from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.errors import AuthenticityError, FormatError, KluisError
from kluis.formats.encoding import b64

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ISSUER = "https://issuer.example/tenant"
KEY = ec.generate_private_key(ec.SECP256R1())
CERTIFICATE = b"\x30\x01\x80"
LESS, GREATER = b"\x30\x01\x7f", b"\x30\x01\x81"


class Ring:
    """One authority's one key, with its certificate or without."""

    def __init__(self, certificate: bytes | None) -> None:
        self.held = TrustedKey("k", KEY.public_key(), certificate, None)

    def key(self, issuer: str, kid: str, now: datetime) -> TrustedKey:
        """The key."""
        assert (issuer, kid, now) == (ISSUER, "k", NOW)
        return self.held


def _token(header: dict[str, Any] | None = None, **claims: Any) -> str:
    head = {"alg": "ES256", "kid": "k", **(header or {})}
    body = {"iss": ISSUER, "exp": int(NOW.timestamp()) + 60, **claims}
    text = ".".join(b64.encode_url(json.dumps(each).encode()) for each in (head, body))
    r, s = decode_dss_signature(KEY.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{b64.encode_url(r.to_bytes(32) + s.to_bytes(32))}"


def _checked(token: str, certificate: bytes | None = CERTIFICATE) -> Assertion:
    return check(token, Ring(certificate), NOW)


def _refused(kind: type[KluisError], token: str, certificate: bytes | None = CERTIFICATE) -> str:
    with pytest.raises(kind) as caught:
        _checked(token, certificate)
    return caught.value.message


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://Issuer.Example", "https://issuer.example"),
        ("https://issuer.example/", "https://issuer.example"),
        ("https://issuer.example//", "https://issuer.example/"),
        ("https://issuer.example:443/A/", "https://issuer.example/A"),
        ("https://issuer.example:8443", "https://issuer.example:8443"),
        ("https://[2001:DB8::1]:1/x", "https://[2001:db8::1]:1/x"),
    ],
)
def test_one_way_to_write_an_authority(url: str, written: str) -> None:
    """The host in small letters, without the usual port, without one closing slash."""
    assert origin(url) == written
    assert origin(written.removesuffix("/")) == written.removesuffix("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        1,
        "http://issuer.example",
        "https://",
        "https://issuer.example/?",
        "https://issuer.example/?a=b",
        "https://issuer.example/#a",
        "https://issuer.example/a#",
        "https://issuer.example/a b",
        "https://issuer.example evil.example",
        "https://issuer.example\n",
        "https://issuer.example/a\n",
        "https://user@issuer.example",
        "https://issuer.example:",
        " https://issuer.example",
        "https://issuer.example/" + "x" * 2026,
    ],
)
def test_no_authority(url: object) -> None:
    """A URL that is not https, or not of a host, names no authority; a long one is shortened in the error."""
    with pytest.raises(FormatError, match=r"^authority: want an https URL, got ") as caught:
        origin(url)
    assert len(caught.value.message) < 200


def test_the_longest_authority() -> None:
    """An authority's URL has at most 2048 characters; an error shows 128."""
    url = "https://issuer.example/" + "x" * 2025
    assert (len(url), origin(url)) == (2048, url)
    for told, size in (("x" * 128, 128), ("x" * 128 + "...", 129)):
        with pytest.raises(FormatError) as caught:
            origin("x" * size)
        assert caught.value.message == f"authority: want an https URL, got {told!r}"


@pytest.mark.parametrize(
    "jku",
    [
        "https://issuer.example/keys",
        "https://issuer.example",
        "https://ISSUER.example:443/tenant/keys",
    ],
)
def test_keys_of_the_authority_itself(jku: str) -> None:
    """A header may name a place of keys on the authority's own host."""
    assert _checked(_token({"jku": jku})).issuer == ISSUER


@pytest.mark.parametrize(
    "jku",
    [
        "https://another.example/tenant",
        "https://zz.example/tenant",
        "https://issuer.example:8443/tenant",
        "https://issuer.example.evil/tenant",
    ],
)
def test_keys_of_another_host(jku: str) -> None:
    """A place of keys on another host, before it or after it in the alphabet, is not the authority's."""
    assert _refused(AuthenticityError, _token({"jku": jku})) == f"token jku: want one of {ISSUER}, got {jku}"


def test_the_keys_certificate() -> None:
    """A header may show the certificate of the key, first in its chain."""
    own = b64.encode(CERTIFICATE)
    for chain in ([own], [own, b64.encode(LESS)]):
        assert _checked(_token({"x5c": chain})).issuer == ISSUER


@pytest.mark.parametrize(
    "chain",
    [
        [],
        "",
        {},
        b64.encode(CERTIFICATE),
        [b64.encode(LESS)],
        [b64.encode(GREATER)],
        [b64.encode(LESS), b64.encode(CERTIFICATE)],
    ],
)
def test_another_certificate(chain: object) -> None:
    """Another certificate than the key's, or what is no chain, is refused."""
    want = "token x5c: want the certificate of the authority's key, got another"
    assert _refused(AuthenticityError, _token({"x5c": chain})) == want


def test_a_certificate_of_a_key_that_has_none() -> None:
    """A header with a certificate for a bare key has another key's, whatever its content."""
    for chain in ([b64.encode(CERTIFICATE)], [b64.encode(b"")], [None], "x"):
        token = _token({"x5c": chain})
        assert "want the certificate of the authority's key" in _refused(AuthenticityError, token, None)


def test_as_large_as_can_be() -> None:
    """A token has at most 128 KiB, and its header 32 KiB."""
    part = len(_token({"x": ""}).partition(".")[0]) * 3 // 4  # bytes of the header without filling
    filling = signed_claims.MAX_HEADER * 3 // 4 - part
    token = _token({"x": "x" * filling})
    assert len(token.partition(".")[0]) == signed_claims.MAX_HEADER
    assert _checked(token).issuer == ISSUER
    large = _token({"x": "x" * (filling + 1)})
    assert _refused(FormatError, large).startswith("token: want three parts")
    room = (signed_claims.MAX_TOKEN - len(_token(x=""))) * 3 // 4
    tokens = [_token(x="x" * size) for size in range(room - 2, room + 4)]
    for token in tokens:
        if len(token) <= signed_claims.MAX_TOKEN:
            assert _checked(token).issuer == ISSUER
        else:
            assert _refused(FormatError, token).startswith("token: want three parts")
    assert signed_claims.MAX_TOKEN in map(len, tokens)


@pytest.mark.parametrize("header", [{"alg": 1}, {"kid": None}, {"crit": ["x"]}, {"b64": False}])
def test_headers_that_leave_something_open(header: dict[str, Any]) -> None:
    """Without an algorithm and a key's name, or with what has to be understood, nothing is checked."""
    want = "token header: want alg and kid, without crit, got another"
    assert _refused(FormatError, _token(header)) == want


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (b"{", "want JSON"),
        (b"\xff", "want JSON"),
        (b'{"a":"\xff"}', "want JSON"),
        (b"[" * 5000, "want JSON"),
        (b"[]", "want an object"),
        (b"1", "want an object"),
    ],
)
def test_parts_that_are_no_objects(part: bytes, said: str) -> None:
    """Header and claims are each one JSON object."""
    header, claims, signature = _token().split(".")
    assert said in _refused(FormatError, ".".join((b64.encode_url(part), claims, signature)))
    assert said in _refused(FormatError, ".".join((header, b64.encode_url(part), signature)))
