"""A vault of the test's own: its authorities, environments and callers, all with throwaway keys."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kluis.formats.encoding import b64
from kluis.services.keyvault.app import service
from kluis.services.keyvault.settings import Settings
from kluis.services.keyvault.vault.authorities import Authority, InsecureFetched, Pinned
from kluis.services.web import Service
from tests.keys import rsa_key
from tests.services.keyvault.memory import MemoryStorage
from tests.services.web.issuer import NOW, FixedClock, TokenMaker

VAULT = "https://myvault.vault.example:8443"
AUTHORIZATION = "https://login.example/tenant"
RESOURCE = "https://vault.example:8443"
AUTHORITY = "https://attest.example"
API = "7.4"
OFFICER, RELEASER = "Key Vault Crypto Officer", "Key Vault Crypto Service Release User"
ENVIRONMENT = rsa_key(0)
AUTHORITY_KEY = rsa_key(1)
OTHER_KEY = rsa_key(2)
HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512(),
}  # fmt: skip


def certificate(key: Any = AUTHORITY_KEY) -> bytes:
    """A self-signed certificate, DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY)])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = (
        made.serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    return made.sign(
        key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    ).public_bytes(Encoding.DER)


CERTIFICATE = certificate()


def public_jwk(key: rsa.RSAPrivateKey, **members: Any) -> dict[str, Any]:
    """The public JWK of an RSA key."""
    numbers = key.public_key().public_numbers()
    n, e = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.n, numbers.e))
    return {"kty": "RSA", "n": b64.encode_url(n), "e": b64.encode_url(e), **members}


def jwks(**members: Any) -> dict[str, Any]:
    """The authority's JWKS, as Azure Attestation writes it; a member with value None is left out."""
    made = {"kid": "one", "kty": "RSA", "x5c": [b64.encode(CERTIFICATE)], **members}
    return {"keys": [{name: value for name, value in made.items() if value is not None}]}


