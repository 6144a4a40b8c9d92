"""Bearer tokens of registered issuers: the key that signed one must be in the ledger."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt

from kluis.errors import AuthenticityError
from kluis.services.ledger import tokens
from kluis.services.ledger.settings import Issuer, Principal
from tests.services.ledger.world import ADMIN, NOW, Served, World, run
from tests.services.web.issuer import TokenMaker

URL = "https://issuer.example/tenant"
OID = "11111111-2222-4333-8444-555555555555"
AUDIENCE = "https://confidential-ledger.azure.com"
MAKER, OTHER = TokenMaker(URL, AUDIENCE), TokenMaker(URL, AUDIENCE, key=1)


@pytest.fixture
def world(tmp_path: Any) -> World:
    """A ledger with an issuer, one of whose users may write."""
    made = World(tmp_path / "ledger", issuers=(Issuer(URL, MAKER.issuer().keys),))
    made.settings = {
        "principals": (Principal(ADMIN.user, ("Administrator",)), Principal(OID, ("Contributor",)))
    }
    return made


def _token(**claims: Any) -> str:
    return MAKER.token(now=NOW, **{"oid": OID, **claims})


def _forged(header: Mapping[str, Any], sign: bytes | None) -> str:
    claims = {"iss": URL, "aud": AUDIENCE, "oid": OID, "exp": int(NOW.timestamp()) + 3600}

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signed = f"{part(header)}.{part(claims)}"
    mac = b"" if sign is None else hmac.digest(sign, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _public_pem() -> bytes:
    return MAKER.key.as_pem(private=False)


@pytest.mark.parametrize("audience", [AUDIENCE, f"{AUDIENCE}/", ["https://else.example", AUDIENCE]])
def test_a_token_of_a_registered_issuer_holds(world: World, audience: object) -> None:
    """Its object id is the user."""

    async def test(served: Served) -> None:
        header = {"authorization": f"Bearer {_token(aud=audience)}"}
        answer = await served.ask("POST", "/app/transactions", None, json={"contents": "x"}, headers=header)
        assert answer.status_code == 200, answer.text
        seen = (await served.ask("GET", "/app/whoami", None, headers=header)).json()
        assert seen == {"userId": OID, "identity": ["jwt"], "roles": ["Contributor"]}

    run(world, test)


REFUSED = {
    "expired": lambda: _token(exp=int(NOW.timestamp()) - 61),
    "no end": lambda: _token(exp=None),
    "an end that is no number": lambda: _token(exp="never"),
    "not valid yet": lambda: _token(nbf=int(NOW.timestamp()) + 61),
    "another issuer": lambda: _token(iss="https://evil.example"),
    "no issuer": lambda: _token(iss=None),
    "another audience": lambda: _token(aud="https://vault.azure.net"),
    "another key": lambda: OTHER.token(now=NOW, oid=OID),
    "an unknown key": lambda: jwt.encode({"alg": "RS256", "kid": "two"}, {"oid": OID}, MAKER.key),
    "no algorithm": lambda: _forged({"alg": "none", "kid": "one"}, None),
    "the public key as a secret": lambda: _forged({"alg": "HS256", "kid": "one"}, _public_pem()),
    "a critical header": lambda: _forged({"alg": "RS256", "kid": "one", "crit": ["b64"]}, b"x"),
    "no token": lambda: "a.b",
    "rubbish": lambda: "a.b.c",
    "too long": lambda: "a" * 17_000,
}


@pytest.mark.parametrize("why", REFUSED)
def test_every_other_token_is_refused(world: World, why: str) -> None:
    """With 401, and a certificate does not help who shows a token that does not hold."""

    async def test(served: Served) -> None:
        header = {"authorization": f"Bearer {REFUSED[why]()}"}
        for who in (None, ADMIN):
            answer = await served.ask("GET", "/app/transactions", who, headers=header)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationInfo")

    run(world, test)


def test_keys_of_the_ledger_are_the_only_ones(world: World) -> None:
    """A key that the token brings along counts for nothing."""
    der = OTHER.key.raw_value.public_key() if hasattr(OTHER.key.raw_value, "public_key") else None
    assert der is not None
    pem = der.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = {**OTHER.key.as_dict(private=False), "kid": hashlib.sha256(pem).hexdigest()}

    async def test(served: Served) -> None:
        claims = {"iss": URL, "aud": AUDIENCE, "oid": OID, "exp": int(NOW.timestamp()) + 3600}
        token = jwt.encode({"alg": "RS256", "kid": "one", "jwk": jwk}, claims, OTHER.key)
        header = {"authorization": f"Bearer {token}"}
        assert (await served.ask("GET", "/app/transactions", None, headers=header)).status_code == 401

    run(world, test)


ENTRA = "https://login.microsoftonline.com"


@pytest.mark.parametrize(
    ("constraint", "issuer", "tenant", "holds"),
    [
        (f"{ENTRA}/{{tenantid}}/v2.0", f"{ENTRA}/one/v2.0", "one", True),
        (f"{ENTRA}/{{tenantid}}/v2.0", f"{ENTRA}/one/v2.0", "two", False),
        (f"{ENTRA}/{{tenantid}}/v2.0", f"{ENTRA}/one/v2.0", None, False),
        (f"{ENTRA}/{{tenantid}}/v2.0", f"{ENTRA}/one/more/v2.0", "one/more", False),
        (f"{ENTRA}/one/v2.0", f"{ENTRA}/one/v2.0", "one", True),
        (f"{ENTRA}/one/v2.0", f"{ENTRA}/one/v2.0", "two", False),
        ("https://a.example/x", "https://a.example/x", None, True),
        ("https://a.example/x", "https://a.example/x", "one", False),
        ("https://a.example/x", "https://b.example/x", None, False),
        ("https://[", "https://[", None, False),
    ],
)
def test_what_a_keys_constraint_lets_a_token_say(
    constraint: str, issuer: str, tenant: str | None, holds: bool
) -> None:
    """CCF's rules: at Entra the tenant is the issuer's, and elsewhere a token names none."""
    der = MAKER.key.raw_value.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    row = [{"public_key": base64.b64encode(der).decode(), "issuer": URL, "constraint": constraint}]
    token = MAKER.token(now=NOW, iss=issuer, tid=tenant)

    def check() -> Mapping[str, Any]:
        return tokens.check(f"Bearer {token}", lambda kid: json.dumps(row).encode(), NOW)

    if holds:
        assert check()["iss"] == issuer
    else:
        with pytest.raises(AuthenticityError, match="iss: is not what its key's issuer may say"):
            check()


def test_two_issuers_may_name_their_keys_alike(world: World) -> None:
    """Each one's tokens hold, and neither speaks for the other."""
    other = TokenMaker("https://other.example", AUDIENCE, key=1)
    world.issuers = (*world.issuers, Issuer(other.url, other.issuer().keys))

    async def test(served: Served) -> None:
        for token, status in (
            (_token(), 200),
            (other.token(now=NOW, oid=OID), 200),
            (other.token(now=NOW, oid=OID, iss=URL), 401),
        ):
            header = {"authorization": f"Bearer {token}"}
            assert (await served.ask("GET", "/app/transactions", None, headers=header)).status_code == status

    run(world, test)
