"""Requests to a vault: what clients of Azure Key Vault send, and what they get."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest

from kluis.errors import AuthenticityError, UnavailableError
from kluis.formats.encoding import b64
from kluis.hashes import sha256
from kluis.services.keyvault.handlers import BEFORE_RELEASE
from tests.services.keyvault.world import (
    API,
    OFFICER,
    PINNED,
    RELEASER,
    VAULT,
    World,
    opened,
    policy,
    said,
    sign,
)
from tests.services.keyvault.world import claims as claimed
from tests.services.web.issuer import NOW, URL

READER, USER = "Key Vault Reader", "Key Vault Crypto User"
CHALLENGE = 'Bearer authorization="https://login.example/tenant", resource="https://vault.example:8443"'


def test_challenge_comes_first() -> None:
    """Without a token every path of a key answers the same, whatever is there and whatever the body is."""
    world = World()
    world.exportable()
    answers = {
        (answer.status_code, answer.headers["www-authenticate"], answer.text)
        for name in ("k", "none")
        for method, path in (("POST", "create"), ("POST", "release"), ("GET", ""), ("POST", "/release"))
        for answer in [world.send(method, f"/keys/{name}/{path}", b"{not json", roles=())]
    }
    assert answers == {
        (
            401,
            CHALLENGE,
            '{"error":{"code":"Unauthorized",'
            '"message":"AKV10000: Request is missing a Bearer or PoP token."}}',
        )
    }


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (
            {"aud": "https://else.example"},
            "AKV10022: Invalid audience. Expected https://vault.example:8443, found: https://else.example.",
        ),
        (
            {"iss": "https://else.example/tenant"},
            f"AKV10032: Invalid issuer. Expected one of {URL}, found https://else.example/tenant.",
        ),
        (
            {"exp": 1},
            "AKV10000: Request is missing a Bearer or PoP token that holds: bearer token: has expired",
        ),
    ],
)
def test_a_token_that_does_not_hold_is_challenged(claims: dict[str, object], message: str) -> None:
    """A token of another issuer, or for another service, is refused, and the answer names the right one."""
    world = World()
    header = world.maker.header(OFFICER, **claims)
    answer = world.send("GET", "/keys", roles=(), headers=header)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == CHALLENGE
    assert answer.json()["error"]["message"] == message


@pytest.mark.parametrize(
    ("host", "resource"),
    [
        ("mine.named.example:8443", "https://named.example:8443"),
        ("MINE.named.example:8443", "https://named.example:8443"),
        ("mine.other.example:8443", "https://vault.example:8443"),
        ("named.example:8443", "https://vault.example:8443"),
        ("mine.named.example", "https://vault.example:8443"),
    ],
)
def test_the_challenge_is_for_the_host_that_was_asked(host: str, resource: str) -> None:
    """The challenge names the resource of the host in the request; for an unknown host, the default."""
    names = ("*.named.example", "named.example", "*.other.example")
    world = World(other_resources=("https://named.example:8443",), names=names)
    marked = world.maker.header(OFFICER, **{"x-kluis-claims-wanted": "{}"})
    for given in ({}, marked):
        answer = world.send("GET", "/keys", roles=(), headers={**given, "host": host})
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith(CHALLENGE.replace("https://vault.example:8443", resource))


ELSEWHERE = "host: want localhost, 127.0.0.1 or a configured name of this vault, got "


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "vault.example:8443",
        "a.b.vault.example",
        "10.0.0.1:8443",
        "mine.vault.example:8443@evil.example",
        "mine.vault.example/x",
        "mine.vault.example, evil.example",
        "mine.vault.example:",
        "evil.example#.localhost",
        '"',
        "",
    ],
)
def test_a_name_that_nobody_told_the_vault(host: str) -> None:
    """Signed data contains no name that a client chose: unknown names are refused, before a key is made."""
    world = World()
    asked = {"kty": "EC", "crv": "P-256"}
    refused = (421, "MisdirectedRequest", f"{ELSEWHERE}{host!r}", None)
    assert world.refused("POST", "/keys/k/create", asked, headers={"host": host}) == refused
    assert world.refused("GET", "/keys", roles=(), headers={"host": host}) == refused
    assert world.ok("GET", "/keys") == {"value": [], "nextLink": None}
    assert world.send("GET", "/health/ready", roles=(), api=None, headers={"host": host}).status_code == 200


def test_ready_is_who_has_a_store_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault whose host keeps nothing, as of a database that is down, does not say that it can work."""
    world = World()
    assert world.send("GET", "/health/ready", roles=(), api=None).status_code == 200
    away = UnavailableError("store: host: is away", code="store_unavailable")
    with monkeypatch.context() as patched:
        patched.setattr(world.storage, "get", Mock(side_effect=away))
        answer = world.send("GET", "/health/ready", roles=(), api=None)
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "store: host: is away")
    assert world.send("GET", "/health/ready", roles=(), api=None).status_code == 200


