"""``kluis vault meet`` writes down the vault that it met, and no other; a host finds its evidence."""

from __future__ import annotations

import dataclasses
import shutil
import ssl
from pathlib import Path

import httpx
import pytest

from kluis.appraisal.tokens import vouching
from kluis.enclave import ExpectedVault
from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.evidence import Collateral
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host.vaults import vault_evidence
from kluis.serve.plan import Plan
from kluis.serve.start import Serving
from kluis.services.clock import SystemClock
from kluis.tee.platform.client import Platform
from tests.cli.quotes import Kluis
from tests.serve.conftest import running, state
from tests.serve.served import free_ports, serving_here

__all__ = ["running", "state"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """This machine's own."""
    (tmp_path / "root.pem").write_bytes(Platform.connect().root_pem())
    return tmp_path / "root.pem"


@pytest.mark.slow
def test_a_vault(kluis: Kluis, running: Serving, state: Path, root: Path, tmp_path: Path) -> None:
    """What is written names this vault, and its signing key is believed by it."""
    url, image = running.addresses["keyvault"], running.images["keyvault"].image_id.hex()
    said = kluis("vault", "meet", url, "--root", root, "--image-id", image, "-o", tmp_path / "vault.json")
    assert said.code == 0
    found = ExpectedVault.parse((tmp_path / "vault.json").read_bytes())
    assert said.out.splitlines()[0] == f"vault    {found.vault}"
    brought = vault_evidence(url, ca=state / "ca" / "root.pem")
    assert vouching.check(
        brought.certificate,
        anchors=found.anchors(),
        collateral=Collateral.from_json(brought.collateral),
        policy=found.policy(Purpose.APP),
        now=SystemClock().now(),
    ).spki
    path = running.images["keyvault"].path
    again = kluis("vault", "meet", url, "--root", root, "--image", path)
    assert ExpectedVault.parse(again.out.encode()) == found


@pytest.mark.slow
def test_another(kluis: Kluis, running: Serving, state: Path, root: Path) -> None:
    """Another image, another service and nobody are refused, each for what it is."""
    url = running.addresses["keyvault"]
    image = running.images["keyvault"].image_id.hex()
    other = kluis("vault", "meet", url, "--root", root, "--image-id", "00" * 32)
    assert other.code == 6
    assert "measurement: want 00000000..0000, got" in other.err
    attestation = running.addresses["attestation"]
    wrong = kluis("vault", "meet", attestation, "--root", root, "--image-id", image)
    assert wrong.code == 6
    own = running.images["attestation"].image_id.hex()
    service = kluis("vault", "meet", attestation, "--root", root, "--image-id", own)
    assert (service.code, service.err.splitlines()) == (
        3,
        [
            f"kluis: error: vault {attestation}: want a vault, got another service: it has no /configuration",
            "kluis: hint: kluis serve --json prints keyvault's address and image",
            "kluis: code: malformed (kluis explain malformed)",
        ],
    )
    nobody = kluis("vault", "meet", "https://localhost:1", "--root", root, "--image-id", image)
    assert nobody.code == 7
    assert nobody.err.startswith("kluis: error: vault https://localhost:1: ")
    with pytest.raises(UsageError, match="want certificates, PEM"):
        vault_evidence(url, ca="nowhere.pem")
    with pytest.raises(UnavailableError, match=r"vault: https://localhost:\d+ has none \(404\)"):
        vault_evidence(running.addresses["provisioning"], ca=state / "ca" / "root.pem")


@pytest.mark.parametrize(
    ("url", "image", "message"),
    [
        ("https://localhost:1", "00", "--image-id: want 64 hex digits, got '00'"),
        ("https://localhost:1", "zz" * 32, f"--image-id: want 64 hex digits, got '{'zz' * 32}'"),
        ("localhost:1", "00" * 32, "vault: want https://host[:port], got 'localhost:1'"),
    ],
)
def test_what_cannot_be_meant(kluis: Kluis, folder: Path, url: str, image: str, message: str) -> None:
    """Words that name no image and no vault are refused as words."""
    said = kluis("vault", "meet", url, "--root", folder / "root.pem", "--image-id", image)
    assert said.code == 2
    assert said.err.splitlines()[0] == f"kluis: error: {message}"


@pytest.mark.slow
def test_a_vault_that_is_started_otherwise(kluis: Kluis, state: Path, root: Path, tmp_path: Path) -> None:
    """Refused, written down, approved by an administrator of the vault that runs, and taken."""
    shutil.copytree(state / "images", tmp_path / "state" / "images")
    before = Plan(services=("attestation", "keyvault"), state=tmp_path / "state", port=free_ports())
    after = dataclasses.replace(before, given={"attestation": {"token_seconds": 600}})
    proposal, token = before.state / "proposed-trust.json", tmp_path / "token"
    with serving_here(before) as made:
        administrator = bearer(made, "administrator")
        key = f"{made.addresses['keyvault']}/keys/one/create?api-version=7.4"
        asked = {"headers": {"Authorization": f"Bearer {administrator}"}, "verify": context(made)}
        assert httpx.post(key, json={"kty": "EC", "crv": "P-256"}, **asked).status_code == 200
    with pytest.raises(PolicyError) as refused, serving_here(after):
        pass
    assert refused.value.message.startswith("keyvault: authorities: want 0.settings.0 ")
    assert refused.value.code == "vault_trust"
    assert f"kluis vault approve URL {proposal}" in str(refused.value.hint)
    assert "as before: --port, --name, --root, --token-seconds, --policy" in str(refused.value.hint)
    with serving_here(before) as made:
        url, image = made.addresses["keyvault"], made.images["keyvault"].image_id.hex()
        words = ("--root", root, "--image-id", image, "--token", token)
        token.write_text(bearer(made, "admin"))
        officer = kluis("vault", "approve", url, proposal, *words)
        assert (officer.code, "want" in officer.err and "Key Vault Administrator" in officer.err) == (6, True)
        token.write_text(bearer(made, "administrator") + "\n")
        said = kluis("vault", "approve", url, proposal, *words)
        assert said.code == 0, said.err
        assert said.out.startswith("authorities.0.settings.0\n  was  ")
        assert token.read_text().strip() not in said.out + said.err + officer.err
        assert kluis("vault", "withdraw", url, *words).code == 0
        assert kluis("vault", "approve", url, proposal, *words).code == 0
    with serving_here(after) as made:
        shown = httpx.get(
            f"{made.addresses['keyvault']}/configuration", verify=context(made), timeout=120
        ).json()
        assert (len(shown["earlier"]), shown["next"]) == (1, None)


def context(made: Serving) -> ssl.SSLContext:
    """Who trusts the services' own authority."""
    return ssl.create_default_context(cadata=made.authority.root_pem().decode())


def bearer(made: Serving, name: str) -> str:
    """A token of the development issuer."""
    assert made.issuer is not None
    form = {
        "grant_type": "client_credentials",
        "client_id": name,
        "client_secret": made.issuer.clients[name].secret,
        "scope": "https://vault.azure.net/.default",
    }
    url = f"{made.issuer.authorization}/oauth2/v2.0/token"
    return str(httpx.post(url, data=form, verify=context(made), timeout=120).json()["access_token"])


def test_an_image_file_stands_for_its_id(kluis: Kluis, folder: Path) -> None:
    """--image reads the id from the file; one of the two options is needed."""
    where = ("vault", "meet", "https://localhost:1", "--root", folder / "root.pem")
    said = kluis(*where)
    assert said.err.startswith("kluis: error: vault: want --image FILE or --image-id HEX, got neither\n")
    gone = kluis(*where, "--image", folder / "gone")
    assert gone.err.startswith(
        f"kluis: error: {folder / 'gone'}: cannot be read: No such file or directory\n"
    )
    assert "kluis: hint: kluis serve keyvault writes its image: start it first\n" in gone.err
    (folder / "noise").write_bytes(b"noise" * 100)
    assert kluis(*where, "--image", folder / "noise").code == 3
