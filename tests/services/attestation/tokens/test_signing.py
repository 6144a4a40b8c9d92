"""Signing keys: made once, published before they sign, kept while their tokens live, and certified by
evidence.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest
from cryptography.x509 import load_der_x509_certificate

from kluis.appraisal.tokens import token_keys, vouching
from kluis.enclave.attestation import Evidence
from kluis.enclave.store import SealedStore
from kluis.formats import x509
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.hashes import sha256
from kluis.services.attestation.tokens import signing
from tests.appraisal.tokens.test_vouching import wanted
from tests.evidence.forge import IMAGE, Forge
from tests.services.attestation.test_attesting import sgx
from tests.services.attestation.world import DOCUMENTS, INTEL, URL, VERSION, World, error_of, header_of

HOUR = timedelta(hours=1)


def keys(world: World) -> list[dict[str, Any]]:
    """The published keys."""
    found: list[dict[str, Any]] = world.ask("GET", "/certs").json()["keys"]
    return found


def kid(world: World) -> str:
    """The key that signs now."""
    found: str = header_of(world.attest("SgxEnclave", sgx()).json()["token"])["kid"]
    return found


def rotate(world: World, **body: Any) -> Any:
    """Ask for a new key."""
    return world.owner("POST", "/certs:rotate", json=body)


def test_a_published_key(world: World) -> None:
    """It has a certificate named after the instance, the hash of its key as its name, and its numbers."""
    (key,) = keys(world)
    assert set(key) == {"kid", "kty", "x5c", "alg", "use", "n", "e"}
    certificate = load_der_x509_certificate(base64.b64decode(key["x5c"][0]))
    assert certificate.subject.rfc4514_string() == certificate.issuer.rfc4514_string() == f"CN={URL}"
    spki = x509.parse(base64.b64decode(key["x5c"][0]), "certificate").spki
    assert key["kid"] == base64.b64encode(sha256(spki)).decode()
    assert kid(world) == key["kid"]


def test_published_before_it_signs(world: World) -> None:
    """A new key is listed at once and signs an hour later; the old one stays listed for its tokens' lives."""
    old = kid(world)
    listed = rotate(world).json()["keys"]
    new = listed[0]["kid"]
    assert [key["kid"] for key in listed] == [new, old]
    assert kid(world) == old
    world.clock.at += HOUR
    assert kid(world) == new
    world.clock.at += timedelta(days=365)
    assert {old, new} <= {key["kid"] for key in keys(world)}
    world.clock.at += timedelta(days=2)
    assert old not in {key["kid"] for key in keys(world)}


def test_no_more_are_published_than_a_reader_takes(world: World) -> None:
    """Rotating again and again takes no key away whose tokens are about, and leaves what a vault can read."""
    token = world.attest("SgxEnclave", sgx()).json()["token"]
    for number in range(2, signing.MOST_KEYS + 1):
        assert len(rotate(world).json()["keys"]) == number
    status, code, message = error_of(rotate(world))
    assert (status, code) == (400, "InvalidOperation")
    assert message.startswith("signing keys: want at most 24 that are published, got one more; the oldest's ")
    assert world.verified(token)["iss"] == URL
    assert len(token_keys.read(world.ask("GET", "/certs").content, certified=True)) == signing.MOST_KEYS
    new = rotate(world, signs_in_seconds=0).json()["keys"][0]["kid"]
    assert (kid(world), len(keys(world))) == (new, signing.MOST_KEYS)
    world.clock.at += timedelta(days=400)
    assert len(rotate(world).json()["keys"]) == 2


def test_at_once(world: World) -> None:
    """A key that must not sign one more token is replaced at once; its old tokens still verify."""
    token = world.attest("SgxEnclave", sgx()).json()["token"]
    new = rotate(world, signs_in_seconds=0).json()["keys"][0]["kid"]
    assert kid(world) == new
    assert world.verified(token)["iss"] == URL
    assert error_of(rotate(world, signs_in_seconds=-1))[1] == "InvalidParameter"


def test_by_age(world: World) -> None:
    """A key that has signed for 90 days is followed by another, made once however many ask."""
    old = kid(world)
    world.clock.at += timedelta(days=20)
    assert kid(world) == old
    world.clock.at += timedelta(days=71)
    world.settings = world.settings
    now, engine = world.clock.at, World(world.storage)
    engine.clock.at = now
    asking = [Thread(target=each.ask, args=("GET", "/health/ready")) for each in (world, engine) * 3]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    world.clock.at += timedelta(seconds=31)
    assert len(keys(world)) == 2


def test_two_services_over_one_store(storage: SealedStore) -> None:
    """Instances of one service sign with one key, and hear of a new one within its time of publication."""
    one, two = World(storage), World(storage)
    assert kid(one) == kid(two)
    new = rotate(one).json()["keys"][0]["kid"]
    two.clock.at += timedelta(seconds=31)
    assert new in {key["kid"] for key in keys(two)}
    two.clock.at += HOUR
    assert kid(two) == new


def test_a_private_key_is_forgotten(world: World) -> None:
    """A key that no longer signs is only a certificate, in the store too."""
    from kluis.services.attestation.tokens.settings_digest import digest
    from kluis.services.attestation.tokens.signing import TABLE

    place = f"default/{digest(world.settings, world.issuer).hex()}"
    kid(world)
    rotate(world)
    before = len(world.storage.get(TABLE, place) or b"")
    world.clock.at += HOUR + timedelta(minutes=5)
    kid(world)
    world.clock.at += HOUR
    kid(world)
    assert len(world.storage.get(TABLE, place) or b"") < before - 1000


