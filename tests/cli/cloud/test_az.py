"""``kluis az``: Azure's command line, unmodified, against a local cloud."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.azure_cli.listing import environment
from tests.clouds import Cloud


@pytest.fixture(scope="module")
def az(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A local cloud with a vault, and a home in which Azure's command line finds no configuration."""
    folder = environment()
    if folder is None:
        pytest.skip("Azure's command line is not installed: scripts/setup.sh clients")
    home = tmp_path_factory.mktemp("home")
    cloud.run("down")
    before = dict(cloud.environment)
    cloud.environment |= {"KLUIS_AZ": str(folder / "bin" / "az"), "HOME": str(home)}
    assert cloud.run("up", "-d", "--port", "0", "attestation", "keyvault").code == 0
    assert cloud.run("wait").code == 0
    yield cloud
    cloud.run("down")
    cloud.environment = before


@pytest.mark.slow
def test_a_key_by_az(az: Cloud) -> None:
    """The first call signs in; keys are made and listed; the user's own configuration does not appear."""
    url = az.run("env", "--json").value["KLUIS_KEYVAULT_URL"]
    made = az.run("az", "keyvault", "key", "create", "--vault-name", "127", "-n", "mine", "--kty", "EC")
    assert made.code == 0, made.err
    assert made.value["key"]["kid"].startswith(f"{url}/keys/mine/")
    listed = az.run("az", "keyvault", "key", "list", "--id", url, "--query", "[].name", "-o", "tsv")
    assert (listed.code, listed.out) == (0, "mine\n"), listed.err
    assert not (Path(az.environment["HOME"]) / ".azure").exists()
    assert (az.path / "az" / "azureProfile.json").exists()
    refused = az.run("az", "keyvault", "key", "show", "--vault-name", "127", "-n", "none")
    assert refused.code == 3
    assert "KeyNotFound" in refused.err


def test_no_az(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program, the error names how to install it."""
    monkeypatch.setitem(cloud.environment, "KLUIS_AZ", os.devnull)
    said = cloud.run("--json", "az", "version")
    assert said.code == 7
    assert json.loads(said.err)["code"] == "no_az"