def test_not_ready_is_who_was_replaced() -> None:
    """Nor is an instance whose vault another start has recreated."""
    world = World()
    fresh = World((PINNED,), storage=world.storage, clock=world.clock)
    assert fresh.send("GET", "/health/ready", roles=(), api=None).status_code == 200
    answer = world.send("GET", "/health/ready", roles=(), api=None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "vault_replaced")


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:9443", "localhost:9443"),
        ("mine.vault.localhost:1", "mine.vault.localhost:1"),
        ("127.0.0.1:8444", "127.0.0.1:8444"),
        ("127.1.2.3", "127.1.2.3"),
        ("[::1]:8443", "[::1]:8443"),
        ("mine.vault.example:9000", "mine.vault.example:9000"),
        ("one.example", "one.example"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
def test_names_that_are_followed(host: str, written: str) -> None:
    """The vault uses its client's name for it, if it is loopback or configured, at any port."""
    world = World(names=("*.vault.example", "One.example", "2001:db8::1"))
    world.exportable()
    listed = world.ok("GET", "/keys", maxresults="1", headers={"host": host})
    assert listed["value"][0]["kid"] == f"https://{written}/keys/k"
    asked = {"target": sign(claimed())}
    answer = world.ok("POST", "/keys/k/release", asked, roles=(RELEASER,), headers={"host": host})
    assert said(answer["value"])["response"]["key"]["key"]["kid"].startswith(f"https://{written}/keys/k/")


def test_a_vault_with_a_url_of_its_own() -> None:
    """If a URL is configured, that is used: a proxy may use any name."""
    world = World(url="https://keys.example")
    made = world.ok("POST", "/keys/k/create", {"kty": "EC", "crv": "P-256"}, headers={"host": "10.0.0.1"})
    assert made["key"]["kid"].startswith("https://keys.example/keys/k/")


def test_a_marked_token_gets_a_claims_challenge() -> None:
    """A bearer whose issuer wants them to come again is sent for a token with the claims it names."""
    world = World()
    header = world.maker.header(OFFICER, **{"x-kluis-claims-wanted": '{"access_token":{}}'})
    answer = world.send("GET", "/keys", roles=(), headers=header)
    assert answer.status_code == 401
    claims = b64.encode(b'{"access_token":{}}')
    assert (
        answer.headers["www-authenticate"] == f'{CHALLENGE}, error="insufficient_claims", claims="{claims}"'
    )


def test_a_reader_reads_rotation_policies() -> None:
    """Azure's role has ``vaults/*/read``, which reads a key's policy of rotation too, and changes none."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    path = "/keys/k/rotationpolicy"
    assert world.ok("GET", path, roles=(READER,)) == world.ok("GET", path)
    assert world.refused("PUT", path, {"lifetimeActions": []}, roles=(READER,))[0] == 403
    assert world.refused("GET", path, roles=(USER,))[0] == 403


def test_who_may_not_ask_learns_nothing() -> None:
    """A caller without the permission hears the same of a key that is there and of one that is not."""
    world = World()
    world.exportable()
    there, nowhere = (world.refused("DELETE", f"/keys/{name}", roles=(READER,)) for name in ("k", "none"))
    assert there == nowhere
    assert there == (
        403,
        "Forbidden",
        "Caller is not authorized to perform action on resource: DeleteKey wants one of Key Vault "
        "Administrator, Key Vault Crypto Officer, Managed HSM Administrator, Managed HSM Crypto User; "
        "got Key Vault Reader.",
        "ForbiddenByRbac",
    )


def test_who_uses_keys_does_not_say_where_they_go() -> None:
    """A role that may update keys may not update release policies: with them a key could be had."""
    world = World()
    world.exportable()
    loose = {"release_policy": {"data": b64.encode_url(policy({"claim": "a", "equals": "b"}))}}
    assert world.refused("PATCH", "/keys/k/", loose, roles=(USER,)) == (
        403,
        "Forbidden",
        "Caller is not authorized to perform action on resource: a release policy is changed by who "
        "may make keys.",
        "ForbiddenByRbac",
    )
    assert world.ok("PATCH", "/keys/k/", {"tags": {"a": "b"}}, roles=(USER,))["tags"] == {"a": "b"}
    assert world.ok("PATCH", "/keys/k/", loose)["release_policy"]["data"] == loose["release_policy"]["data"]


def test_only_release_users_release() -> None:
    """The role that may use keys may not let one go."""
    world = World()
    world.exportable()
    target = {"target": sign(claimed())}
    assert world.refused("POST", "/keys/k/release", target, roles=(USER,))[0] == 403
    assert "value" in world.ok("POST", "/keys/k/release", target, roles=(RELEASER,))


@pytest.mark.parametrize("kty", ["RSA", "EC", "oct-HSM"])
def test_bundle(kty: str) -> None:
    """Only a key's public half is shown."""
    made = World().ok("POST", "/keys/Some-Key1/create", {"kty": kty, "tags": {"a": "b"}})
    at = int(NOW.timestamp())
    version = made["key"].pop("kid").removeprefix(f"{VAULT}/keys/Some-Key1/")
    assert len(version) == 32
    assert made["attributes"] == {
        "enabled": True, "created": at, "updated": at, "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90, "exportable": False,
    }  # fmt: skip
    assert made["tags"] == {"a": "b"}
    public = {"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "oct-HSM": set()}[kty]
    assert set(made["key"]) == {"kty", "key_ops"} | public


@pytest.mark.parametrize(
    ("api", "platform"),
    [
        ("2016-10-01", None), ("7.0", None), ("7.3-preview", None), ("7.4", None), ("7.5-preview.1", "0"),
        ("7.5", "0"), ("7.6-preview.2", "0"), ("7.6", "0"), ("2025-07-01", "0"), ("7.10", "0"),
    ],
)  # fmt: skip
def test_no_hsm_holds_a_key(api: str, platform: str | None) -> None:
    """From version 7.5 of the API on, every view of a key states that no HSM holds it, in Azure's word."""
    world = World()
    world.exportable()

    releases = []
    if not BEFORE_RELEASE.fullmatch(api):
        target = {"target": sign(claimed())}
        release = world.ok("POST", "/keys/k/release", target, roles=(RELEASER,), api=api)["value"]
        releases.append(said(release)["response"]["key"])
    views = [
        world.ok("GET", "/keys/k/", api=api),
        world.ok("GET", "/keys", api=api)["value"][0],
        world.ok("GET", "/keys/k/versions", api=api)["value"][0],
        *releases,
        world.ok("DELETE", "/keys/k", api=api),
        world.ok("GET", "/deletedkeys", api=api)["value"][0],
    ]
    assert [view["attributes"].get("hsmPlatform") for view in views] == [platform] * len(views)


def test_names_do_not_tell_capitals_apart() -> None:
    """A key is found by its name in any case of letters, and keeps the spelling of its making."""
    world = World()
    world.ok("POST", "/keys/Mixed/create", {"kty": "EC"})
    assert world.ok("GET", "/KEYS/mIXED/")["key"]["kid"].startswith(f"{VAULT}/keys/Mixed/")


@pytest.mark.parametrize("path", ["/keys/k/", "/keys/k", "/keys/k/%2F", "/keys/k/%2f", "/keys/k/VERSION"])
def test_every_spelling_of_a_version(path: str) -> None:
    """The latest version is /keys/k/ as well as /keys/k, and what Azure's client for C++ makes of it."""
    world = World()
    kid = world.ok("POST", "/keys/k/create", {"kty": "EC"})["key"]["kid"]
    assert world.ok("GET", path.replace("VERSION", kid[-32:]))["key"]["kid"] == kid


@pytest.mark.parametrize("path", ["/keys/k//release", "/keys/k/release", "/keys/k/VERSION/release"])
def test_release_paths(path: str) -> None:
    """A release can be requested by three paths, and its answer has the requested one."""
    world = World()
    kid = world.exportable()["key"]["kid"]
    sent = path.replace("VERSION", kid[-32:])
    value = world.ok("POST", sent, {"target": sign(claimed())}, roles=(RELEASER,))["value"]
    payload = said(value)
    wanted = kid if "VERSION" in path else f"{VAULT}/keys/k"
    assert payload["request"] == {"api-version": API, "enc": "CKM_RSA_AES_KEY_WRAP", "kid": wanted}
    assert payload["response"]["key"]["key"]["kid"] == kid
    assert opened(value)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/keys/a%2Fb/", 404), ("/keys/../secrets", 404), ("/keys/%2e%2e/", 404), ("/keys//k", 404),
        ("/keys/k/../k2/", 404), ("/keys/a_b/", 400), ("/keys/k%00/", 404), (f"/keys/{'a' * 128}/", 400),
        ("/keys/k/zz", 400), (f"/keys/k/{'0' * 32}", 404), ("/keys/k///release", 404),
    ],
)  # fmt: skip
def test_odd_paths(path: str, status: int) -> None:
    """A path that leads elsewhere, or names what no key is called, finds nothing."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    assert world.send("GET", path).status_code in (status, 405)


def test_a_host_that_is_found_out() -> None:
    """That the store does not hold is no word about the caller: a client must not take it for a refusal."""
    world = World()

    def tampered(*_: object, **__: object) -> None:
        raise AuthenticityError("store: record: want one, got none", code="store_record")

    world.storage.get = tampered
    for method, path in (("GET", "/deletedkeys/k"), ("GET", "/keys/k/"), ("POST", "/keys/k/rotate")):
        assert world.refused(method, path)[:3] == (503, "store_record", "store: record: want one, got none")


@pytest.mark.parametrize("api", ["nonsense", "7.4; drop", "", "2025-13"])
def test_odd_api_versions(api: str) -> None:
    """What is no version of an API is refused, with the one error shape."""
    answer = World().send("GET", "/keys", api=api or None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadParameter")
    if not api:
        assert answer.json()["error"]["details"] == [{"code": "Hint", "message": "add ?api-version=7.4"}]


def test_paths_with_one_slash_more() -> None:
    """Azure's client for .NET writes some."""
    world = World()
    world.ok("POST", "/keys/k/create", {"kty": "EC"})
    for path in ("/keys", "/keys/"):
        (item,) = world.ok("GET", path)["value"]
        assert item["kid"] == f"{VAULT}/keys/k"
    blob = world.ok("POST", "/keys/k/backup")["value"]
    world.ok("DELETE", "/keys/k")
    assert world.ok("GET", "/deletedkeys/") == world.ok("GET", "/deletedkeys")
    assert world.refused("POST", "/keys//restore", {"value": blob})[3] == "ObjectIsDeletedButRecoverable"
    world.ok("DELETE", "/deletedkeys/k")
    assert world.ok("POST", "/keys//restore", {"value": blob})["key"]["kty"] == "EC"


