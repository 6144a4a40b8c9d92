"""The control plane: separate instances, each with an address, a trust model, keys and policies."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from kluis.enclave.store import SealedStore
from kluis.services.attestation.authors import APPLICATION, MANAGED_IDENTITY, USER, Author, author_of
from kluis.services.attestation.control_plane.providers import Providers
from kluis.services.attestation.engine import Engine
from kluis.services.attestation.instances import TABLE, Instances
from kluis.services.attestation.kinds import AttestationType
from kluis.services.attestation.tokens.settings_digest import digest
from kluis.services.attestation.tokens.signing import TABLE as SIGNING
from kluis.services.web import Caller
from tests.evidence.forge import NOW
from tests.keys import rsa_key
from tests.services.attestation.owners import Owner, owner
from tests.services.attestation.test_attesting import sgx
from tests.services.attestation.world import (
    DENY,
    MAKER,
    PERMIT,
    URL,
    VERSION,
    World,
    error_of,
    header_of,
    unsigned,
)

ARM = "api-version=2021-06-01"
GROUP = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Attestation/attestationProviders"
ONE = f"{GROUP}/p1"
BASE = "/instances/p1"

WEAK = Owner("weak", rsa_key(bits=1024))


def make(world: World, path: str = ONE, **body: Any) -> Any:
    """Make an instance."""
    return world.owner("PUT", f"{path}?{ARM}", json={"location": "local", "properties": {}, **body})


def _said(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def keys(*names: str) -> dict[str, Any]:
    """Properties with certificates."""
    held = [{"kty": "RSA", "x5c": owner(name).chain} for name in names]
    return {"policySigningCertificates": {"keys": held}}


def test_made_used_and_deleted(world: World) -> None:
    """An instance is ready at once, attests at its own address under its own key, and is gone in the end."""
    answer = make(world, tags={"a": "b"})
    assert (answer.status_code, "location" in answer.headers) == (201, False)
    assert answer.json() == {
        "id": ONE,
        "name": "p1",
        "type": "Microsoft.Attestation/attestationProviders",
        "location": "local",
        "tags": {"a": "b"},
        "properties": {
            "trustModel": "AAD",
            "status": "Ready",
            "attestUri": f"{URL}/instances/p1",
            "publicNetworkAccess": "Enabled",
            "privateEndpointConnections": [],
            "tpmAttestationAuthentication": "Enabled",
        },
        "systemData": {
            "createdAt": "2026-06-01T12:00:00Z",
            "createdBy": "somebody",
            "createdByType": "User",
            "lastModifiedAt": "2026-06-01T12:00:00Z",
            "lastModifiedBy": "somebody",
            "lastModifiedByType": "User",
        },
    }
    claims = world.token(world.attest("SgxEnclave", sgx(), BASE), BASE)
    assert claims["iss"] == f"{URL}/instances/p1"
    own = {key["kid"] for key in world.ask("GET", f"{BASE}/certs").json()["keys"]}
    assert not own & {key["kid"] for key in world.ask("GET", "/certs").json()["keys"]}
    for path in (GROUP, "/subscriptions/s/providers/Microsoft.Attestation/attestationProviders"):
        assert [each["name"] for each in world.owner("GET", f"{path}?{ARM}").json()["value"]] == ["p1"]
    assert world.owner("DELETE", f"{ONE}?{ARM}").status_code == 200
    assert world.owner("DELETE", f"{ONE}?{ARM}").status_code == 204
    assert error_of(world.owner("GET", f"{ONE}?{ARM}")) == (
        404,
        "ResourceNotFound",
        "The Resource 'Microsoft.Attestation/attestationProviders/p1' under resource group 'rg' "
        "was not found.",
    )
    assert error_of(world.attest("SgxEnclave", sgx(), BASE))[:2] == (404, "NotFound")
    assert world.owner("GET", f"{GROUP}?{ARM}").json() == {"value": []}


def test_policies_are_its_own(world: World) -> None:
    """A policy of one instance is no other's, and does not come back with the instance's name."""
    make(world)
    assert world.set_policy("SgxEnclave", DENY, BASE).status_code == 200
    assert world.attest("SgxEnclave", sgx(), BASE).status_code == 400
    assert world.attest("SgxEnclave", sgx()).status_code == 200
    world.owner("DELETE", f"{ONE}?{ARM}")
    make(world)
    assert world.attest("SgxEnclave", sgx(), BASE).status_code == 200


def test_an_isolated_one(world: World) -> None:
    """Made with certificates it is isolated: their signatures count, and nobody else's."""
    answer = make(world, properties=keys("one", "two"))
    assert answer.json()["properties"]["trustModel"] == "Isolated"
    path = f"{BASE}/policies/SgxEnclave?{VERSION}"
    assert error_of(world.owner("PUT", path, content=unsigned(PERMIT)))[1] == "InvalidOperation"
    for name in ("one", "two"):
        assert world.owner("PUT", path, content=owner(name).policy(PERMIT)).status_code == 200
    assert error_of(world.owner("PUT", path, content=owner("three").policy(PERMIT)))[0] == 400
    answer = world.owner("PATCH", f"{ONE}?{ARM}", json={"properties": keys("three")})
    assert error_of(answer) == (
        400,
        "InvalidOperation",
        "instance: want policySigningCertificates to stay, got others",
    )
    for others in (("three",), ("one",), ("one", "two", "three")):
        assert error_of(make(world, properties=keys(*others)))[1] == "InvalidOperation", others
    assert world.owner("PUT", path, content=owner("three").policy(PERMIT)).status_code == 400


