"""Attacks on key release: by callers, by environments, and by the vault's host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from kluis.errors import PolicyError
from kluis.evidence import Collateral
from kluis.formats.encoding import b64
from kluis.formats.kluis import runtime_data, vouched
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.services.hosting import Endorsed, endorsement
from kluis.services.keyvault.release.keyring import MOST_INSTANCES, Keyring
from kluis.services.keyvault.vault.audit import Entry
from kluis.services.keyvault.vault.authorities import (
    Attested,
    Authority,
    ByImages,
    BySigner,
    InsecureFetched,
    Pinned,
)
from tests.evidence.forge import DEBUG, IMAGE, SIGNER, Forge
from tests.services.keyvault.world import (
    AUTHORITY,
    AUTHORITY_KEY,
    OTHER_KEY,
    PINNED,
    RESOURCE,
    Host,
    World,
    claims,
    jwks,
    opened,
    policy,
    public_jwk,
    said,
    sign,
)
from tests.services.web.issuer import NOW, FixedClock, TokenMaker

UNVERIFIED = "Target environment attestation statement cannot be verified."
UNMET = "Target environment attestation does not meet key release policy requirements."
CERTS = f"{AUTHORITY}/certs"
SETTINGS = bytes([5]) * 32


@pytest.fixture(scope="module")
def forge() -> Forge:
    """The platform that the authority runs on."""
    return Forge(now=NOW)


def spki(key: rsa.RSAPrivateKey) -> bytes:
    """DER of a key's public half."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signing_certificate(
    forge: Forge, key: rsa.RSAPrivateKey = AUTHORITY_KEY, named: rsa.RSAPrivateKey | None = None, **body: Any
) -> bytes:
    """A certificate as an authority's enclave makes it: for ``key``, with evidence that names ``named``."""
    document = RuntimeData(
        purpose=body.pop("purpose", Purpose.APP),
        image_id=body.get("mrenclave", IMAGE),
        nonce=b"",
        payload=vouched.statement(spki(named or key), body.pop("settings", SETTINGS)),
    ).encode()
    quote = forge.quote(forge.body(report_data=runtime_data.report_data(document), **body))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(forge.now - timedelta(days=1))
    builder = builder.not_valid_after(forge.now + timedelta(days=1))
    for oid, value in vouched.extensions(EvidenceBundle(quote, document, forge.launch)):
        held = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(held, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def attested(forge: Forge, **changes: Any) -> Attested:
    """The authority, by its image."""
    given: dict[str, Any] = {
        "url": AUTHORITY,
        "roots": (forge.authority.root_pem().decode(),),
        "identity": ByImages((IMAGE.hex(),)),
        "levels": ("process",),
        "settings": (SETTINGS.hex(),),
        **changes,
    }
    return Attested(**given)


def vault(
    forge: Forge,
    certificate: bytes,
    authority: Authority | None = None,
    endorse: Callable[[bytes], Collateral | None] | None = None,
) -> World:
    """A vault whose host hands out ``certificate`` as the authority's, with one exportable key."""
    host = Host()
    host.documents = {CERTS: json.dumps(jwks(x5c=[b64.encode(certificate)])).encode()}
    good = forge.collateral()
    world = World(
        (authority or attested(forge),),
        clock=FixedClock(forge.now),
        host=host,
        endorse=endorse or (lambda quote: good),
    )
    world.exportable()
    return world


def refused(answer: httpx.Response) -> tuple[str, str]:
    """The content of a refused release: its message, and the reason."""
    assert answer.status_code == 403, answer.text
    error = answer.json()["error"]
    assert error["innererror"] == {"code": "AccessDenied"}
    return error["message"], error["details"][0]["message"]


def closed_to(key: rsa.RSAPrivateKey, value: str) -> bool:
    """Whether a release cannot be opened with a key."""
    try:
        opened(value, key=key)
    except (ValueError, InvalidUnwrap):
        return True
    return False


def test_an_attested_authority(forge: Forge) -> None:
    """A key goes to an environment that an attested authority certifies, and opens only there."""
    world = vault(forge, signing_certificate(forge))
    answer = world.release(sign(claims()))
    assert answer.status_code == 200, answer.text
    assert opened(answer.json()["value"])
    assert closed_to(OTHER_KEY, answer.json()["value"])
    by_signer = attested(forge, identity=BySigner(SIGNER.hex(), 7, 3))
    assert vault(forge, signing_certificate(forge), by_signer).release(sign(claims())).status_code == 200


INSTANCE = f"{AUTHORITY}/instances/p1"


def test_an_instance_of_an_attested_authority(forge: Forge) -> None:
    """Where a key's policy names an instance, its keys are held to what the authority's are, and count."""
    world = vault(forge, signing_certificate(forge))
    world.host.documents[f"{INSTANCE}/certs"] = world.host.documents[CERTS]
    world.exportable("of-it", policy(authority=INSTANCE + "/"))
    token = sign(claims(iss=INSTANCE))
    assert opened(world.release(token, "of-it").json()["value"])
    assert refused(world.release(sign(claims()), "of-it"))[0] == UNMET
    assert world.host.fetched == [f"{INSTANCE}/certs", CERTS]
    # A key whose policy only names the service does not depend on instances: none is requested.
    message, why = refused(world.release(token))
    assert (message, why) == (
        UNVERIFIED,
        f"token iss: want one of this vault's authorities, got '{INSTANCE}'",
    )
    assert refused(world.release(sign(claims(iss=f"{AUTHORITY}/instances/p2")), "of-it"))[0] == UNVERIFIED
    assert len(world.host.fetched) == 2


def test_an_instance_whose_keys_are_no_enclaves(forge: Forge) -> None:
    """Keys that the host makes up for an instance count no more than those for the service."""
    world = vault(forge, signing_certificate(forge))
    world.host.documents[f"{INSTANCE}/certs"] = World().host.documents[CERTS]
    world.exportable("of-it", policy(authority=INSTANCE))
    message, why = refused(world.release(sign(claims(iss=INSTANCE)), "of-it"))
    assert message == UNVERIFIED
    assert why.startswith(f"keys of {INSTANCE}: no key of the authority is its enclave's own: ")


def test_an_instance_made_anew_under_the_same_name(forge: Forge) -> None:
    """Once a vault saw the keys of a recreated instance, tokens of the earlier one are refused."""
    world = vault(forge, signing_certificate(forge))
    world.host.documents[f"{INSTANCE}/certs"] = world.host.documents[CERTS]
    world.exportable("of-it", policy(authority=INSTANCE))
    old = sign(claims(iss=INSTANCE))
    assert world.release(old, "of-it").status_code == 200
    anew = b64.encode(signing_certificate(forge, OTHER_KEY))
    world.host.documents[f"{INSTANCE}/certs"] = json.dumps(jwks(kid="two", x5c=[anew])).encode()
    world.clock.at += timedelta(seconds=31)
    assert world.release(sign(claims(iss=INSTANCE), {"kid": "two"}, OTHER_KEY), "of-it").status_code == 200
    world.clock.at += timedelta(seconds=31)
    assert refused(world.release(old, "of-it")) == (
        UNVERIFIED,
        f"token kid: want a key of {INSTANCE}, got 'one'",
    )


def test_instances_of_authorities_that_have_none() -> None:
    """Under an authority that is pinned, or fetched insecurely, a longer path is somebody else."""
    for authority in (PINNED, InsecureFetched(AUTHORITY)):
        world = World((authority,))
        world.exportable("of-it", policy(authority=INSTANCE))
        message, why = refused(world.release(sign(claims(iss=INSTANCE)), "of-it"))
        assert (message, why[:15]) == (UNVERIFIED, "token iss: want")


def test_instances_of_many_names(forge: Forge) -> None:
    """However many instances the policies name, a vault keeps the keys of so many."""
    certificate = signing_certificate(forge)
    given = {"life_seconds": 3600, "refetch_seconds": 30}
    document = json.dumps(jwks(x5c=[b64.encode(certificate)])).encode()
    good, authorities = forge.collateral(), (attested(forge),)
    ring = Keyring(authorities, lambda url: document, lambda quote: good, **given)
    names = [f"{AUTHORITY}/instances/{number}" for number in range(MOST_INSTANCES + 3)]
    for name in names:
        assert ring.key(name, "one", forge.now, lambda: names).kid == "one"
    assert len(ring._instances) == MOST_INSTANCES


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"mrenclave": bytes(32)}, "measurement: want"),
        ({"flags": DEBUG}, "debug: want off, got on"),
        ({"purpose": Purpose.CLI}, "purpose: want app, got cli"),
    ],
)
def test_an_authority_of_another_measurement(forge: Forge, body: dict[str, Any], why: str) -> None:
    """Another image, a debug build, or a quote that its host requested, is not accepted as an authority."""
    world = vault(forge, signing_certificate(forge, **body))
    message, detail = refused(world.release(sign(claims())))
    assert message == UNVERIFIED
    assert detail.startswith(f"keys of {AUTHORITY}: no key of the authority is its enclave's own: ")
    assert why in detail