@pytest.mark.parametrize("name", ["restore", "create", "versions", "rotate", "release"])
def test_keys_that_are_called_like_a_path(name: str) -> None:
    """A key may have any name, also one that is an action elsewhere."""
    world = World()
    world.ok("POST", f"/keys/{name}/create", {"kty": "EC"})
    world.ok("PUT", f"/keys/{name}", {"key": {"kty": "oct", "k": b64.encode_url(bytes(32))}})
    assert world.ok("GET", f"/keys/{name}")["key"]["kty"] == "oct"
    assert len(world.ok("GET", f"/keys/{name}/versions")["value"]) == 2
    blob = world.ok("POST", f"/keys/{name}/backup")["value"]
    world.ok("DELETE", f"/keys/{name}")
    world.ok("DELETE", f"/deletedkeys/{name}")
    assert world.ok("POST", "/keys/restore", {"value": blob})["key"]["kty"] == "oct"
    assert world.send("OPTIONS", f"/keys/{name}").status_code == 405


def test_a_token_with_the_end_of_its_line() -> None:
    """White space around a token from a file is removed; within it the token is another one."""
    world = World()
    world.exportable()
    token = sign(claimed())
    for target in (f"{token}\n", f"\r\n {token}\t\r\n"):
        assert opened(world.release(target).json()["value"])
    entries = world.ok("GET", "/audit", roles=("Kluis Auditor",))["value"]
    assert {each["target"] for each in entries} == {"", sha256(token.encode()).hex()}
    head, body, signature = token.split(".")
    within = (f"{head}. {body}.{signature}", f"{head}.{body}\n.{signature}")
    for target in (*within, f"{token}\u00a0", f"{token}\0", " \n"):
        assert world.release(target).status_code == 403


