"""Settings passed to services: addresses, issuer, and the authorities of a vault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kluis.serve.images import ServiceImage
from kluis.serve.settings import ROLES, Deployment, settings_of
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.attestation.tokens.settings_digest import digest
from kluis.services.issuers import canonical
from kluis.services.keyvault.settings import Settings
from kluis.services.web import Issuer

ADDRESSES = {
    "attestation": "https://localhost:8443",
    "keyvault": "https://127.0.0.1:8444",
    "provisioning": "https://localhost:8445",
}
IMAGE = ServiceImage(Path("attestation.kluis"), bytes([1]) * 32, bytes([2]) * 32)


def told(service: str, **changed: Any) -> Any:
    """The document."""
    deployment = {
        "addresses": ADDRESSES,
        "issuer": Issuer("https://localhost:8446/t/v2.0", (), "{}"),
        "authorization": "https://localhost:8446/t",
        "images": {"attestation": IMAGE},
        "platform_root": b"ROOT",
        "level": "process",
        "store_key": "measurement",
        "given": {},
    }
    return json.loads(settings_of(service, Deployment(**{**deployment, **changed})))


def test_a_vault_is_challenged_for_by_the_parent_of_its_host() -> None:
    """Azure's clients want the vault's host to end in the challenge's resource; in Python port and all."""
    document = told("keyvault")
    assert document["resource"] == "api://0.0.1:8444"
    assert document["resource"] in document["issuer"]["audiences"]
    assert (
        ADDRESSES["keyvault"]
        .removeprefix("https://")
        .endswith("." + document["resource"].removeprefix("api://"))
    )
    json.dumps(document)


def test_a_vault_with_a_name_is_challenged_for_by_https() -> None:
    """``https`` before a number prevents reading it as another number."""
    document = told("keyvault", addresses={**ADDRESSES, "keyvault": "https://mine.vault.example:8444"})
    assert document["resource"] == "https://vault.example:8444"
    audiences = told("attestation")["issuer"]["audiences"]
    assert audiences[-1] == ADDRESSES["attestation"]
    # What Azure's command line, and its clients for other languages, call the resource manager.
    assert {"https://management.azure.com", "https://management.core.windows.net"} < set(audiences)


def test_a_vault_believes_the_attestation_service_beside_it_by_its_image() -> None:
    """The authority is attested: this image, under this machine's root, at this level."""
    assert told("keyvault")["authorities"] == [
        {
            "type": "attested",
            "url": "https://localhost:8443",
            "roots": ["ROOT"],
            "identity": {"type": "images", "images": ["01" * 32]},
            "levels": ["process"],
            "missing": [],
            "settings": [
                digest(
                    AttestationSettings(url="https://localhost:8443"),
                    canonical(Issuer(**told("attestation")["issuer"]), changing=False),
                ).hex()
            ],
        }
    ]


def test_an_attestation_service_whose_issuer_may_change_is_another_authority() -> None:
    """The vault expects the digest of such a service."""
    given = {"attestation": {"insecure_changing_issuer": True}}
    (authority,) = told("keyvault", given=given)["authorities"]
    settings = AttestationSettings(url="https://localhost:8443", insecure_changing_issuer=True)
    assert authority["settings"] == [digest(settings, canonical(None, changing=True)).hex()]


def test_a_lack_of_this_machine_is_a_lack_of_its_authority() -> None:
    """A vault accepts from its attestation service exactly the missing protections that the operator
    allowed.
    """
    (authority,) = told("keyvault", missing=frozenset({"memfd_secret", "landlock"}))["authorities"]
    assert authority["missing"] == ["landlock", "memfd_secret"]


def test_a_vault_believes_it_under_these_settings_alone() -> None:
    """Other roots for the attestation service are another authority."""
    given = {"attestation": {"shipped_roots": True, "insecure_accept_unprotected": True}}
    (one,), (other,) = told("keyvault")["authorities"], told("keyvault", given=given)["authorities"]
    assert one["settings"] != other["settings"]


def test_where_stores_are_the_signers_the_authority_is_too() -> None:
    """A service that outlives its image is believed by its signer and product."""
    (authority,) = told("keyvault", store_key="signer")["authorities"]
    assert authority["identity"] == {"type": "signer", "signer": "02" * 32, "product": 101, "svn": 1}


def test_without_an_attestation_service_beside_it_a_vault_believes_nobody() -> None:
    """No authority is made up."""
    assert told("keyvault", images={})["authorities"] == []


def test_what_the_operator_gives_goes_over_what_is_made() -> None:
    """Given authorities replace the default one."""
    given = {"keyvault": {"authorities": [], "explain": False}, "attestation": {"roots": []}}
    document = told("keyvault", given=given)
    assert (document["authorities"], document["explain"]) == ([], False)
    assert told("attestation", given=given)["attestation"] == {"url": "https://localhost:8443", "roots": []}


def test_services_read_what_they_are_told() -> None:
    """The vault's own type takes the document."""
    import msgspec

    assert msgspec.convert(told("keyvault"), Settings).authorities[0].url == "https://localhost:8443"


def test_a_workload_may_release_and_no_more() -> None:
    """The development client for workloads has no role that makes or reads a key."""
    assert set(ROLES["workload"]) == {"Attestation Reader", "Key Vault Crypto Service Release User"}


def test_a_vault_of_many_names_is_asked_for_by_each() -> None:
    """For every name with a parent there is a resource, for which tokens hold; addresses have none more."""
    names = ("localhost", "127.0.0.1", "vault.localhost", "*.vault.localhost", "mine.vault.example")
    document = told("keyvault", names=names)
    port = document["resource"].rpartition(":")[2]
    assert document["other_resources"] == [
        f"https://{parent}:{port}" for parent in ("localhost", "vault.example", "vault.localhost")
    ]
    assert document["names"] == list(names)
    assert set(document["other_resources"]) <= set(document["issuer"]["audiences"])


def test_further_authorities_stand_beside_the_attestation_service() -> None:
    """One more authority takes no place of the attestation service that runs here, nor needs it to run."""
    more = ({"type": "insecure_fetched", "url": "https://other.example"},)
    first, second = told("keyvault", authorities=more)["authorities"]
    assert (first["type"], second) == ("attested", more[0])
    assert told("keyvault", authorities=more, images={})["authorities"] == list(more)
