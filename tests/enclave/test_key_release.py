"""A key that is released to a run opens in that run, and nothing that the host makes up does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kluis import evidence
from kluis.enclave import Evidence, OpenedKey, VaultEvidence
from kluis.errors import AuthenticityError, RemoteError, UsageError
from kluis.evidence import Collateral, TrustAnchors
from kluis.formats.encoding import b64
from kluis.formats.kluis.released_key import ALGORITHMS
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, report_data
from kluis.host.proxy import EnclaveProxy
from kluis.testing.rehearsal import RehearsalPlatform
from tests.enclave.released import POLICY, ReleasingVault
from tests.evidence.forge import Forge
from tests.keys import rsa_key
from tests.services.web.issuer import NOW

Launch = Callable[..., EnclaveProxy]
APP = Path(__file__).parent / "releasing" / "app.py"


@pytest.fixture(scope="module")
def vault() -> ReleasingVault:
    """The expected one."""
    return ReleasingVault(Forge(now=NOW))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RemoteError) as raised:
        call()
    return raised.value.message


def test_offer(enclave: Launch, rehearsal_platform: RehearsalPlatform) -> None:
    """The offer is evidence of purpose release-key, of one RSA key a run, in the shape that services read."""
    running = enclave(APP)
    made: Evidence = running.offer(b"nonce")
    now = datetime.now(UTC)
    claims = evidence.verify(
        made.quote,
        anchors=TrustAnchors.from_pem(rehearsal_platform.authority.root_pem()),
        collateral=Collateral.from_json(json.dumps(rehearsal_platform.authority.collateral(now)).encode()),
        now=now,
    ).value
    assert claims.report_data == report_data(made.runtime_data)
    said = RuntimeData.parse(made.runtime_data)
    assert (said.purpose, said.nonce, said.image_id) == (Purpose.RELEASE_KEY, b"nonce", running.image_id)
    (key,) = said.keys
    assert (key["kty"], key["use"], key["key_ops"], key["e"]) == ("RSA", "enc", ["encrypt"], "AQAB")
    assert len(b64.decode_url(str(key["n"]), "n")) == 384
    members = json.dumps({each: key[each] for each in ("e", "kty", "n")}, separators=(",", ":"))
    assert key["kid"] == b64.encode_url(hashlib.sha256(members.encode()).digest())
    again = RuntimeData.parse(running.offer(b"").runtime_data)
    assert again.keys == said.keys
    assert RuntimeData.parse(enclave(APP).offer(b"").runtime_data).keys != said.keys


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_oct_key(enclave: Launch, vault: ReleasingVault, algorithm: str) -> None:
    """Bytes that an owner put into the vault are what the enclave has, by each mechanism."""
    running, kept = enclave(APP), vault.keep(b"\7" * 32)
    release = vault.release(running.offer(b""), enc=algorithm)
    assert running.opened(release, vault.brought(), vault.expected(), NOW) == ("k", "oct", kept)


def test_a_release_of_another_of_the_vaults_enclaves(enclave: Launch, vault: ReleasingVault) -> None:
    """Each enclave of a vault signs with a different key: a release by any of them opens."""
    running, kept = enclave(APP), vault.keep(b"\7" * 32)
    beside = ReleasingVault(vault.forge, storage=vault.world.storage, maker=vault.world.maker)
    assert beside.configuration["vault"] == vault.configuration["vault"]
    assert beside.configuration["signingCertificate"] != vault.configuration["signingCertificate"]
    release = beside.release(running.offer(b""))
    assert running.opened(release, vault.brought(), vault.expected(), NOW) == ("k", "oct", kept)
    collateral = VaultEvidence(collateral=vault.brought().collateral)
    assert running.opened(release, collateral, vault.expected(), NOW) == ("k", "oct", kept)


@pytest.mark.parametrize("kind", ["RSA", "EC"])
def test_a_private_key(enclave: Launch, vault: ReleasingVault, kind: str) -> None:
    """A private key opens as the PKCS#8 of the key that the vault shows."""
    asked = {
        "kty": f"{kind}-HSM",
        "attributes": {"exportable": True},
        "release_policy": {"data": b64.encode_url(POLICY)},
    }
    vault.world.ok("POST", f"/keys/{kind}/create", asked)
    running = enclave(APP)
    release = vault.release(running.offer(b""), kind)
    name, kty, _ = running.opened(release, vault.brought(), vault.expected(), NOW, kind)
    assert (name, kty) == (kind, kind)


def test_which_key(enclave: Launch, vault: ReleasingVault) -> None:
    """A key of another name, of another version or for another nonce is not the one that was wanted."""
    running, old = enclave(APP), vault.keep(b"\1" * 32, "which")
    vault.keep(b"\2" * 32, "which")
    versions = vault.world.ok("GET", "/keys/which/versions")["value"]
    release = vault.release(running.offer(b""), "which", nonce="n")
    given = (release, vault.brought(), vault.expected(), NOW)
    assert refused(lambda: running.opened(*given)) == (
        "AuthenticityError: released key name: want k, got which"
    )
    assert refused(lambda: running.opened(*given, "which", None, "m")) == (
        "FreshnessError: released key nonce: want 'm', got 'n'"
    )
    got = running.opened(*given, "which", None, "n")
    assert got[2] != old
    current = vault.world.ok("GET", "/keys/which")["key"]["kid"].rpartition("/")[2]
    first = next(v for v in (one["kid"].rpartition("/")[2] for one in versions) if v != current)
    assert running.opened(*given, "which", current) == got
    assert refused(lambda: running.opened(*given, "which", first)) == (
        f"AuthenticityError: released key version: want {first}, got {current}"
    )


def test_a_key_says_little() -> None:
    """A key's bytes are in no text of it; an oct key is not a private key; other bytes are refused."""
    key = OpenedKey("k", "1", "oct", b"secret bytes")
    assert repr(key) == "OpenedKey(name='k', version='1', kty='oct')"
    with pytest.raises(UsageError, match="released key k: want RSA or EC, got oct"):
        key.private_key()
    with pytest.raises(AuthenticityError, match=r"want an RSA or EC key in PKCS#8, got another"):
        OpenedKey("k", "1", "RSA", b"secret bytes").private_key()
    for made in (rsa_key(), ec.generate_private_key(ec.SECP256R1())):
        pkcs8 = made.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        assert OpenedKey("k", "1", "RSA", pkcs8).private_key().private_numbers() == made.private_numbers()  # type: ignore[attr-defined]