def test_put_again(world: World) -> None:
    """What is put twice is as it was: said again or not at all, certificates and place stay."""
    make(world, properties=keys("one", "two"))
    for same in (keys("two", "one"), {}):
        answer = make(world, properties=same, location="Lo cal")
        assert (answer.status_code, answer.json()["location"]) == (200, "local"), same
        assert answer.json()["properties"]["trustModel"] == "Isolated"
    assert error_of(make(world, location="elsewhere")) == (
        400,
        "InvalidOperation",
        "location: want local to stay, got 'elsewhere'",
    )
    assert world.owner("GET", f"{ONE}?{ARM}").json()["location"] == "local"


def test_tags_that_nobody_gave(world: World) -> None:
    """Absent tags are no member, as in Azure's answers; null changes nothing, `{}` removes them."""
    for given in ({}, {"tags": None}):
        assert "tags" not in make(world, **given).json()
    assert make(world, tags={"a": "b"}).json()["tags"] == {"a": "b"}
    for given in ({}, {"tags": None}):
        assert make(world, **given).json()["tags"] == {"a": "b"}
        assert world.owner("PATCH", f"{ONE}?{ARM}", json=given).json()["tags"] == {"a": "b"}
    assert make(world, tags={}).json()["tags"] == {}


def test_changed(world: World) -> None:
    """Tags and switches change; what is not said stays."""
    make(world, tags={"a": "b"})
    changed = {"properties": {"tpmAttestationAuthentication": "Disabled", "publicNetworkAccess": "Disabled"}}
    found = world.owner("PATCH", f"{ONE}?{ARM}", json=changed).json()
    assert found["tags"] == {"a": "b"}
    assert found["properties"]["tpmAttestationAuthentication"] == "Disabled"
    assert world.owner("PATCH", f"{ONE}?{ARM}", json={"tags": {}}).json()["tags"] == {}
    assert world.owner("GET", f"{ONE}?{ARM}").json()["properties"]["publicNetworkAccess"] == "Disabled"


def test_who_and_when(world: World) -> None:
    """An instance has its creator and creation time, and those of the last change."""
    made = make(world).json()["systemData"]
    world.clock.at += timedelta(hours=1)
    headers = MAKER.header("Owner", now=world.clock.at, upn="ada@example.org", oid="o")
    world.ask("PATCH", f"{ONE}?{ARM}", json={"tags": {}}, headers=headers)
    changed = {
        **made,
        "lastModifiedAt": _said(world.clock.at),
        "lastModifiedBy": "ada@example.org",
        "lastModifiedByType": "User",
    }
    for path in (ONE, GROUP):
        found = world.owner("GET", f"{path}?{ARM}").json()
        assert found.get("value", [found])[0]["systemData"] == changed
    world.clock.at += timedelta(hours=1)
    headers = MAKER.header("Owner", now=world.clock.at, appid="deployer")
    again = world.ask("PUT", f"{ONE}?{ARM}", json={"location": "local"}, headers=headers).json()
    assert again["systemData"] == {
        **made,
        "lastModifiedAt": _said(world.clock.at),
        "lastModifiedBy": "deployer",
        "lastModifiedByType": "Application",
    }


