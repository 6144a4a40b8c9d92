"""Who signs assertions: a client with a certificate, another issuer; and an issuer that knows them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from joserfc.jwk import RSAKey

from kluis.formats.encoding import b64
from kluis.serve.issuer import TENANT, Certificate, DevelopmentIssuer, Federated, Registered, clients
from kluis.serve.issuer.signing import Signer
from kluis.serve.settings import ROLES
from tests.keys import next_rsa_key
from tests.services.asking import ask
from tests.services.web.issuer import NOW, FixedClock

URL: Final = "https://localhost:8446"
ENDPOINT: Final = f"{URL}/{TENANT}/oauth2/v2.0/token"
RESOURCE: Final = "https://vault.example"
CLUSTER: Final = "https://cluster.example"
SUBJECT: Final = "system:serviceaccount:sums:adder"
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AT: Final = int(NOW.timestamp())


@cache
def key_of(name: str) -> rsa.RSAPrivateKey:
    """The same key for the same name."""
    return next_rsa_key()


class Client:
    """A client that signs with the key of a certificate.

    Args:
        name: of the client.
        key: its key's name; its own otherwise.
        begin: the certificate is valid from then.
        end: until then.
    """

    def __init__(
        self,
        name: str,
        key: str | None = None,
        begin: datetime = NOW - timedelta(days=1),
        end: datetime = NOW + timedelta(days=30),
    ) -> None:
        self.name, self.key = name, key_of(key or name)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .sign(self.key, hashes.SHA256())
        )
        self.pem = made.public_bytes(Encoding.PEM)
        self.x5t, self.x5t_s256 = (
            b64.encode_url(made.fingerprint(one)) for one in (hashes.SHA1(), hashes.SHA256())
        )
        self.x5c = [base64.b64encode(made.public_bytes(Encoding.DER)).decode()]

    @property
    def both(self) -> bytes:
        """Key and certificate in one file, as a client keeps them."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.pem

    def assertion(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """The assertion for a request; a member with value None is left out."""
        said = {
            "aud": ENDPOINT, "iss": self.name, "sub": self.name, "jti": str(uuid.uuid4()), "nbf": AT,
            "exp": AT + 600, **claims,
        }  # fmt: skip
        return sign({"alg": "RS256", "x5t": self.x5t, **(header or {})}, said, self.key)


def cluster_token(key: str = "cluster", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """What another issuer signs, as a cluster does for a service account."""
    said = {
        "iss": CLUSTER, "sub": SUBJECT, "aud": ["api://AzureADTokenExchange"], "iat": AT, "nbf": AT,
        "exp": AT + 3600, **claims,
    }  # fmt: skip
    return sign({"alg": "RS256", "kid": "one", **(header or {})}, said, key_of(key))


def jwk_of(key: rsa.RSAPrivateKey, kid: str = "one") -> dict[str, Any]:
    """The public JWK."""
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {**RSAKey.import_key(pem).as_dict(private=False), "kid": kid, "use": "sig", "alg": "RS256"}


def federated(**changed: Any) -> Federated:
    """The registration of that account."""
    return Federated.of_json(document(**changed), "federated.json")


def document(**changed: Any) -> bytes:
    """The same as a file has it."""
    keys = {"keys": [jwk_of(key_of("cluster"))]}
    said = {"client": "workload", "issuer": CLUSTER, "subject": SUBJECT, "jwks": keys, **changed}
    return json.dumps(said).encode()


def sign(header: dict[str, Any], claims: dict[str, Any], key: Any, *, padded: bool = False) -> str:
    """A compact JWS by an RSA or EC key, or by HMAC under bytes; ``none`` has no signature."""
    encode = (lambda data: base64.urlsafe_b64encode(data).decode()) if padded else b64.encode_url
    parts = [{name: value for name, value in each.items() if value is not None} for each in (header, claims)]
    signed = ".".join(encode(json.dumps(each).encode()) for each in parts)
    return f"{signed}.{encode(_signature(header['alg'], signed.encode(), key))}"


def _signature(algorithm: str, signed: bytes, key: Any) -> bytes:
    digest = hashes.SHA256()
    if algorithm == "HS256":
        made = hmac.HMAC(key, digest)
        made.update(signed)
        return made.finalize()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(signed, ec.ECDSA(digest))
    if algorithm == "PS256":
        return bytes(key.sign(signed, padding.PSS(padding.MGF1(digest), 32), digest))
    return b"" if algorithm == "none" else bytes(key.sign(signed, padding.PKCS1v15(), digest))


def issuer_of(
    folder: Path, *registered: Client | Federated, clock: FixedClock | None = None
) -> DevelopmentIssuer:
    """The issuer as ``kluis serve`` has it, with these certificates and subjects registered."""
    known = Registered(
        certificates=tuple(
            (one.name, Certificate.of_pem(one.pem, "client.pem"))
            for one in registered
            if isinstance(one, Client)
        ),
        federated=tuple(one for one in registered if isinstance(one, Federated)),
    )
    return issuer_in(folder, ROLES, clock, frozenset({"stale"}), known)


def issuer_in(
    folder: Path,
    roles: Mapping[str, tuple[str, ...]],
    clock: FixedClock | None = None,
    stale: frozenset[str] = frozenset(),
    registered: Registered | None = None,
) -> DevelopmentIssuer:
    """As ``DevelopmentIssuer.load_or_create``, with a key that this process makes and checks once."""
    time = clock or FixedClock()
    known = clients.load_or_create(folder / "clients.json", roles, stale)
    return DevelopmentIssuer(Signer(URL, _signing_key(), time), known, registered or Registered(), time)


@cache
def _signing_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "signing"}, private=True)


def form_of(assertion: str, client: str = "workload", **changed: Any) -> dict[str, Any]:
    """What a client posts."""
    return {
        "grant_type": "client_credentials",
        "client_id": client,
        "client_assertion_type": JWT_BEARER,
        "client_assertion": assertion,
        "scope": f"{RESOURCE}/.default",
        **changed,
    }


def post(issuer: DevelopmentIssuer, form: Any, tenant: str = TENANT) -> httpx.Response:
    """Ask for a token."""
    return ask(issuer.application(), "POST", f"/{tenant}/oauth2/v2.0/token", base=URL, data=form)


def told(issuer: DevelopmentIssuer, assertion: str, client: str = "workload", **changed: Any) -> str:
    """What a client reads: OAuth's word and why, or that it has a token."""
    answer = post(issuer, form_of(assertion, client, **changed)).json()
    if "access_token" in answer:
        return "token"
    number = answer.get("error_codes", [""])[0]
    assert answer["error_description"].startswith(f"AADSTS{number}: " if number else "")
    return f"{answer['error']}: {answer['error_description']}"


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a token, not checked."""
    claims: dict[str, Any] = json.loads(b64.decode_url(token.split(".")[1], "token"))
    return claims