@pytest.mark.parametrize("told", [None, bytes(32)])
def test_an_authority_that_was_told_something_else(forge: Forge, told: bytes | None) -> None:
    """The right code with roots chosen by its operator, or unknown ones, is not accepted as an authority."""
    certificate = signing_certificate(forge, settings=told)
    message, detail = refused(vault(forge, certificate).release(sign(claims())))
    assert message == UNVERIFIED
    assert detail == (
        f"keys of {AUTHORITY}: no key of the authority is its enclave's own: settings: want "
        f"{SETTINGS.hex()}, got {'none' if told is None else told.hex()}"
    )
    anything = attested(forge, settings=(), insecure_any_settings=True)
    assert vault(forge, certificate, anything).release(sign(claims())).status_code == 200


def test_an_older_authority(forge: Forge) -> None:
    """An authority by its signer must be of the least version, and of the product."""
    for wrong in (BySigner(SIGNER.hex(), 7, 4), BySigner(SIGNER.hex(), 8, 3), BySigner("ab" * 32, 7, 3)):
        world = vault(forge, signing_certificate(forge), attested(forge, identity=wrong))
        assert refused(world.release(sign(claims())))[0] == UNVERIFIED


def test_an_authority_on_another_platform(forge: Forge) -> None:
    """A platform whose root nobody pinned, and a level that nobody accepts, are refused."""
    stranger = Forge(now=NOW)
    world = vault(forge, signing_certificate(stranger), endorse=lambda quote: stranger.collateral())
    assert refused(world.release(sign(claims())))[0] == UNVERIFIED
    world = vault(forge, signing_certificate(forge), attested(forge, levels=("hardware-sgx",)))
    assert "protection: want" in refused(world.release(sign(claims())))[1]