def test_an_instance_of_before(world: World) -> None:
    """A record without creator and changes is read with what it has, and completed by the next change."""
    make(world)
    data = world.storage.get(TABLE, "p1")
    assert data is not None
    record = msgspec.msgpack.decode(data)
    later = ("created_by", "modified", "modified_by", "life")
    old = {key: value for key, value in record.items() if key not in later}
    assert (record["version"], len(record) - len(old)) == (3, 4)
    first = msgspec.msgpack.encode({**old, "version": 1})
    world.storage.update(lambda store: store.put(TABLE, "p1", first))
    created = {"createdAt": _said(NOW)}
    assert world.owner("GET", f"{ONE}?{ARM}").json()["systemData"] == created
    changed = world.owner("PATCH", f"{ONE}?{ARM}", json={"tags": {}}).json()["systemData"]
    assert changed == {
        **created,
        "lastModifiedAt": _said(NOW),
        "lastModifiedBy": "somebody",
        "lastModifiedByType": "User",
    }
    kept = world.storage.get(TABLE, "p1")
    assert kept is not None
    assert msgspec.msgpack.decode(kept)["version"] == 3


def kids(world: World) -> list[str]:
    """The keys that the instance publishes."""
    return [key["kid"] for key in world.ask("GET", f"{BASE}/certs").json()["keys"]]


def test_made_anew_under_the_same_name(storage: SealedStore) -> None:
    """An instance has nothing of one before it of its name: no key, in whatever process, and no policy."""
    world, other = World(storage), World(storage)
    make(world)
    before = kids(world)
    assert kids(other) == before
    third = Engine(world.settings, storage, lambda _: None, None, MAKER.issuer())
    gone = third.instances.find("p1")
    token = world.ask("POST", f"{BASE}/attest/SgxEnclave?{VERSION}", json=sgx()).json()["token"]
    assert header_of(token)["kid"] == before[0]
    assert world.owner("DELETE", f"{ONE}?{ARM}").status_code == 200
    # One whose request came before the instance went changes nothing of the next one, and keeps no key there.
    third.keys.rotate(gone.key, gone.url, world.clock.at, 0)
    make(world)
    third.policies.set(gone, AttestationType.SGX_ENCLAVE, unsigned(DENY), world.clock.at)
    after = kids(world)
    assert kids(other) == after
    assert not set(before) & set(after)
    assert len(list(storage.scan(SIGNING, "p1"))) == len(after) == 1
    for each in (world, other):
        answer = each.ask("POST", f"{BASE}/attest/SgxEnclave?{VERSION}", json=sgx())
        assert header_of(answer.json()["token"])["kid"] == after[0]


def test_keys_of_an_instance_of_before(storage: SealedStore) -> None:
    """An instance that an earlier version made keeps its keys and policies until it goes, and no longer."""
    world = World(storage)
    make(world)
    data = storage.get(TABLE, "p1")
    assert data is not None
    old = {key: value for key, value in msgspec.msgpack.decode(data).items() if key != "life"}
    storage.update(lambda store: store.put(TABLE, "p1", msgspec.msgpack.encode({**old, "version": 2})))
    before = kids(world)
    assert storage.get(SIGNING, f"p1/{digest(world.settings, world.issuer).hex()}") is not None
    assert world.owner("PATCH", f"{ONE}?{ARM}", json={"tags": {"a": "b"}}).status_code == 200
    assert kids(World(storage)) == before
    assert world.owner("DELETE", f"{ONE}?{ARM}").status_code == 200
    make(world)
    assert not set(before) & set(kids(world))
    assert storage.get(SIGNING, f"p1/{digest(world.settings, world.issuer).hex()}") is None


