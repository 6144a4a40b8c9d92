"""Which vault is expected: written down, read strictly, and met by evidence or by certificate."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.appraisal import ByImage, BySigner
from kluis.enclave import CertifiedVault, ExpectedVault, VaultEvidence
from kluis.errors import AuthenticityError, FormatError, RemoteError
from kluis.formats.encoding import b64
from kluis.formats.kluis.released_key import ReleasedKey
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host.proxy import EnclaveProxy
from kluis.serve.front.authority import LoopbackAuthority
from tests.enclave.released import ReleasingVault
from tests.evidence.forge import Forge
from tests.keys import rsa_key
from tests.services.keyvault.world import VAULT, claims, policy, sign
from tests.services.web.issuer import NOW

APP = Path(__file__).parent / "releasing" / "app.py"
HOST = VAULT.removeprefix("https://").partition(":")[0]
KEY = rsa_key()
GOOD: dict[str, Any] = {
    "version": 1,
    "vault": "ab" * 32,
    "roots": [],
    "images": ["cd" * 32],
    "levels": ["process"],
}


def written(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_reads_what_it_writes() -> None:
    """A written file reads back, with the required enclave, by image or by signer."""
    made = ExpectedVault.parse(written())
    assert ExpectedVault.parse(made.encode()) == made
    wanted = made.policy(Purpose.APP)
    assert wanted.identity == ByImage(image_ids=frozenset({b"\xcd" * 32}))
    assert (wanted.debug, wanted.binding.nonce) == (False, False)  # type: ignore[union-attr]
    signed = ExpectedVault.parse(written(images=[], signer="01" * 32, product_id=102, min_svn=2))
    assert signed.policy(Purpose.CHANNEL, nonce=True).identity == BySigner(
        signers=frozenset({b"\1" * 32}), product_id=102, min_svn=2
    )


SHAPE = "expected vault: want version 1, a name of 32 bytes, and either images or a signer"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, SHAPE),
        ({"vault": "ab"}, SHAPE),
        ({"images": []}, SHAPE),
        ({"signer": "01" * 32}, SHAPE),
        ({"levels": ["best"]}, "expected vault: 'best' is not a valid ProtectionLevel"),
        ({"vaults": ""}, "expected vault: Object contains unknown field `vaults`"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    """What could not be meant, or be met, is refused when it is read."""
    with pytest.raises(FormatError) as refused:
        ExpectedVault.parse(written(**changes))
    assert refused.value.message == message


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReleasingVault, LoopbackAuthority]:
    """A vault whose signing key an authority certifies, and that authority."""
    authority = LoopbackAuthority.load_or_create(tmp_path_factory.mktemp("ca"), NOW)
    names = (HOST, "vault.example")
    vault = ReleasingVault(Forge(now=NOW), certify=lambda request: authority.sign(request, names, NOW))
    asked = {
        "kty": "RSA-HSM",
        "attributes": {"exportable": True},
        "release_policy": {"data": b64.encode_url(policy())},
    }
    vault.world.ok("POST", "/keys/k/create", asked)
    return vault, authority


def test_certified(
    enclave: Callable[..., EnclaveProxy], certified: tuple[ReleasingVault, LoopbackAuthority]
) -> None:
    """A release opens where its own certificate is the vault's, under the pinned root, in its time."""
    vault, authority = certified
    running = enclave(APP)
    said = claims(**{"x-ms-runtime": json.loads(running.offer(b"").runtime_data)})
    release = vault.world.release(sign(said)).json()["value"]
    assert running.opened_certified(release, VAULT, authority.root_pem(), NOW) == "RSAPrivateKey"
    for url, roots, now, message in (
        (VAULT, vault.forge.authority.root_pem(), NOW, f"x5c: want a certificate of {HOST} under the pinned"),
        (VAULT, authority.root_pem(), NOW + timedelta(days=4000), "x5c: want a certificate"),
        (
            "https://other.example",
            authority.root_pem(),
            NOW,
            f"vault: want https://other.example, got {VAULT}",
        ),
    ):
        with pytest.raises(RemoteError) as refused:
            running.opened_certified(release, url, roots, now)
        assert refused.value.message.startswith(f"AuthenticityError: released key {message}")


def test_a_name_that_is_not_in_the_certificate(
    enclave: Callable[..., EnclaveProxy], certified: tuple[ReleasingVault, LoopbackAuthority]
) -> None:
    """A release that names another host than its certificate does is refused."""
    vault, authority = certified
    said = claims(**{"x-ms-runtime": json.loads(enclave(APP).offer(b"").runtime_data)})
    read = ReleasedKey.parse(vault.world.release(sign(said)).json()["value"])
    read = dataclasses.replace(read, url="https://evil.example")
    expected = CertifiedVault("https://evil.example", authority.root_pem())
    with pytest.raises(AuthenticityError, match=r"want a certificate of evil\.example under the pinned root"):
        expected.signing_key(read, VaultEvidence(), NOW)
    odd = read.chain[0].replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12", 1)  # of no version
    assert odd != read.chain[0]
    read = dataclasses.replace(read, url=VAULT, chain=(odd, *read.chain[1:]))
    with pytest.raises(AuthenticityError, match="under the pinned root, got another"):
        CertifiedVault(VAULT, authority.root_pem()).signing_key(read, VaultEvidence(), NOW)


def test_a_key_that_is_not_what_its_vault_shows(
    enclave: Callable[..., EnclaveProxy], certified: tuple[ReleasingVault, LoopbackAuthority]
) -> None:
    """A vault that shows one public key and hands out another private one is not believed."""
    vault, authority = certified
    running = enclave(APP)
    said = claims(**{"x-ms-runtime": json.loads(running.offer(b"").runtime_data)})
    release = vault.world.release(sign(said)).json()["value"]
    payload = json.loads(b64.decode_url(release.split(".")[1], "payload"))
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(KEY, hashes.SHA256())
    chain = authority.sign(request.public_bytes(Encoding.PEM), (HOST,), NOW)
    ders = [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(chain)]
    header = {"x5c": [b64.encode(each) for each in ders]}
    given = (VAULT, authority.root_pem(), NOW)
    assert running.opened_certified(sign(payload, header, KEY), *given) == "RSAPrivateKey"
    payload["response"]["key"]["key"]["n"] = b64.encode_url(KEY.public_key().public_numbers().n.to_bytes(256))
    with pytest.raises(RemoteError) as refused:
        running.opened_certified(sign(payload, header, KEY), *given)
    assert refused.value.message == (
        "AuthenticityError: released key: is not the private half of the key that it shows"
    )