def claims(**more: Any) -> dict[str, Any]:
    """An authority's claims about the environment; a claim with value None is left out."""
    at = int(NOW.timestamp())
    said = {
        "iss": AUTHORITY, "iat": at, "nbf": at, "exp": at + 28800, "x-ms-attestation-type": "sevsnpvm",
        "x-ms-sevsnpvm-is-debuggable": False, "x-ms-sevsnpvm-hostdata": "ab" * 32,
        "x-ms-runtime": {"keys": [public_jwk(ENVIRONMENT, kid="TransferKey", key_ops=["encrypt"])]}, **more,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def sign(payload: Any, header: Mapping[str, Any] | None = None, key: Any = AUTHORITY_KEY) -> str:
    """A JWS, even with a wrong header; a member with value None is left out."""
    made = {"alg": "RS256", "kid": "one", "typ": "JWT", **(header or {})}
    made = {name: value for name, value in made.items() if value is not None}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = f"{b64.encode_url(json.dumps(made).encode())}.{b64.encode_url(body)}"
    return f"{signed}.{b64.encode_url(_signature(signed.encode(), str(made.get('alg')), key))}"


def _signature(signed: bytes, algorithm: str, key: Any) -> bytes:
    digest = HASHES.get(algorithm[2:], hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
        size = (key.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if algorithm.startswith("PS"):
        return bytes(key.sign(signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest))
    return bytes(key.sign(signed, padding.PKCS1v15(), digest))


def policy(*conditions: dict[str, Any], authority: str = AUTHORITY) -> bytes:
    """A release policy that wants all of these."""
    listed = list(conditions) or [{"claim": "x-ms-sevsnpvm-is-debuggable", "equals": "false"}]
    return json.dumps({"version": "1.0.0", "anyOf": [{"authority": authority, "allOf": listed}]}).encode()


class Host:
    """The host between the vault and its authorities: returns the test's bytes for each URL."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {
            f"{AUTHORITY}/.well-known/openid-configuration": json.dumps({
                "issuer": AUTHORITY, "jwks_uri": f"{AUTHORITY}/certs",
            }).encode(),
            f"{AUTHORITY}/certs": json.dumps(jwks()).encode(),
        }  # fmt: skip
        self.fetched: list[str] = []

    def fetch(self, url: str) -> bytes:
        """Give a document."""
        self.fetched.append(url)
        return self.documents.get(url, b"not found")


class World:
    """A vault and all around it.

    Args:
        authorities: pinned; by default one that is fetched.
        settings: other than the usual.
    """

    def __init__(
        self, authorities: tuple[Authority, ...] = (InsecureFetched(AUTHORITY),), **settings: Any
    ) -> None:
        self.storage = settings.pop("storage", None) or MemoryStorage()
        self.clock = settings.pop("clock", None) or FixedClock()
        self.maker = settings.pop("maker", None) or TokenMaker(audience=RESOURCE)
        self.host = settings.pop("host", None) or Host()
        self.endorse = settings.pop("endorse", lambda quote: None)
        self.certify = settings.pop("certify", None)
        self.vouch = settings.pop("vouch", lambda payload: None)
        settings.setdefault("names", ("*.vault.example",))
        self.settings = Settings(
            issuer=self.maker.issuer(), authorization=AUTHORIZATION, resource=RESOURCE,
            authorities=authorities, **settings,
        )  # fmt: skip
        self.service: Service = service(
            self.settings, self.storage, self.clock,
            fetch=self.host.fetch, endorse=self.endorse, certify=self.certify, vouch=self.vouch,
        )  # fmt: skip

    def send(
        self, method: str, path: str, body: Any = None, *, roles: tuple[str, ...] = (OFFICER,),
        headers: Mapping[str, str] | None = None, api: str | None = API, **params: str,
    ) -> httpx.Response:  # fmt: skip
        """Send one request; without roles it is anonymous."""
        sent = dict(headers or {})
        if roles:
            sent.update(self.maker.header(*roles, now=self.clock.at))
        query = {**({"api-version": api} if api else {}), **params}
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()

        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.service)
            async with httpx.AsyncClient(transport=transport, base_url=VAULT, timeout=120) as client:
                return await client.request(method, path, params=query, content=content, headers=sent)

        return asyncio.run(one())

    def ok(self, method: str, path: str, body: Any = None, **rest: Any) -> Any:
        """Send one request that must succeed; its answer."""
        answer = self.send(method, path, body, **rest)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.content else None

    def refused(
        self, method: str, path: str, body: Any = None, **rest: Any
    ) -> tuple[int, str, str, str | None]:
        """Send one request that must be refused: status, code, message, inner code."""
        answer = self.send(method, path, body, **rest)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"], error.get("innererror", {}).get("code")

    def exportable(
        self, name: str = "k", rule: bytes | None = None, *, kty: str = "EC-HSM", **more: Any
    ) -> Any:
        """Make an exportable key; one on a curve takes no time."""
        asked = {
            "kty": kty,
            "attributes": {"exportable": True},
            "release_policy": {"data": b64.encode_url(policy() if rule is None else rule), **more},
        }
        return self.ok("POST", f"/keys/{name}/create", asked)

    def release(self, token: str, name: str = "k", **more: Any) -> httpx.Response:
        """Ask for a release."""
        return self.send("POST", f"/keys/{name}/release", {"target": token, **more}, roles=(RELEASER,))


PINNED = Pinned(AUTHORITY, json.dumps(jwks()))


def said(value: str) -> Any:
    """The payload of a JWS."""
    return json.loads(b64.decode_url(value.split(".")[1], "payload"))


def opened(value: str, algorithm: str = "CKM_RSA_AES_KEY_WRAP", key: Any = ENVIRONMENT) -> bytes:
    """What an environment does with a release: its ciphertext, unwrapped."""
    sealed = json.loads(b64.decode_url(said(value)["response"]["key"]["key"]["key_hsm"], "key_hsm"))
    data, size = b64.decode_url(sealed["ciphertext"], "ciphertext"), key.key_size // 8
    digest: hashes.HashAlgorithm = {
        "CKM_RSA_AES_KEY_WRAP": hashes.SHA1(), "RSA_AES_KEY_WRAP_256": hashes.SHA256(),
        "RSA_AES_KEY_WRAP_384": hashes.SHA384(),
    }[algorithm]  # fmt: skip
    kek = key.decrypt(data[:size], padding.OAEP(padding.MGF1(digest), digest, None))
    return keywrap.aes_key_unwrap_with_padding(kek, data[size:])


def thumbprint(der: bytes) -> str:
    """As Azure names a certificate's key."""
    return hashlib.sha1(der).hexdigest().upper()