def test_keys_that_are_held(storage: SealedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service holds the keys of so many instances, and none of one that it deleted."""
    monkeypatch.setattr("kluis.services.attestation.tokens.signing.MOST_HELD", 2)
    world = World(storage)
    engine = Engine(world.settings, storage, lambda _: None, None, MAKER.issuer())

    def signing(name: str) -> str:
        instance = engine.instances.find(name)
        return engine.keys.current(instance.key, instance.url, world.clock.at).kid

    names = ("p1", "p2", "p3")
    for name in names:
        make(world, f"{GROUP}/{name}")
    kids = [signing(name) for name in names]
    assert set(engine.keys._loaded) == set(kids[1:])
    assert [signing(name) for name in names] == kids
    providers = Providers(
        engine.settings, storage, engine.instances, engine.policies, engine.certificates, engine.keys
    )
    assert providers.delete("s", "rg", "P3")
    assert set(engine.keys._loaded) == {kids[1]}
    assert len(engine.keys._held) == 1


@pytest.mark.parametrize(
    ("claims", "author"),
    [
        ({"sub": "s"}, Author("s", USER)),
        ({"upn": "a@b", "sub": "s", "appid": "portal", "scp": "user_impersonation"}, Author("a@b", USER)),
        ({"preferred_username": "a@b", "azp": "portal", "idtyp": "user"}, Author("a@b", USER)),
        ({"sub": "s", "oid": "o", "appid": "program"}, Author("program", APPLICATION)),
        ({"sub": "s", "azp": "program", "idtyp": "app"}, Author("program", APPLICATION)),
        (
            {"oid": "o", "appid": "a", "xms_mirid": "/subscriptions/..", "idtyp": "app"},
            Author("o", MANAGED_IDENTITY),
        ),
        ({"upn": 7, "oid": "", "sub": "s" * 300}, Author("s" * 256, USER)),
        ({}, Author("", USER)),
    ],
)
def test_who_a_token_is_of(claims: dict[str, Any], author: Author) -> None:
    """A person is known by the name that they sign in with, a program by its id."""
    assert author_of(Caller(claims.get("sub", ""), frozenset(), claims)) == author


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("p-", {}, "instance: want 1 to 24 letters, digits and hyphens, not 'default', got 'p-'"),
        ("p" * 25, {}, "instance: want 1 to 24 letters"),
        ("default", {}, "got 'default'"),
        ("-abc", {}, "got '-abc'"),
        ("p1", {"properties": {"publicNetworkAccess": "On"}}, "properties.publicNetworkAccess: want Enabled"),
        ("p1", {"tags": {str(at): "" for at in range(51)}}, "tags: want at most 50, got 51"),
        ("p1", {"tags": {"a" * 513: ""}}, "tags: want names of at most 512 characters, got 513"),
        ("p1", {"tags": {"a": "b" * 300}}, "tags: want values of at most 256 characters, got 300"),
        (
            "p1",
            {"properties": {"policySigningCertificates": {"keys": {}}}},
            "want a list of at most 16, got dict",
        ),
        ("p1", {"properties": keys(*["one"] * 17)}, "want a list of at most 16, got 17"),
        (
            "p1",
            {"properties": {"policySigningCertificates": {"keys": [{"kty": "RSA", "n": "x"}]}}},
            "PolicySigningCertificate key is not an X509 security key: ",
        ),
        (
            "p1",
            {"properties": {"policySigningCertificates": {"keys": [{"x5c": ["AAAA"]}]}}},
            "PolicySigningCertificate key is not an X509 security key: ",
        ),
        (
            "p1",
            {"properties": {"policySigningCertificates": {"keys": [{"x5c": WEAK.chain}]}}},
            "PolicySigningCertificate key is not an X509 security key: properties.policySigningCertificates."
            "keys[0].x5c[0]: key of CN=weak: has 1024 bits, want 2048 to 8192",
        ),
    ],
)
def test_what_makes_none(world: World, name: str, body: dict[str, Any], message: str) -> None:
    """An invalid name, switch, tag or certificate is refused, and nothing is made."""
    status, code, told = error_of(make(world, f"{GROUP}/{name}", **body))
    assert (status, code) == (400, "InvalidParameter")
    assert message in told
    assert world.owner("GET", f"{GROUP}?{ARM}").json() == {"value": []}


def test_anothers_name(world: World) -> None:
    """A name is one instance's, in any letters and any group; nobody sees or deletes another group's."""
    make(world)
    elsewhere = ONE.replace("/rg/", "/other/")
    taken = (409, "Conflict", "instance: want an unused name, or your own instance, got 'p1', another's")
    assert error_of(make(world, elsewhere)) == taken
    assert error_of(make(world, elsewhere.replace("p1", "P1")))[:2] == taken[:2]
    assert world.owner("GET", f"{elsewhere}?{ARM}").status_code == 404
    assert world.owner("DELETE", f"{elsewhere}?{ARM}").status_code == 204
    assert world.owner("GET", f"{ONE.replace('p1', 'P1')}?{ARM}").status_code == 200


def test_the_default_one(world: World) -> None:
    """The service's own instance is the default of its location."""
    base = "/subscriptions/s/providers/Microsoft.Attestation"
    (found,) = world.owner("GET", f"{base}/defaultProviders?{ARM}").json()["value"]
    assert found["properties"]["attestUri"] == URL
    assert "tags" not in found
    for name in ("Local", "LO%20cal", "lo+cal"):
        answer = world.owner("GET", f"{base}/locations/{name}/defaultProvider?{ARM}")
        assert (answer.status_code == 200) is (name != "lo+cal")
        assert name == "lo+cal" or answer.json() == found
    assert world.owner("GET", f"{base}/locations/mars/defaultProvider?{ARM}").status_code == 404


def test_private_links(world: World) -> None:
    """There are no private links, and the lists say so."""
    make(world)
    for name in ("privateEndpointConnections", "privateLinkResources"):
        assert world.owner("GET", f"{ONE}/{name}?{ARM}").json() == {"value": []}
    one = f"{ONE}/privateEndpointConnections/x?{ARM}"
    assert error_of(world.owner("GET", one))[:2] == (404, "NotFound")
    assert error_of(world.owner("PUT", one, json={}))[:2] == (404, "NotFound")
    assert world.owner("DELETE", one).status_code == 204


def test_operations(world: World) -> None:
    """Anyone may list the operations; each action appears once, with the name of Azure's roles."""
    found = world.ask("GET", f"/providers/Microsoft.Attestation/operations?{ARM}").json()["value"]
    providers, links = "attestationProviders", "attestationProviders/privateEndpointConnections"
    actions = [f"{kind}/{verb}" for kind in (providers, links) for verb in ("read", "write", "delete")]
    reads = [f"{providers}/privateLinkResources", "defaultProviders", "locations/defaultProvider"]
    actions += [f"{kind}/read" for kind in reads]
    actions += [f"{providers}/attestation/{verb}" for verb in ("read", "write", "delete")]
    assert sorted(each["name"] for each in found) == sorted(
        f"Microsoft.Attestation/{each}" for each in actions
    )
    (gone,) = [each for each in found if each["name"].endswith(f"/{providers}/delete")]
    assert (gone["display"]["resource"], gone["display"]["operation"]) == (providers, "DeleteProvider")


def test_who_may(world: World) -> None:
    """A reader makes nothing, one without a role in the control plane sees nothing, and each hears why."""
    status, code, message = error_of(world.owner("PUT", f"{ONE}?{ARM}", "Reader", json={}))
    assert (status, code) == (403, "AuthorizationFailed")
    assert message.endswith(
        "does not have authorization to perform action 'Microsoft.Attestation/attestationProviders/write' "
        f"over scope '{ONE}': want a role that allows it, got Reader"
    )
    assert world.owner("GET", f"{GROUP}?{ARM}", "Reader").status_code == 200
    assert world.owner("GET", f"{GROUP}?{ARM}", "Attestation Contributor").status_code == 403
    assert error_of(world.ask("GET", f"{GROUP}?{ARM}")) == (
        401,
        "AuthenticationFailed",
        "Authentication failed. The 'Authorization' header is missing.",
    )
    status, code, message = error_of(world.ask("GET", f"{GROUP}?{ARM}", headers={"Authorization": "Basic x"}))
    assert (status, code) == (401, "InvalidAuthenticationToken")
    assert message == "The access token is invalid: Authorization: want Bearer and a token"


def test_an_instance_that_was_never_made(world: World) -> None:
    """Its paths lead nowhere, and neither do names that lead elsewhere."""
    for name in ("nobody", "%2e%2e", "a%2fb", "default"):
        answer = world.ask("GET", f"/instances/{name}/certs")
        assert answer.status_code == 404, name


def test_nobody_waits_for_the_store_in_the_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance states who may send a TPM's evidence, and reading that blocks no other request."""
    make(world, properties={"tpmAttestationAuthentication": "Disabled"})
    threads: list[threading.Thread] = []
    provider = Instances.provider

    def noted(self: Instances, store: Any, name: str) -> Any:
        threads.append(threading.current_thread())
        return provider(self, store, name)

    monkeypatch.setattr(Instances, "provider", noted)
    for base in (BASE, "/instances/another"):
        world.ask("POST", f"{base}/attest/Tpm?{VERSION}", json={"data": "e30"})
    assert len(threads) >= 2
    assert threading.main_thread() not in threads