def test_a_host_that_swaps_the_keys(forge: Forge) -> None:
    """The host's keys, bare or next to evidence of another key, sign nothing that is accepted."""
    forged = sign(claims(), key=OTHER_KEY)
    bare = World().host  # hands out a certificate without evidence
    for certificate in (
        b64.decode(json.loads(bare.documents[CERTS])["keys"][0]["x5c"][0], "x5c"),
        signing_certificate(forge, OTHER_KEY, named=AUTHORITY_KEY),
    ):
        assert refused(vault(forge, certificate).release(forged))[0] == UNVERIFIED


def test_a_host_that_hides_behind_a_good_certificate(forge: Forge) -> None:
    """A good certificate with the host's own key next to it in the JWK is one key too many."""
    world = vault(forge, signing_certificate(forge))
    entry = jwks(x5c=[b64.encode(signing_certificate(forge))], **public_jwk(OTHER_KEY))
    world.host.documents[CERTS] = json.dumps(entry).encode()
    for key in (OTHER_KEY, AUTHORITY_KEY):
        assert refused(world.release(sign(claims(), key=key)))[0] == UNVERIFIED


def test_a_host_that_keeps_collateral_back(forge: Forge) -> None:
    """Without collateral, with another platform's, or with what is long out of date, nothing is believed."""
    other, old = Forge(now=NOW), Forge(now=forge.now - timedelta(days=90))
    for given in (None, other.collateral(), old.collateral()):
        world = vault(forge, signing_certificate(forge), endorse=lambda quote, given=given: given)
        assert refused(world.release(sign(claims())))[0] == UNVERIFIED


def test_a_host_that_says_why_it_has_no_collateral(forge: Forge) -> None:
    """The reason appears in the refusal as foreign text: bounded, one line, no control characters."""

    def nothing(kind: str, evidence: bytes) -> Endorsed:
        return Endorsed(b"", "CRL: expired\x1b[2J\nHTTP/1.1 200 OK" + "!" * 10_000, "kluis platform start")

    def endorse(quote: bytes) -> Collateral:
        return Collateral.from_json(endorsement(nothing, "sgx", quote))

    message, why = refused(vault(forge, signing_certificate(forge), endorse=endorse).release(sign(claims())))
    assert message == UNVERIFIED
    said = "the host reports, unverified: CRL: expired?[2J?HTTP/1.1 200 OK!"
    assert said in why
    assert why.isprintable()
    assert why.endswith("!; fix on the host: kluis platform start")
    assert len(why) < 600


def test_a_host_that_plays_dead_or_mad(forge: Forge) -> None:
    """Whatever the host hands out instead of keys, a release is refused and nothing breaks."""
    for document in (
        b"",
        b"[" * 200_000,
        b"\xff" * 100,
        b'{"keys":[{}]}',
        b" " * (1 << 20),
        b'{"keys":{"a":1}}',
    ):
        world = vault(forge, signing_certificate(forge))
        world.host.documents[CERTS] = document
        assert refused(world.release(sign(claims())))[0] == UNVERIFIED