@pytest.mark.parametrize(
    "api", ["2015-06-01", "2016-10-01", "7.0-preview", "7.2", "7.2-preview", "7.2-preview.1"]
)
def test_release_needs_a_newer_api(api: str) -> None:
    """An API from before releases makes no exportable key, and releases none."""
    asked = {"kty": "RSA-HSM", "attributes": {"exportable": True}, "release_policy": {"data": "e30"}}
    assert World().refused("POST", "/keys/k/create", asked, api=api) == (
        400,
        "BadParameter",
        "AKV.SKR.1001: The exportable attribute is only supported with premium vaults and API version >= "
        f"'7.3-preview': got {api}.",
        None,
    )
    world, message = World(), f"api-version: want 7.3-preview or a later one for release, got {api}"
    world.exportable()
    target = {"target": sign(claimed())}
    said = world.refused("POST", "/keys/k/release", target, api=api, roles=(RELEASER,))
    assert said == (400, "BadParameter", message, None)
    assert (
        world.send("POST", "/keys/k/release", target, api="7.3-preview", roles=(RELEASER,)).status_code == 200
    )


def test_pages() -> None:
    """A list comes in pages, each key once; a link's token is only valid for its list."""
    world = World()
    for at in range(7):
        world.ok("POST", f"/keys/n{at}/create", {"kty": "oct-HSM"})
    first = world.ok("GET", "/keys", maxresults="3")
    assert [each["kid"][-2:] for each in first["value"]] == ["n0", "n1", "n2"]
    token = first["nextLink"].split("$skiptoken=")[1].split("&")[0]
    assert first["nextLink"] == f"{VAULT}/keys?api-version={API}&$skiptoken={token}&maxresults=3"
    rest = world.ok("GET", "/keys", **{"$skiptoken": token})
    assert [each["kid"][-2:] for each in rest["value"]] == ["n3", "n4", "n5", "n6"]
    assert rest["nextLink"] is None
    wanted = (400, "BadParameter", "$skiptoken: want one of this list's own, got another", None)
    assert world.refused("GET", "/keys/n1/versions", **{"$skiptoken": token}) == wanted
    assert world.refused("GET", "/keys", **{"$skiptoken": token[:-2] + "AA"}) == wanted