def test_never_shown(world: World) -> None:
    """No key is in what is shown of its parts."""
    from kluis.services.attestation.tokens.signing import SigningKeys
    from kluis.services.attestation.tokens.tokens import Tokens

    made = SigningKeys(world.settings, world.storage, lambda _: None, world.issuer)
    key = made.current("default", URL, world.clock.at)
    assert repr(key) == f"SigningKey({key.kid!r})"
    assert "PRIVATE" not in repr(Tokens(world.settings, made))
    stored = signing._Kept("k", b"certificate", b"PRIVATE", 0, 0)
    assert repr(signing._Ring(1, (stored,))) == "_Ring(version=1, keys=(_Kept('k'),))"


def vouching_on(platform: Forge) -> Callable[[bytes], Evidence]:
    """An enclave on a platform."""

    def vouch(payload: bytes) -> Evidence:
        document = RuntimeData(purpose=Purpose.APP, image_id=IMAGE, nonce=b"", payload=payload).encode()
        quote = platform.quote(platform.body(report_data=runtime_data.report_data(document)))
        return Evidence(quote, document, platform.launch)

    return vouch


def test_evidence_of_a_platform_that_was_certified_anew(storage: SealedStore) -> None:
    """A service that restarts on a platform with another certificate gets new evidence for its keys."""
    (first,) = keys(World(storage, vouch=vouching_on(INTEL)))
    (same,) = keys(World(storage, vouch=vouching_on(INTEL)))
    assert same == first
    renewed = Forge(now=INTEL.now)
    world = World(storage, vouch=vouching_on(renewed))
    (other,) = keys(world)
    assert (other["kid"], other["n"]) == (first["kid"], first["n"])
    found = vouching.check(
        base64.b64decode(other["x5c"][0]),
        anchors=renewed.anchors,
        collateral=renewed.collateral(),
        policy=wanted(),
        now=world.clock.at,
    )
    assert key_id_of(found.spki) == kid(world) == first["kid"]


def key_id_of(spki: bytes) -> str:
    """How a key is named."""
    return base64.b64encode(sha256(spki)).decode()


def test_vouched_for_by_the_enclave(storage: SealedStore) -> None:
    """The certificate carries the enclave's evidence, and a relying party can check it."""
    world = World(storage, vouch=vouching_on(INTEL))
    der = base64.b64decode(keys(world)[0]["x5c"][0])
    found = vouching.check(
        der, anchors=INTEL.anchors, collateral=DOCUMENTS, policy=wanted(), now=world.clock.at
    )
    assert found.spki == x509.parse(der, "certificate").spki


@pytest.mark.parametrize("path", ["/certs", "/.well-known/openid-configuration"])
def test_anyone_may_know(world: World, path: str) -> None:
    """Keys and metadata need neither a token nor an api-version."""
    assert world.ask("GET", path).status_code == 200
    assert world.ask("GET", f"{path}?{VERSION}").status_code == 200


def test_metadata(world: World) -> None:
    """The metadata is Azure's, in its words."""
    found = world.ask("GET", "/.well-known/openid-configuration").json()
    assert found.pop("claims_supported")[:3] == ["cnf", "nonce", "x-ms-ver"]
    assert found == {
        "response_types_supported": ["token", "none"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "revocation_endpoint": f"{URL}/revoke",
        "issuer": URL,
        "jwks_uri": f"{URL}/certs",
    }


def test_a_long_address(storage: SealedStore) -> None:
    """An address longer than a common name may be is a common name all the same, for clients compare it."""
    url = "https://" + "a" * 60 + ".example:8443"
    (key,) = keys(World(storage, url=url))
    name = x509.parse(base64.b64decode(key["x5c"][0]), "certificate").common_name
    assert name == url


def test_baselines(world: World) -> None:
    """SGX has baselines, the default one selected; no other TEE has any."""
    found = world.ask("GET", f"/tcbbaselines/SgxEnclave?{VERSION}").json()["tcbBaselines"]
    assert [each["tcbIdentifier"] for each in found] == ["15", "14", "13", "12", "11", "10"]
    assert [each["isSelectedTcb"] for each in found] == [False] * 5 + [True]
    assert found[4] == {
        "tcbIdentifier": "11",
        "tcbEvaluationDataNumber": 11,
        "tcbReleaseDate": "2021-06-08T00:00:00",
        "minimumPswLinuxVersion": "2.13.3",
        "minimumPswWindowsVersion": "2.13.100.2",
        "isSelectedTcb": False,
    }
    answer = world.ask("GET", f"/tcbbaselines/SevSnpVm?{VERSION}")
    assert error_of(answer)[2] == "TCB baselines: want SgxEnclave or OpenEnclave, got SevSnpVm"


def test_instances_that_come_and_go_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held of many instances has a bound, and threads that are there at the same time do not fail."""
    from kluis.services.attestation.tokens import signing

    monkeypatch.setattr(signing, "MOST_HELD", 2)
    made, failed = signing.SigningKeys(world.settings, world.storage, lambda _: None, world.issuer), []

    def keep() -> None:
        try:
            for number in range(10_000):
                with made._lock:
                    made._keep(str(number % 3), signing._Ring(1, ()), world.clock.at)
        except RuntimeError as error:
            failed.append(error)

    def let_go() -> None:
        for number in range(30_000):
            made.let_go(str(number % 3))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(3):
            threads = [Thread(target=each) for each in (keep, let_go, keep, let_go)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failed == []
    assert len(made._held) <= 2
