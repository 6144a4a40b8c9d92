"""The services of ``kluis demo --vm``, and the release of a key by the vault on a token about a machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from kluis.cli.service import vault as vaults
from kluis.enclave.vaults import ExpectedVault
from kluis.errors import PolicyError
from kluis.formats.encoding import b64
from kluis.host.machines import guest_request
from kluis.host.proxy import EnclaveProxy
from kluis.host.vaults import vault_evidence
from kluis.serve.images import image_of
from kluis.tee.image.build import cache
from kluis.tee.platform.client import Platform
from kluis.testing import services
from kluis.testing.services import Services, ServicesOptions

KEY: Final = "machine"
SECONDS: Final = 120.0
_ATTEST, _VAULT = "https://attest.azure.net/.default", "https://vault.azure.net/.default"
_PERMIT: Final = "version=1.0; authorizationrules{=> permit();}; issuancerules{};"
_MECHANISM: Final = "RSA_AES_KEY_WRAP_256"


class Releasing:
    """An attestation service and a vault, each in an enclave of this computer, and their owner.

    Attributes:
        expected: the vault, as an image expects it.
    """

    def __init__(self, running: Services, missing: frozenset[str]) -> None:
        self._running = running
        self._attestation, self._vault = running.urls["attestation"], running.urls["keyvault"]
        self._key = secrets.token_bytes(32)
        self._http = httpx.Client(verify=ssl.create_default_context(cafile=str(running.ca)), timeout=SECONDS)
        self.expected = vaults.identify(
            self._vault,
            ExpectedVault(
                vault=vaults.UNNAMED,
                roots=(Platform.connect().root_pem().decode(),),
                images=(_vault_image().hex(),),
                levels=tuple(str(each) for each in vaults.LEVELS),
                missing=tuple(sorted(missing)),
            ),
            Platform.connect().collateral(),
        )

    def keep(self, wanted: Mapping[str, str]) -> None:
        """Import the key, which is released only on a token with these claims."""
        conditions = [{"claim": name, "equals": value} for name, value in wanted.items()]
        policy = {"version": "1.0.0", "anyOf": [{"authority": self._attestation, "allOf": conditions}]}
        self._ask(
            "PUT",
            f"{self._vault}/keys/{KEY}?api-version=7.4",
            "admin",
            _VAULT,
            json={
                "key": {"kty": "oct-HSM", "k": b64.encode_url(self._key), "key_ops": ["encrypt", "decrypt"]},
                "attributes": {"exportable": True},
                "release_policy": {"data": b64.encode_url(json.dumps(policy).encode())},
            },
        )

    def permit(self) -> None:
        """Set a policy for guests that permits those without secure boot: the vault's policy judges them."""
        stated = b64.encode_url(json.dumps({"AttestationPolicy": b64.encode_url(_PERMIT.encode())}).encode())
        header = b64.encode_url(json.dumps({"alg": "none"}).encode())
        url = f"{self._attestation}/policies/AzureGuest?api-version=2022-08-01"
        self._ask("PUT", url, "admin", _ATTEST, content=f"{header}.{stated}.")

    def token(self, enclave: EnclaveProxy) -> str:
        """A token about the machine of an enclave, which only that enclave opens."""
        url = f"{self._attestation}/attest/AzureGuest?api-version=2022-08-01"
        answer = self._ask("POST", url, "workload", _ATTEST, json=guest_request(enclave.offer()))
        return str(enclave.token(answer["token"]))

    def release(self, token: str) -> str:
        """Have the key released on a token.

        Raises:
            PolicyError: the vault refuses; with each claim that differs.
        """
        url = f"{self._vault}/keys/{KEY}/release?api-version=7.4"
        body = {"target": token, "enc": _MECHANISM}
        return str(self._ask("POST", url, "workload", _VAULT, json=body)["value"])

    def opens(self, enclave: EnclaveProxy, release: str) -> bool:
        """Whether an enclave opens the release, and finds the owner's key."""
        brought = vault_evidence(self._vault, ca=self._running.ca, collateral=Platform.connect().collateral())
        return bool(enclave.fingerprint(release, brought) == hashlib.sha256(self._key).hexdigest())

    def _ask(self, method: str, url: str, client: str, scope: str, **body: Any) -> Any:
        answer = self._http.request(method, url, headers=self._bearer(client, scope), **body)
        said = answer.json()
        if not answer.is_success:
            error = said["error"]
            details = [
                f"{each.get('target', 'hint')}: {each['message']}" for each in error.get("details", [])
            ]
            raise PolicyError("; ".join([error["message"], *details]))
        return said

    def _bearer(self, client: str, scope: str) -> dict[str, str]:
        path = self._running.folder / "services" / "issuer" / "clients.json"
        secret = next(each["secret"] for each in json.loads(path.read_text()) if each["id"] == client)
        env = self._running.env
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": secret,
            "scope": scope,
        }
        url = f"{env['AZURE_AUTHORITY_HOST']}/{env['AZURE_TENANT_ID']}/oauth2/v2.0/token"
        granted = self._http.post(url, data=form).raise_for_status().json()
        return {"Authorization": f"Bearer {granted['access_token']}"}

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


def _vault_image() -> bytes:
    """The image id of the vault, whose image was built for its start."""
    return image_of(
        "keyvault", cache.of_user().path / services.IMAGES, "measurement", lambda line: None
    ).image_id


@contextlib.contextmanager
def running(folder: Path, root: bytes, missing: frozenset[str]) -> Iterator[Releasing]:
    """Run both services while the ``with`` lasts.

    Args:
        folder: does not exist yet.
        root: of the machines that the attestation service trusts, PEM.
        missing: protections that this computer may do without.
    """
    options = ServicesOptions(
        services=("attestation", "keyvault"),
        insecure_allow_missing=missing,
        given={"attestation": {"roots": [{"pem": b64.encode(root), "level": None}]}},
    )
    with services.running(folder, options) as fleet, contextlib.closing(Releasing(fleet, missing)) as made:
        made.permit()
        yield made
