"""Instances, made and changed by the management client."""

from __future__ import annotations

from typing import Any

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from scenario import (
    World,
    fresh,
    raises,
    refused,
    scenario,
    signer,
)

HELLO = b"hello"


@scenario("M.attestation_providers.create, get, list, list_by_resource_group, delete", 32)
def provider(world: World) -> None:
    providers, name = world.manager().attestation_providers, fresh("p")
    made = providers.create("rg", name, {"location": "local", "properties": {}})
    assert (made.trust_model, made.status, made.location) == ("AAD", "Ready", "local") or (
        made.properties.trust_model,
        made.properties.status,
        made.location,
    ) == ("AAD", "Ready", "local")
    url = made.properties.attest_uri
    world.attester(url).attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
    assert providers.get("rg", name).properties.attest_uri == url
    said = providers.get("rg", name).system_data
    assert (said.created_by, said.created_by_type) == ("admin", "Application")
    assert said.created_at == said.last_modified_at
    assert said.last_modified_by == "admin"
    assert name in [each.name for each in providers.list().value]
    assert name in [each.name for each in providers.list_by_resource_group("rg").value]
    assert name not in [each.name for each in providers.list_by_resource_group("another").value]
    providers.delete("rg", name)
    with refused(404, "ResourceNotFound", kind=ResourceNotFoundError):
        providers.get("rg", name)
    with raises(HttpResponseError):
        world.attester(url).attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)


@scenario("M.attestation_providers.update, list_default, get_default_by_location, M.operations.list")
def provider_changed(world: World) -> None:
    manager, name = world.manager(), fresh("p")
    providers = manager.attestation_providers
    providers.create("rg", name, {"location": "local", "tags": {"a": "b"}, "properties": {}})
    changed = {"tags": {"c": "d"}, "properties": {"tpmAttestationAuthentication": "Disabled"}}
    made = providers.update("rg", name, changed)
    assert made.tags == {"c": "d"}
    assert made.properties.tpm_attestation_authentication == "Disabled"
    assert providers.get("rg", name).tags == {"c": "d"}
    providers.delete("rg", name)
    (usual,) = providers.list_default().value
    assert usual.properties.attest_uri == world.attestation
    assert providers.get_default_by_location("local").properties.attest_uri == world.attestation
    with refused(404, "NotFound", kind=ResourceNotFoundError):
        providers.get_default_by_location("elsewhere")
    actions = [each.name for each in _operations(manager)]
    assert "Microsoft.Attestation/attestationProviders/read" in actions
    assert "Microsoft.Attestation/attestationProviders/attestation/write" in actions


def _operations(manager: Any) -> Any:
    found = manager.operations.list()
    return getattr(found, "value", None) or found


@scenario("M.attestation_providers.create(policySigningCertificates=...): Isolated; and keys that are none")
def provider_isolated(world: World) -> None:
    providers, mine = world.manager().attestation_providers, signer("mine")
    with world.instance(policySigningCertificates={"keys": [mine.jwk]}) as url:
        name = url.rpartition("/")[2]
        assert providers.get("group", name).properties.trust_model == "Isolated"
    wrong = {"policySigningCertificates": {"keys": [{"kty": "RSA", "x5c": ["AAAA"]}]}}
    with refused(400, "InvalidParameter", "PolicySigningCertificate key is not an X509 security key"):
        providers.create("group", fresh("p"), {"location": "local", "properties": wrong})
    with refused(400, "InvalidParameter"):
        providers.create("group", "a" * 30, {"location": "local", "properties": {}})


@scenario("M.attestation_providers.create of one that there is: place and certificates stay")
def provider_again(world: World) -> None:
    providers, mine = world.manager().attestation_providers, signer("mine")
    with world.instance(policySigningCertificates={"keys": [mine.jwk]}) as url:
        name = url.rpartition("/")[2]
        made = providers.create("group", name, {"location": "local", "tags": {"a": "b"}, "properties": {}})
        assert (made.tags, made.properties.trust_model) == ({"a": "b"}, "Isolated")
        others = {"policySigningCertificates": {"keys": [signer("other").jwk]}}
        with refused(400, "InvalidOperation", "policySigningCertificates"):
            providers.create("group", name, {"location": "local", "properties": others})
        with refused(400, "InvalidOperation", "location"):
            providers.create("group", name, {"location": "elsewhere", "properties": {}})


@scenario("M.attestation_providers with a reader's token, a workload's, and from another resource group")
def provider_by_others(world: World) -> None:
    reader = world.manager("reader").attestation_providers
    reader.list()
    name, write = fresh("p"), "'Microsoft.Attestation/attestationProviders/write'"
    with refused(403, "AuthorizationFailed", write):
        reader.create("rg", name, {"location": "local", "properties": {}})
    with refused(403, "AuthorizationFailed"):
        world.manager("workload").attestation_providers.list()
    mine = world.manager().attestation_providers
    mine.create("rg", name, {"location": "local", "properties": {}})
    with refused(409, "Conflict", name, ResourceExistsError):
        mine.create("another", name, {"location": "local", "properties": {}})
    with refused(404, "ResourceNotFound", "under resource group 'another'", ResourceNotFoundError):
        mine.get("another", name)
    mine.delete("rg", name)


@scenario("M.private_endpoint_connections.list, get, delete: there are none")
def private_endpoints(world: World) -> None:
    manager = world.manager()
    with world.instance() as url:
        name = url.rpartition("/")[2]
        assert list(manager.private_endpoint_connections.list("group", name)) == []
        with raises(ResourceNotFoundError):
            manager.private_endpoint_connections.get("group", name, "one")
        manager.private_endpoint_connections.delete("group", name, "one")


@scenario("one instance's tokens under another's keys: nobody's")
def instances_do_not_speak_for_each_other(world: World) -> None:
    with world.instance() as one, world.instance() as two:
        _, token = world.attester(one).attest_sgx_enclave(world.quote(HELLO), runtime_data=HELLO)
        assert world.claims(str(token), one)["iss"] == one
        with raises(Exception):
            world.claims(str(token), two)
        keys = [
            {each.key_id for each in world.attester(url).get_signing_certificates()} for url in (one, two)
        ]
        assert not keys[0] & keys[1]