def test_another_set_of_authorities() -> None:
    """An operator cannot restart a vault under another authority."""
    world = World((PINNED,))
    world.exportable()
    evil = Pinned("https://evil.example", json.dumps({"keys": [public_jwk(OTHER_KEY, kid="one")]}))
    same_name = Pinned(AUTHORITY, json.dumps({"keys": [public_jwk(OTHER_KEY, kid="one")]}))
    for other in ((PINNED, evil), (evil,), (), (same_name,), (InsecureFetched(AUTHORITY),)):
        with pytest.raises(PolicyError) as refused_start:
            World(other, storage=world.storage, maker=world.maker)
        assert re.match(r"authorities: want [01]\.", refused_start.value.message)
        assert ", got " in refused_start.value.message
    again = World((PINNED,), storage=world.storage, maker=world.maker)
    assert opened(again.release(sign(claims())).json()["value"])


def test_another_issuer_of_tokens() -> None:
    """An operator cannot restart a vault under another issuer and become its officer."""
    world = World((PINNED,))
    world.exportable()
    for other in (
        {"maker": TokenMaker(audience=RESOURCE, key=1)},
        {"maker": world.maker, "insecure_changing_issuer": True},
    ):
        with pytest.raises(PolicyError) as refused_start:
            World((PINNED,), storage=world.storage, **other)
        assert refused_start.value.message.startswith("issuer: want ")
    loose = World((PINNED,), insecure_changing_issuer=True)
    again = World((PINNED,), storage=loose.storage, insecure_changing_issuer=True)
    assert again.ok("GET", "/configuration", roles=(), api=None)["issuer"]["insecureChanging"] is True


def test_a_vault_without_keys_guards_nothing_and_becomes_another() -> None:
    """Before its first key a vault may be started otherwise; who runs it as it was keeps nothing any more."""
    second = Pinned("https://second.example", json.dumps({"keys": [public_jwk(OTHER_KEY, kid="one")]}))
    before = World((PINNED,))
    after = World((PINNED, second), storage=before.storage, maker=before.maker)
    late = before.send("POST", "/keys/k/create", {"kty": "EC"})
    assert late.status_code == 503
    assert (
        late.json()["error"]["message"] == "vault: was started with other authorities or another issuer since"
    )
    after.exportable()
    with pytest.raises(PolicyError, match=r"^authorities: want 1\.jwks "):
        World((PINNED,), storage=before.storage, maker=before.maker)


def test_a_vault_that_had_a_key_is_what_it_was_for_ever() -> None:
    """Who purges every key finds that it is still the same vault: its backups, and its record, are there."""
    world = World((PINNED,))
    world.exportable()
    world.ok("DELETE", "/keys/k")
    world.ok("DELETE", "/deletedkeys/k")
    with pytest.raises(PolicyError, match=r"^authorities: want 0"):
        World((), storage=world.storage, maker=world.maker)


def test_an_authority_that_the_policy_does_not_name() -> None:
    """One authority of the vault is not accepted for a policy that names another."""
    second = Pinned("https://second.example", json.dumps({"keys": [public_jwk(OTHER_KEY, kid="one")]}))
    world = World((PINNED, second))
    world.exportable()
    message, why = refused(world.release(sign(claims(iss="https://second.example"), key=OTHER_KEY)))
    assert (message, why) == (UNMET, "want https://attest.example, got https://second.example")
    # Nor with the other's key under its own name.
    assert refused(world.release(sign(claims(), key=OTHER_KEY)))[0] == UNVERIFIED


def test_another_environment() -> None:
    """An environment with another measurement learns which claim was wrong, and gets nothing."""
    world = World()
    world.exportable(rule=policy({"claim": "x-ms-sevsnpvm-hostdata", "equals": "ab" * 32}))
    message, why = refused(world.release(sign(claims(**{"x-ms-sevsnpvm-hostdata": "cd" * 32}))))
    assert (message, why) == (UNMET, f"want {'ab' * 32}, got {'cd' * 32}")
    quiet = World(explain=False)
    quiet.exportable()
    answer = quiet.release(sign(claims(**{"x-ms-sevsnpvm-is-debuggable": True})))
    assert answer.json() == {
        "error": {"code": "Forbidden", "message": UNMET, "innererror": {"code": "AccessDenied"}}
    }


