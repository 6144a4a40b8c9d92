"""What a scenario is, and the world that it runs in: addresses, credentials, clients, and a forger to ask.

This and the modules of scenarios run in the environment of Azure's clients; nothing here knows Kluis.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any

import jwt
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.keyvault.keys import KeyClient, KeyReleasePolicy
from azure.mgmt.attestation import AttestationManagementClient
from azure.security.attestation import AttestationAdministrationClient, AttestationClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

MANAGEMENT = "https://management.azure.com/.default"
ATTEST = "https://attest.azure.net/.default"
PERMIT = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"
VERSION = "2022-08-01"


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        name: of its function.
        number: of the wire specification's list of scenarios; None for an additional one.
        call: what a client does, in a line.
        run: does it; raises where the outcome is another than it must be.
    """

    name: str
    number: int | None
    call: str
    run: Callable[[World], None]


SCENARIOS: list[Scenario] = []


def scenario(call: str, number: int | None = None) -> Callable[[Callable[[World], None]], Any]:
    """Declare a scenario: tests/clients/azure/listing.py reads these lines without running them."""

    def declare(run: Callable[[World], None]) -> Callable[[World], None]:
        SCENARIOS.append(Scenario(run.__name__, number, call, run))
        return run

    return declare


class World:
    """The running services, and their clients.

    Args:
        ``told``: addresses and secrets, as given by the other side.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.attestation: str = told["attestation"]
        self.vault: str = told["keyvault"]
        self.ca: str = told["ca"]
        self.fakes: dict[str, str] = told["fakes"]
        self.authorization: str = told["authorization"]
        self.secrets: dict[str, str] = told["secrets"]
        self.proofs: dict[str, Any] = told["proofs"]
        self.signing_key: str = told["fakes_key"]
        self.log: str = told["log"]
        self._credentials: dict[str, ClientSecretCredential] = {}

    def credential(
        self, name: str = "admin", cls: Any = ClientSecretCredential, secret: str | None = None
    ) -> Any:
        """One of the development issuer's clients, by azure-identity."""
        authority, _, tenant = self.authorization.rpartition("/")
        return cls(
            tenant,
            name,
            secret or self.secrets[name],
            authority=authority,
            disable_instance_discovery=True,
            connection_verify=self.ca,
        )

    def known(self, name: str) -> ClientSecretCredential:
        """The same, one for all scenarios, which remembers its tokens."""
        if name not in self._credentials:
            self._credentials[name] = self.credential(name)
        return self._credentials[name]

    def static(self, name: str = "admin", scope: str | None = None) -> Static:
        """A credential with one token of a client for every request; without a scope it is invalid."""
        return Static() if scope is None else Static(self.known(name).get_token(scope).token)

    def bearer(self, name: str = "admin", scope: str = ATTEST) -> dict[str, str]:
        """A header of one of the issuer's clients."""
        return {"Authorization": f"Bearer {self.known(name).get_token(scope).token}"}

    @property
    def usual(self) -> dict[str, Any]:
        """What every client is given: the authority of its TLS, and no patience."""
        return {"connection_verify": self.ca, "retry_total": 0}

    def attester(self, url: str | None = None, name: str = "workload", **more: Any) -> AttestationClient:
        """``AttestationClient`` that also checks the issuer."""
        url, credential = url or self.attestation, more.pop("credential", None) or self.known(name)
        given = {"validate_issuer": True, "issuer": url, **self.usual, **more}
        return AttestationClient(url, credential, **given)

    def owner(
        self, url: str | None = None, name: str = "admin", **more: Any
    ) -> AttestationAdministrationClient:
        """``AttestationAdministrationClient`` that also checks the issuer."""
        url, credential = url or self.attestation, more.pop("credential", None) or self.known(name)
        given = {"validate_issuer": True, "issuer": url, **self.usual, **more}
        return AttestationAdministrationClient(url, credential, **given)

    def manager(self, name: str = "admin") -> AttestationManagementClient:
        """``AttestationManagementClient``."""
        return AttestationManagementClient(
            self.known(name),
            "subscription",
            base_url=self.attestation,
            credential_scopes=[MANAGEMENT],
            **self.usual,
        )

    def keys(self, name: str = "admin", **more: Any) -> KeyClient:
        """``KeyClient`` with its check of the challenge on."""
        url, credential = more.pop("url", self.vault), more.pop("credential", None) or self.known(name)
        return KeyClient(url, credential, **{**self.usual, **more})

    @contextlib.contextmanager
    def instance(self, **properties: Any) -> Iterator[str]:
        """The address of a separate instance, made and deleted by the management client."""
        providers, name = self.manager().attestation_providers, fresh("i")
        given = {"location": "local", "properties": properties}
        yield providers.create("group", name, given).properties.attest_uri
        providers.delete("group", name)

    def post(self, path: str, body: Any, url: str | None = None, **more: Any) -> requests.Response:
        """POST to the attestation service what no client has a method for."""
        return requests.post(
            f"{url or self.attestation}{path}", json=body, verify=self.ca, timeout=300, **more
        )

    def claims(self, token: str, url: str | None = None) -> dict[str, Any]:
        """The claims of a token, checked by PyJWT under the keys that the service publishes."""
        return verified(token, self._jwks(url or self.attestation), url or self.attestation)

    def _jwks(self, url: str) -> dict[str, Any]:
        return requests.get(f"{url}/certs", verify=self.ca, timeout=300).json()

    def forged(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Ask the other side for evidence; bytes go and come as hex.

        Args:
            kind: ``sgx``, ``tdx``, ``snp``, or another that the forger knows.
            wanted: what it is to say.
        """
        given = {
            name: f"hex:{value.hex()}" if isinstance(value, bytes) else value
            for name, value in wanted.items()
        }
        print(json.dumps({"forge": kind, **given}), flush=True)
        made: dict[str, Any] = json.loads(sys.stdin.readline())
        return {
            name: bytes.fromhex(text[4:]) if str(text).startswith("hex:") else text
            for name, text in made.items()
        }

    def quote(self, data: bytes = b"", **wanted: Any) -> bytes:
        """An SGX quote whose report data are the hash of ``data``."""
        made: bytes = self.forged("sgx", report_data=bound(data), **wanted)["quote"]
        return made

    def snp(self, data: bytes, **wanted: Any) -> dict[str, Any]:
        """A body for ``/attest/SevSnpVm`` about a guest that is bound to JSON."""
        made = self.forged("snp", report_data=bound(data), **wanted)
        bundle = {"SnpReport": b64u(made["report"]), "VcekCertChain": b64u(made["chain"])}
        return {
            "report": b64u(json.dumps(bundle).encode()),
            "runtimeData": {"data": b64u(data), "dataType": "JSON"},
        }

    def snp_token(self, data: bytes, url: str | None = None, **wanted: Any) -> str:
        """The token of such a guest."""
        answer = self.post(f"/attest/SevSnpVm?api-version={VERSION}", self.snp(data, **wanted), url)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token


class Static:
    """A credential as anybody may write one: a token, for every request."""

    def __init__(self, token: str = "none") -> None:
        self.token = token
        self.asked: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """The token."""
        self.asked.append((scopes, options))
        return AccessToken(self.token, int(time.time()) + 3600)


class Signer:
    """A signer of policies: a key and a certificate, PEM and DER."""

    def __init__(self, name: str, *, key: Any = None) -> None:
        self.key = key or rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.der = made.public_bytes(Encoding.DER)
        self.certificate = made.public_bytes(Encoding.PEM).decode()
        self.private = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def signing(self) -> dict[str, str]:
        """As the clients' methods take it."""
        return {"signing_key": self.private, "signing_certificate": self.certificate}

    @property
    def jwk(self) -> dict[str, Any]:
        """As the management client takes it."""
        return {"kty": "RSA", "x5c": [base64.b64encode(self.der).decode()]}

    @cached_property
    def x5t(self) -> str:
        """SHA-1 in capital hex."""
        return hashlib.sha1(self.der).hexdigest().upper()


@cache
def signer(name: str) -> Signer:
    """A signer of this name, made once: keys are dear."""
    return Signer(name)


@cache
def recipient() -> rsa.RSAPrivateKey:
    """The key of an environment that keys are released to."""
    return rsa.generate_private_key(65537, 2048)


def runtime(key: rsa.RSAPrivateKey | None = None, **more: Any) -> bytes:
    """Runtime data with the environment's public key, JSON."""
    numbers = (key or recipient()).public_key().public_numbers()
    jwk = {"kid": "ephemeral", "kty": "RSA", "key_ops": ["encrypt"], "e": "AQAB"}
    jwk["n"] = b64u(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
    return json.dumps({"keys": [jwk], **more}).encode()


def release_policy(authority: str, immutable: bool = False, **claims: Any) -> KeyReleasePolicy:
    """A policy that wants these claims of one authority; ``_`` in names stands for ``-``."""
    wanted = [{"claim": name.replace("_", "-"), "equals": value} for name, value in claims.items()]
    document = {"version": "1.0.0", "anyOf": [{"authority": authority, "allOf": wanted}]}
    return KeyReleasePolicy(json.dumps(document).encode(), immutable=immutable)


def verified(token: str, jwks: dict[str, Any], issuer: str) -> dict[str, Any]:
    """The claims of a token, checked by PyJWT: signature, times, issuer; and the header against the keys."""
    header = jwt.get_unverified_header(token)
    assert (header["typ"], header["alg"], header["jku"]) == ("JWT", "RS256", f"{issuer}/certs")
    (named,) = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
    certificate = x509.load_der_x509_certificate(base64.b64decode(named["x5c"][0]))
    claims = jwt.decode(
        token, certificate.public_key(), ["RS256"], {"require": ["exp", "nbf", "iat"]}, issuer=issuer
    )
    assert claims == jwt.decode(token, jwt.PyJWK(named).key, ["RS256"], issuer=issuer)
    return dict(claims)


def bound(data: bytes) -> bytes:
    """Report data that are bound to ``data``."""
    return hashlib.sha256(data).digest() + bytes(32)


def b64u(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64u(text: str) -> bytes:
    """Bytes of base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, not checked."""
    header, claims = (json.loads(from_b64u(part)) for part in token.split(".")[:2])
    return header, claims


def fresh(prefix: str) -> str:
    """A name that nobody has."""
    return f"{prefix}{secrets.token_hex(5)}"


@contextlib.contextmanager
def refused(
    status: int, code: str, message: str = "", kind: type[BaseException] = HttpResponseError
) -> Iterator[None]:
    """Want a client to raise what this status and code stand for.

    Args:
        status: HTTP's.
        code: ``error.code``.
        message: that ``error.message`` has in it.
        kind: of exception.
    """
    try:
        yield
    except HttpResponseError as error:
        assert isinstance(error, kind), f"want {kind.__name__}, got {type(error).__name__}: {error}"
        said = error.error or error.model.error
        assert (error.status_code, said.code) == (status, code), f"want {status} {code}, got {error}"
        assert message in said.message, f"want {message!r} in {said.message!r}"
        return
    raise AssertionError(f"want {status} {code}, got an answer")


@contextlib.contextmanager
def raises(kind: type[BaseException], message: str = "") -> Iterator[None]:
    """Want an exception of this class with this message in it."""
    try:
        yield
    except kind as error:
        assert message in str(error), f"want {message!r} in {error}"
        return
    raise AssertionError(f"want {kind.__name__}, got none")