def test_random_bytes() -> None:
    """Random bytes, 1 to 128."""
    world = World()
    assert len(b64.decode_url(world.ok("POST", "/rng", {"count": 16})["value"], "value")) == 16
    assert world.refused("POST", "/rng", {"count": 129})[2] == "count: want 1 to 128, got 129"


def test_attestation_says_whose_statement_it_is() -> None:
    """What is said of a key is this service's own statement, signed by the certificate that comes with it."""
    world = World()
    made = world.ok("POST", "/keys/k/create", {"kty": "EC"})
    told = world.ok("GET", f"/keys/k/{made['key']['kid'][-32:]}/attestation")
    statement = told["attributes"].pop("attestation")
    assert statement["version"] == "kluis-key-1"
    assert b64.decode_url(statement["certificatePemFile"], "pem").startswith(b"-----BEGIN CERTIFICATE-----")
    payload = said(b64.decode_url(statement["publicKeyAttestation"], "statement").decode())
    assert (payload["kid"], payload["x"]) == (made["key"]["kid"], made["key"]["x"])
    assert told == made


def test_configuration_is_shown_to_anyone() -> None:
    """A client sees which authorities are pinned, and which only the operator configured."""
    shown = World().ok("GET", "/configuration", roles=(), api=None)
    assert shown["authorities"] == [
        {"kind": "insecure_fetched", "type": "insecure_fetched", "url": "https://attest.example"}
    ]
    assert shown["issuer"]["url"] == "https://issuer.example/tenant"
    assert shown["rollback"] == "undetected"