def test_a_stolen_token_is_of_no_use_elsewhere() -> None:
    """A replayed token releases what only its environment can open, on record."""
    world = World()
    world.exportable()
    token = sign(claims())
    for _ in range(2):
        assert closed_to(OTHER_KEY, world.release(token).json()["value"])
    entries = world.ok("GET", "/audit", roles=("Kluis Auditor",))["value"]
    assert [entry["operation"] for entry in entries] == ["create", "release", "release"]
    assert entries[1]["target"] == entries[2]["target"]
    late = FixedClock(world.clock.at + timedelta(hours=9))
    world.clock.at = late.at
    assert refused(world.release(token))[0] == UNVERIFIED


def test_a_key_in_the_token_that_the_authority_did_not_see() -> None:
    """Keys are only released to the environment's key in the place where the authority puts it."""
    world = World()
    world.exportable()
    own = {"keys": [public_jwk(OTHER_KEY, kid="mine", use="enc")]}
    for members in (
        {"x-ms-runtime": None, "keys": own["keys"]},
        {"x-ms-runtime": None, "x-ms-isolation-tee": {"x-ms-runtime": own}},
        {"x-ms-runtime": None, "x-ms-inittime": own},
        {"x-ms-runtime": None, "x-ms-runtime.keys": own["keys"]},
    ):
        assert refused(world.release(sign(claims(**members))))[0] == UNMET


def test_a_release_is_on_record_or_does_not_happen() -> None:
    """If the host does not keep the record, the key stays."""
    world = World()
    world.exportable()

    kept = world.storage.update

    def lost(work: Any, *meanwhile: Any) -> Any:
        kept(work, *meanwhile)  # all is done that is done while a host writes
        raise PolicyError("the host keeps nothing")

    world.storage.update = lost
    answer = world.release(sign(claims()))
    assert answer.status_code == 403
    assert "value" not in answer.json()


def test_the_record_shows_what_was_changed() -> None:
    """A change, removal or reordering of entries is detected with the head's hash."""
    world = World()
    world.exportable()
    for _ in range(3):
        world.release(sign(claims()))
    told = world.ok("GET", "/audit", roles=("Kluis Auditor",))
    entries = [Entry(**entry) for entry in told["value"]]

    def whole(several: list[Entry]) -> bool:
        previous = "0" * 64
        for at, entry in enumerate(several, 1):
            if (entry.sequence, entry.previous, entry.hash) != (at, previous, entry.compute_hash()):
                return False
            previous = entry.hash
        return previous == told["head"]["hash"]

    assert whole(entries)
    stated = said(told["statement"])["audit"]
    assert (stated["sequence"], stated["hash"]) == (4, told["head"]["hash"])
    assert not whole(entries[:-1])
    assert not whole(entries[1:])
    assert not whole([entries[1], entries[0], *entries[2:]])
    changed = json.loads(json.dumps(told["value"][1])) | {"subject": "nobody"}
    assert not whole([entries[0], Entry(**changed), *entries[2:]])


def test_who_may_not_release_hears_nothing_of_keys_or_policies() -> None:
    """Without the permission a release gives the same answer for any name, without a reason."""
    world = World()
    world.exportable()
    body = {"target": sign(claims(**{"x-ms-sevsnpvm-is-debuggable": True}))}
    answers = {
        world.send("POST", f"/keys/{name}/release", body, roles=("Key Vault Reader",)).text
        for name in ("k", "none")
    }
    assert len(answers) == 1
    assert "x-ms-" not in answers.pop()


def test_keys_that_do_not_leave() -> None:
    """A disabled key, and one that is not exportable, are not released to anyone."""
    world = World()
    world.ok("POST", "/keys/stays/create", {"kty": "RSA-HSM"})
    world.exportable()
    world.ok("PATCH", "/keys/k/", {"attributes": {"enabled": False}})
    token = {"target": sign(claims())}
    roles = ("Key Vault Crypto Service Release User",)
    assert world.refused("POST", "/keys/stays/release", token, roles=roles) == (
        403,
        "Forbidden",
        "Operation release is not allowed on a key that is not exportable.",
        "KeyNotExportable",
    )
    assert world.refused("POST", "/keys/k/release", token, roles=roles) == (
        403,
        "Forbidden",
        "Operation release is not allowed on a disabled key.",
        "KeyDisabled",
    )


def test_a_vault_speaks_for_itself() -> None:
    """The answer is signed by the certificate that it carries: another key put in is found out."""
    world = World()
    world.exportable()
    value = world.release(sign(claims()), nonce="n" * 20).json()["value"]
    head, body, signature = value.split(".")
    header = json.loads(b64.decode_url(head, "header"))
    certificate = x509.load_der_x509_certificate(b64.decode(header["x5c"][0], "x5c"))
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(b64.decode_url(signature, "s"), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert said(value)["request"]["nonce"] == "n" * 20
