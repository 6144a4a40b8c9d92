"""A whole attestation service in this process, under the roots of forgers, and those who ask it."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from kluis.enclave.store.model import Storage
from kluis.services.attestation.app import service
from kluis.services.attestation.settings import AttestationSettings, Root
from kluis.services.issuers import canonical
from kluis.services.web import Bearer
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.forge import NOW, Forge
from tests.evidence.intel.forge import TdxForge
from tests.services.asking import ask
from tests.services.web.issuer import FixedClock, TokenMaker

URL = "https://localhost:8443"
VERSION = "api-version=2022-08-01"
MAKER = TokenMaker()
INTEL, TDX, AMD = Forge(), TdxForge(), AmdForge(emulated=True)
# Made once: each is signed again.
DOCUMENTS, TDX_DOCUMENTS = INTEL.collateral(), TDX.collateral()
ROLES = ("Attestation Contributor", "Owner")
PERMIT = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"
DENY = "version=1.0; authorizationrules { =>deny(); }; issuancerules { };"


def b64u(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64u(text: str) -> bytes:
    """Bytes of base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def unsigned(policy: str) -> str:
    """A policy as an owner sends it without a signature."""
    body = json.dumps({"AttestationPolicy": b64u(policy.encode())}).encode()
    return f"eyJhbGciOiJub25lIn0.{b64u(body)}."


def claims_of(token: str) -> dict[str, Any]:
    """A token's claims, with any signer."""
    found: dict[str, Any] = json.loads(from_b64u(token.split(".")[1]))
    return found


def header_of(token: str) -> dict[str, Any]:
    """The header of a token."""
    found: dict[str, Any] = json.loads(from_b64u(token.split(".")[0]))
    return found


def settings_of(**changes: Any) -> AttestationSettings:
    """Settings that trust every forger."""
    given: dict[str, Any] = {
        "url": URL,
        "roots": (
            Root(INTEL.authority.root_pem()),
            Root(TDX.authority.root_pem()),
            Root(AMD.ark.public_bytes(Encoding.PEM)),
        ),
        "collateral": (DOCUMENTS.to_json(), TDX_DOCUMENTS.to_json()),
        **changes,
    }
    return AttestationSettings(**given)


class World:
    """The service and its clients.

    Args:
        storage: the service's.
        settings: changes of them.
    """

    def __init__(
        self, storage: Storage, *, vouch: Any = None, ask: Any = None, clock: Any = None, **settings: Any
    ) -> None:
        self.clock = clock or FixedClock(NOW)
        self.storage = storage
        self.settings = settings_of(**settings)
        self.issuer = canonical(MAKER.issuer(), changing=self.settings.insecure_changing_issuer)
        self.app = service(
            self.settings,
            storage,
            self.clock,
            Bearer(MAKER.issuer()),
            vouch=vouch or (lambda _: None),
            ask=ask,
        )

    def ask(self, method: str, path: str, **rest: Any) -> httpx.Response:
        """One request, of nobody in particular."""
        return ask(self.app, method, path, base=URL, **rest)

    def owner(self, method: str, path: str, *roles: str, **rest: Any) -> httpx.Response:
        """One request of a caller with roles; by default all of them."""
        headers = MAKER.header(*(roles or ROLES), now=self.clock.at) | rest.pop("headers", {})
        return self.ask(method, path, headers=headers, **rest)

    def attest(self, kind: str, body: dict[str, Any], base: str = "", **rest: Any) -> httpx.Response:
        """One request to attest."""
        return self.ask("POST", f"{base}/attest/{kind}?{VERSION}", json=body, **rest)

    def token(self, answer: httpx.Response, base: str = "") -> dict[str, Any]:
        """The claims of an answer's token, which the service's published key must have signed."""
        assert answer.status_code == 200, answer.text
        return self.verified(answer.json()["token"], base)

    def verified(self, token: str, base: str = "") -> dict[str, Any]:
        """The claims of a token that holds."""
        keys = {key["kid"]: key for key in self.ask("GET", f"{base}/certs").json()["keys"]}
        header = header_of(token)
        certificate = load_der_x509_certificate(base64.b64decode(keys[header["kid"]]["x5c"][0]))
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        signed, _, signature = token.rpartition(".")
        key.verify(from_b64u(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = claims_of(token)
        assert header["alg"] == "RS256"
        assert header["jku"] == claims["iss"] + "/certs"
        return claims

    def set_policy(self, kind: str, text: str, base: str = "") -> httpx.Response:
        """Set a policy, as its owner."""
        return self.owner("PUT", f"{base}/policies/{kind}?{VERSION}", content=unsigned(text))


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]
