"""The services of `kluis serve all --json`: through Azure's clients, or plain HTTP without them."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from kluis.enclave import Evidence
from kluis.errors import KluisError

try:
    from azure.core.exceptions import HttpResponseError, ServiceRequestError
    from azure.identity import ClientSecretCredential
    from azure.keyvault.keys import JsonWebKey, KeyClient, KeyReleasePolicy
    from azure.security.attestation import AttestationClient
except ImportError:
    AZURE = False
    UNREACHABLE: tuple[type[Exception], ...] = (httpx.ConnectError,)
else:
    AZURE = True
    UNREACHABLE = (httpx.ConnectError, ServiceRequestError)

# The owner's machine and the host's are one here, and so are their credentials' places.
TOLD = Path("services.json")

START = "start the services first: kluis serve all, with the options in README.md"


class Refused(Exception):
    """A service said no; the message has its words, and each detail that it gives."""


class Services:
    """Attestation and keys, for one client of the development issuer."""

    def __init__(self, client: str, told: Path = TOLD) -> None:
        if not told.exists():
            sys.exit(f"{told} is missing: {START}")
        said = json.loads(told.read_text())
        self.attestation: str = said["addresses"]["attestation"]
        self.vault: str = said["addresses"]["keyvault"]
        self.ca: str = said["ca"]
        self.issuer, _, self.tenant = said["authorization"].rpartition("/")
        clients = json.loads(Path(said["clients"]).read_text())
        self.client = client
        self.pid: int = said["pid"]
        self.secret = next(each["secret"] for each in clients if each["id"] == client)

    def attest(self, made: Evidence) -> str:
        """Have an enclave's evidence attested: a token."""
        if not AZURE:
            data = {"data": _text(made.runtime_data), "dataType": "JSON"}
            asked = {"quote": _text(made.quote), "runtimeData": data}
            url = f"{self.attestation}/attest/SgxEnclave?api-version=2022-08-01"
            return str(self._post(url, asked, "https://attest.azure.net")["token"])
        client = AttestationClient(self.attestation, self._credential(), connection_verify=self.ca)
        try:
            _, token = client.attest_sgx_enclave(made.quote, runtime_json=made.runtime_data)
        except HttpResponseError as error:
            raise Refused(said(error.response.text())) from None
        return str(token.to_jwt_string())

    def release(self, name: str, token: str) -> str:
        """Have a key released to the enclave that a token is about."""
        if not AZURE:
            url = f"{self.vault}/keys/{name}/release?api-version=7.4"
            return str(self._post(url, {"target": token}, "https://vault.azure.net")["value"])
        try:
            return str(self._keys().release_key(name, token).value)
        except HttpResponseError as error:
            raise Refused(said(error.response.text())) from None

    def keep(self, name: str, material: bytes, policy: dict[str, Any]) -> None:
        """Import a key into the vault, which releases it only under ``policy``."""
        if not AZURE:
            asked = {
                "key": {"kty": "oct-HSM", "k": _text(material), "key_ops": ["encrypt", "decrypt"]},
                "attributes": {"exportable": True},
                "release_policy": {"data": _text(json.dumps(policy).encode())},
            }
            self._post(f"{self.vault}/keys/{name}?api-version=7.4", asked, "https://vault.azure.net", "PUT")
            return
        self._keys().import_key(
            name,
            JsonWebKey(kty="oct-HSM", k=material, key_ops=["encrypt", "decrypt"]),
            hardware_protected=True,
            exportable=True,
            release_policy=KeyReleasePolicy(json.dumps(policy).encode()),
        )

    def restart(self) -> None:
        """Have every service's enclave restarted; no client is refused meanwhile."""
        os.kill(self.pid, signal.SIGHUP)

    def _keys(self) -> Any:
        return KeyClient(self.vault, self._credential(), connection_verify=self.ca)

    def _credential(self) -> Any:
        return ClientSecretCredential(
            self.tenant,
            self.client,
            self.secret,
            authority=self.issuer,
            disable_instance_discovery=True,
            connection_verify=self.ca,
        )

    def _post(self, url: str, asked: Any, scope: str, method: str = "POST") -> dict[str, Any]:
        with httpx.Client(verify=ssl.create_default_context(cafile=self.ca), timeout=60) as http:
            form = {
                "grant_type": "client_credentials",
                "client_id": self.client,
                "client_secret": self.secret,
                "scope": f"{scope}/.default",
            }
            granted = http.post(
                f"{self.issuer}/{self.tenant}/oauth2/v2.0/token", data=form
            ).raise_for_status()
            bearer = {"Authorization": f"Bearer {granted.json()['access_token']}"}
            answer = http.request(method, url, json=asked, headers=bearer)
        if answer.status_code != 200:
            raise Refused(said(answer.text))
        return dict(answer.json())


def run(main: Callable[[str], None]) -> None:
    """Run a program of this example with its argument; an error is one line that states what to do."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} archive.kluis")
    if not Path(sys.argv[1]).exists():
        sys.exit(f"{sys.argv[1]} is missing: build it first, with kluis build")
    try:
        main(sys.argv[1])
    except UNREACHABLE:
        sys.exit(f"no service answers: {START}")
    except (Refused, KluisError) as error:
        sys.exit("\n".join([why(error), *getattr(error, "__notes__", [])]))


def said(text: str) -> str:
    """The text of an error response, with its details."""
    error = json.loads(text)["error"]
    details = [f"{each.get('target', 'hint')}: {each['message']}" for each in error.get("details", [])]
    return "\n".join([error["message"], *details])


def why(error: KluisError | Refused) -> str:
    """An error's own words."""
    return error.message if isinstance(error, KluisError) else str(error)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
