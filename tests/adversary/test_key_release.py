"""The host of an enclave that keys are released to: whatever it hands in but the real release is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.enclave import VaultEvidence
from kluis.errors import RemoteError
from kluis.formats.encoding import b64
from kluis.formats.kluis.runtime_data import RuntimeData
from kluis.host.proxy import EnclaveProxy
from kluis.services.keyvault.release import wrapping
from kluis.testing.plugin import enclave, rehearsal_platform
from tests.enclave.released import ReleasingVault
from tests.evidence.forge import Forge
from tests.keys import rsa_key
from tests.services.keyvault.world import certificate, sign
from tests.services.web.issuer import NOW

__all__ = ["enclave", "rehearsal_platform"]

APP = Path(__file__).parents[1] / "enclave" / "releasing" / "app.py"
HOSTS = rsa_key()


@pytest.fixture(scope="module")
def vault() -> ReleasingVault:
    """The owner's, with the owner's key."""
    made = ReleasingVault(Forge(now=NOW))
    made.keep(b"\7" * 32)
    return made


@pytest.fixture
def running(enclave: Callable[..., EnclaveProxy]) -> EnclaveProxy:
    """The enclave, whose image names the owner's vault."""
    return enclave(APP)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RemoteError) as raised:
        call()
    return raised.value.message


def parts(release: str) -> tuple[dict[str, object], dict[str, object]]:
    """Header and payload."""
    header, payload, _ = release.split(".")
    return json.loads(b64.decode_url(header, "header")), json.loads(b64.decode_url(payload, "payload"))


def forged(running: EnclaveProxy, release: str, material: bytes) -> dict[str, object]:
    """The payload of a release, with the host's own key wrapped to the enclave in place of the owner's."""
    jwk = RuntimeData.parse(running.offer(b"").runtime_data).keys[0]
    n = int.from_bytes(b64.decode_url(str(jwk["n"]), "n"), "big")
    to = rsa.RSAPublicNumbers(65537, n).public_key()
    _, payload = parts(release)
    key = payload["response"]["key"]["key"]  # type: ignore[index]
    sealed = {
        "schema_version": "1.0",
        "header": {"kid": jwk["kid"], "alg": "dir", "enc": wrapping.DEFAULT},
        "ciphertext": b64.encode_url(wrapping.wrap(material, to, wrapping.DEFAULT)),
    }
    key["key_hsm"] = b64.encode_url(json.dumps(sealed).encode())
    return payload


def test_the_hosts_own_key(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """The host wraps a key that it knows, and signs that itself: the enclave never works with it."""
    release = vault.release(running.offer(b""))
    made = forged(running, release, b"\1" * 32)
    header, _ = parts(release)
    own = sign(made, {**header, "x5c": [b64.encode(certificate(HOSTS))]}, HOSTS)
    assert refused(lambda: running.opened(own, vault.brought(), vault.expected(), NOW)) == (
        "AuthenticityError: released key: is not signed by the key it should be"
    )
    # Nor with a certificate of the host's, in the release or next to it: it carries no evidence.
    brought = VaultEvidence(certificate(HOSTS), vault.brought().collateral)
    named = {**header, "x-kluis-certificate": b64.encode(certificate(HOSTS))}
    bare = {name: value for name, value in header.items() if name != "x-kluis-certificate"}
    for head, beside in ((named, vault.brought()), (bare, brought)):
        given = (sign(made, head, HOSTS), beside, vault.expected(), NOW)
        assert refused(lambda given=given: running.opened(*given)).startswith(  # type: ignore[misc]
            "FormatError: vouched certificate: want extension"
        )


def test_a_changed_release(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """A release of the vault with another key in it, under the vault's own signature, is refused."""
    release = vault.release(running.offer(b""))
    head, _, signature = release.split(".")
    payload = b64.encode_url(json.dumps(forged(running, release, b"\1" * 32)).encode())
    changed = f"{head}.{payload}.{signature}"
    assert refused(lambda: running.opened(changed, vault.brought(), vault.expected(), NOW)) == (
        "AuthenticityError: released key: is not signed by the key it should be"
    )


def test_any_byte_of_a_release(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """No byte of a release can be changed: in each part, here and there, one is."""
    release = vault.release(running.offer(b""))
    for at in range(5, len(release), len(release) // 23):
        bad = release[:at] + ("A" if release[at] != "A" else "B") + release[at + 1 :]
        with pytest.raises(RemoteError):
            running.opened(bad, vault.brought(), vault.expected(), NOW)


def test_a_vault_of_the_hosts(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """The host runs a genuine vault, of the same image, with a key of that name: it is not the owner's."""
    other = ReleasingVault(vault.forge)
    other.keep(b"\1" * 32)
    release = other.release(running.offer(b""))
    said = refused(lambda: running.opened(release, other.brought(), vault.expected(), NOW))
    want, got = (each.configuration["vault"] for each in (vault, other))
    assert said == f"AuthenticityError: released key vault: want {want}, got {got}"


def test_a_vault_of_another_image(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """A vault that names itself as the owner's, in an enclave of the host's own making, is refused."""
    release = vault.release(running.offer(b""))
    expected = vault.expected(images=("00" * 32,))
    said = refused(lambda: running.opened(release, vault.brought(), expected, NOW))
    assert said.startswith("PolicyError: ")
    assert "measurement: want" in said


def test_a_vault_on_a_platform_of_the_hosts(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """A platform under a root that the image does not name is not believed."""
    release = vault.release(running.offer(b""))
    elsewhere = Forge(now=NOW).authority.root_pem().decode()
    said = refused(lambda: running.opened(release, vault.brought(), vault.expected(roots=(elsewhere,)), NOW))
    assert said.startswith("AuthenticityError: ")


def test_another_runs_release(
    running: EnclaveProxy, enclave: Callable[..., EnclaveProxy], vault: ReleasingVault
) -> None:
    """A key released to an earlier run names that run, and opens in no other."""
    release = vault.release(enclave(APP).offer(b""))
    own = RuntimeData.parse(running.offer(b"").runtime_data).keys[0]["kid"]
    assert refused(lambda: running.opened(release, vault.brought(), vault.expected(), NOW)).startswith(
        f"AuthenticityError: released key recipient: want {own}, this run's key, got "
    )


def test_an_older_release_to_this_run(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """A release that was kept is not the answer to a nonce that the enclave made since."""
    older = vault.release(running.offer(b""), nonce="first")
    given = (vault.brought(), vault.expected(), NOW, "k", None)
    assert running.opened(older, *given, "first")
    assert refused(lambda: running.opened(older, *given, "second")) == (
        "FreshnessError: released key nonce: want 'second', got 'first'"
    )


def test_another_statement_of_the_vaults(running: EnclaveProxy, vault: ReleasingVault) -> None:
    """The vault signs other things with the same key, a key's attestation among them: none is a release."""
    shown = vault.world.ok("GET", "/keys/k/attestation")["attributes"]["attestation"]
    statement = b64.decode_url(shown["publicKeyAttestation"], "statement").decode()
    said = refused(lambda: running.opened(statement, vault.brought(), vault.expected(), NOW))
    assert said.startswith("FormatError: released key.payload")
