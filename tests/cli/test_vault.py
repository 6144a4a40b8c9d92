"""``kluis vault`` writes down the vault that it met, and no other; a host finds that vault's evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.enclave import ExpectedVault, vouching
from kluis.errors import UnavailableError, UsageError
from kluis.evidence import Collateral
from kluis.formats.runtime_data import Purpose
from kluis.host.vaults import vault_evidence
from kluis.services.clock import SystemClock
from kluis.services.running.serving import Serving
from kluis.tee.platform.client import Platform
from tests.cli.quotes import Kluis
from tests.services.running.conftest import running, state

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
    said = kluis("vault", url, "--root", root, "--image-id", image, "-o", tmp_path / "vault.json")
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
    again = kluis("vault", url, "--root", root, "--image-id", image)
    assert ExpectedVault.parse(again.out.encode()) == found


@pytest.mark.slow
def test_another(kluis: Kluis, running: Serving, state: Path, root: Path) -> None:
    """Another image, another service and nobody are refused, each for what it is."""
    url = running.addresses["keyvault"]
    image = running.images["keyvault"].image_id.hex()
    other = kluis("vault", url, "--root", root, "--image-id", "00" * 32)
    assert other.code == 6
    assert "measurement: want 00000000..0000, got" in other.err
    attestation = running.addresses["attestation"]
    wrong = kluis("vault", attestation, "--root", root, "--image-id", image)
    assert wrong.code == 6
    nobody = kluis("vault", "https://localhost:1", "--root", root, "--image-id", image)
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
    said = kluis("vault", url, "--root", folder / "root.pem", "--image-id", image)
    assert said.code == 2
    assert said.err.splitlines()[0] == f"kluis: error: {message}"
