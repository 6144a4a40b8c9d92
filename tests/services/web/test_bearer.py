"""Tokens that hold, and every kind that does not."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, hmac
from joserfc import jwt

from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError
from kluis.services.web import Bearer, Issuer, WrongAudience
from tests.services.web.issuer import AUDIENCE, NOW, URL, TokenMaker, signing_key

MAKER = TokenMaker()
BEARER = Bearer(MAKER.issuer())


def refused(token: str) -> KluisError:
    """What is said of a token."""
    with pytest.raises(KluisError) as caught:
        BEARER.check(f"Bearer {token}", NOW)
    return caught.value


def test_a_token_names_its_caller() -> None:
    """Subject and roles come from a token that holds; its scheme's case does not matter."""
    caller = BEARER.check(f"bearer {MAKER.token('Reader', 'Writer')}", NOW)
    assert (caller.subject, caller.roles) == ("somebody", {"Reader", "Writer"})
    assert "claims" not in repr(caller)


@pytest.mark.parametrize("audience", [AUDIENCE, f"{AUDIENCE}/", ["https://else.example", f"{AUDIENCE}/"]])
def test_a_slash_at_the_end_of_an_audience(audience: Any) -> None:
    """Azure's own names of a resource end with one; both are the resource's."""
    assert BEARER.check(f"Bearer {MAKER.token(aud=audience)}", NOW).subject == "somebody"


def test_audiences_that_are_one() -> None:
    """Audiences that differ only by a slash are listed once."""
    names = (AUDIENCE, f"{AUDIENCE}/", "https://b.example/", AUDIENCE)
    bearer = Bearer(msgspec.structs.replace(MAKER.issuer(), audiences=names))
    with pytest.raises(
        AuthenticityError, match=f"want {AUDIENCE} or https://b.example, got https://c.example"
    ):
        bearer.check(f"Bearer {MAKER.token(aud='https://c.example')}", NOW)


@pytest.mark.parametrize(
    ("claims", "kind", "message"),
    [
        ({"aud": f"{AUDIENCE}//"}, WrongAudience,
         f"bearer token aud: want {AUDIENCE}, got {AUDIENCE}//"),
        ({"iss": "https://else.example"}, WrongAudience,
         f"bearer token iss: want {URL}, got https://else.example"),
        ({"aud": "https://else.example"}, WrongAudience,
         f"bearer token aud: want {AUDIENCE}, got https://else.example"),
        ({"aud": [{}, ["x"], None]}, WrongAudience,
         f"bearer token aud: want {AUDIENCE}, got [{{}}, ['x'], None]"),
        ({"aud": {}}, WrongAudience, f"bearer token aud: want {AUDIENCE}, got {{}}"),
        ({"aud": None}, WrongAudience, f"bearer token aud: want {AUDIENCE}, got none"),
        ({"exp": None}, AuthenticityError, "bearer token exp: want a time in whole seconds, got none"),
        ({"exp": int(NOW.timestamp()) - 60}, FreshnessError, "bearer token: has expired"),
        ({"nbf": int(NOW.timestamp()) + 61}, FreshnessError, "bearer token: is not valid yet"),
    ],
)  # fmt: skip
def test_claims_must_be_for_this_service_now(
    claims: dict[str, Any], kind: type[KluisError], message: str
) -> None:
    """Issuer, audience and times are each looked at, and each has its words."""
    error = refused(MAKER.token(**claims))
    assert (type(error), error.message) == (kind, message)


def test_a_minute_of_clocks_apart_is_borne() -> None:
    """Clocks may differ by less than a minute."""
    token = MAKER.token(exp=int(NOW.timestamp()))
    assert BEARER.check(f"Bearer {token}", NOW + timedelta(seconds=59)).subject == "somebody"


def test_another_key_does_not_sign_for_the_issuer() -> None:
    """A key of the same id is another key; one that a header brings along counts for nothing."""
    other = signing_key(1)
    header = {"alg": "RS256", "kid": "one", "jwk": other.as_dict(private=False)}
    claims = {"iss": URL, "aud": AUDIENCE, "exp": int(NOW.timestamp()) + 60}
    assert type(refused(jwt.encode(header, claims, other))) is AuthenticityError


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_no_algorithm_without_a_public_key() -> None:
    """``none`` and an HMAC under the public key's own text are refused."""
    claims = {"iss": URL, "aud": AUDIENCE, "exp": int(NOW.timestamp()) + 60}
    unsigned = f"{_part({'alg': 'none'})}.{_part(claims)}."
    assert type(refused(unsigned)) is AuthenticityError
    signing = f"{_part({'alg': 'HS256', 'kid': 'one'})}.{_part(claims)}"
    mac = hmac.HMAC(MAKER.key.as_pem(private=False), hashes.SHA256())
    mac.update(signing.encode())
    signature = base64.urlsafe_b64encode(mac.finalize()).rstrip(b"=").decode()
    assert type(refused(f"{signing}.{signature}")) is AuthenticityError


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic eA==", "Bearer " + "x" * 20_000])
def test_what_is_no_bearer_token_is_said_to_be_none(header: str) -> None:
    """Another scheme, no token and one out of bounds are malformed."""
    with pytest.raises(FormatError, match=r"^Authorization: want Bearer and a token$"):
        BEARER.check(header, NOW)


@pytest.mark.parametrize("text", ["x", "x.y.z", "....", "eyJhbGciOiJSUzI1NiJ9.e30.", "\x00.\x00.\x00"])
def test_only_our_errors_come_of_any_text(text: str) -> None:
    """For any text in place of a token, one of our errors reports that it is not the issuer's."""
    assert type(refused(text)) is AuthenticityError


def test_a_flipped_bit_is_seen() -> None:
    """A changed claim is no longer signed."""
    head, body, signature = MAKER.token("Reader").split(".")
    changed = _part({**json.loads(base64.urlsafe_b64decode(body + "==")), "roles": ["Writer"]})
    assert type(refused(f"{head}.{changed}.{signature}")) is AuthenticityError


@pytest.mark.parametrize(
    "keys",
    ["", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}', '{"keys": [{"kty": "RSA"}]}'],
)
def test_an_issuers_keys_must_be_public_ones(keys: str) -> None:
    """A configuration without usable public keys does not load."""
    with pytest.raises(FormatError):
        Bearer(Issuer(URL, (AUDIENCE,), keys))


def test_an_issuers_private_key_is_refused() -> None:
    """Who configures a private key has made a mistake that should not go unnoticed."""
    with pytest.raises(FormatError, match=r"^issuer.keys: want public keys, got none or others$"):
        Bearer(Issuer(URL, (AUDIENCE,), json.dumps({"keys": [MAKER.key.as_dict(private=True)]})))