def test_no_material_in_what_is_shown() -> None:
    """Neither a bundle, nor a list, nor a backup, nor the record holds the material."""
    world = World()
    secret = b"S3CRETS3CRETS3CR"
    jwk = {"kty": "oct", "k": b64.encode_url(secret)}
    answers = [
        world.send("PUT", "/keys/k", {"key": jwk, "Hsm": True}), world.send("GET", "/keys/k/"),
        world.send("GET", "/keys"), world.send("POST", "/keys/k/backup"),
        world.send("GET", "/audit", roles=("Kluis Auditor",)),
    ]  # fmt: skip
    assert all(answer.status_code == 200 for answer in answers)
    for answer in answers:
        for spelling in (secret, b64.encode(secret).rstrip("=").encode(), secret.hex().encode()):
            assert spelling not in answer.content


def test_every_operation_has_a_name_of_its_own() -> None:
    """Operations have unique names in logs and in the OpenAPI document."""
    world = World()
    names = [operation.name for operation in world.service.operations]
    assert len(names) == len(set(names))
    assert json.loads(world.send("GET", "/openapi.json", roles=(), api=None).text)["paths"]


def test_policy_is_kept_verbatim() -> None:
    """A release policy comes back byte for byte, spaces and all."""
    world = World()
    rule = (
        b'  {"anyOf" : [ {"authority":"https://attest.example/","anyOf":[{"claim":"a","equals":"true"}]} ] }'
    )
    made = world.exportable(rule=rule)
    assert made["release_policy"] == {
        "contentType": "application/json; charset=utf-8", "data": b64.encode_url(rule), "immutable": False,
    }  # fmt: skip
    assert policy() != rule


PREVIEW = "2026-01-01-preview"


@pytest.mark.parametrize(
    ("kty", "api", "size"),
    [
        ("oct-HSM", PREVIEW, 192),
        ("oct-HSM", "2026-03-01", 192),
        ("oct-HSM", "2025-07-01", None),
        ("oct-HSM", "7.6", None),
        ("RSA", PREVIEW, None),
    ],
)
def test_the_size_of_a_symmetric_key(kty: str, api: str, size: int | None) -> None:
    """From the version of the API on that has it, attributes of a key without a public half say its size."""
    world, asked = World(), {"kty": kty, "key_size": 192 if kty != "RSA" else 2048}
    made = world.ok("POST", "/keys/k/create", asked, api=api)
    assert made["attributes"].get("key_size") == size


def test_what_the_preview_has_and_this_vault_has_not() -> None:
    """A key in an external HSM is refused, and not made as a local one; so is TEE wrapping."""
    world = World()
    for more in ({}, {"kty": "RSA"}):
        asked = {"attributes": {"external_key": {"id": "one"}}, **more}
        told = "attributes.external_key: want none, for no other HSM is here, got one"
        answer = world.refused("POST", "/keys/k/create", asked, api=PREVIEW)
        assert answer == (400, "BadParameter", told, None)
    made = world.ok("POST", "/keys/k/create", {"kty": "RSA"}, api=PREVIEW)["key"]["kid"]
    for verb in ("securewrapkey", "secureunwrapkey"):
        path = f"{made.removeprefix(VAULT)}/{verb}"
        answer = world.refused("POST", path, {"alg": "RSA-OAEP-256"}, api=PREVIEW)
        assert answer == (404, "NotFound", f"path: want one of this service's, got {path!r}", None)
