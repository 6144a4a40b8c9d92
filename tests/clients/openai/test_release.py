"""The model's key comes from a key service, which releases it only to the enclave, and to no host."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.enclave import Evidence
from kluis.testing.rehearsal import RehearsalPlatform
from tests.clients.openai.serving import KEY, MISSING, Service, serving, write_project
from tests.enclave.released import ReleasingVault
from tests.evidence.forge import Forge

pytestmark = pytest.mark.skipif(bool(MISSING), reason="onnxruntime is not installed: scripts/setup.sh test")


@pytest.fixture(scope="module")
def vault() -> ReleasingVault:
    """The vault that the image expects, with the model's key."""
    made = ReleasingVault(Forge(now=datetime.now(UTC)))
    made.keep(KEY, "model-key")
    made.keep(bytes(32), "other")
    return made


def brought(vault: ReleasingVault) -> dict[str, str]:
    """The vault's evidence, as a host sends it."""
    evidence = vault.brought()
    parts = {"certificate": evidence.certificate, "collateral": evidence.collateral}
    return {name: base64.b64encode(part).decode() for name, part in parts.items()}


def offer_of(client: Any) -> Evidence:
    """The enclave's offer."""
    parts = {name: base64.b64decode(part) for name, part in client.get("/model/offer").json().items()}
    return Evidence(**parts)


def put(service: Service, body: dict[str, str]) -> tuple[int, str]:
    """Send a release: the status, and the model or the reason."""
    with service.client() as client:
        answer = client.put("/model/release", json=body)
        said = answer.json()
        return answer.status_code, said.get("model_id") or said["error"]["message"]


@pytest.mark.slow
def test_a_released_key(tmp_path: Path, rehearsal_platform: RehearsalPlatform, vault: ReleasingVault) -> None:
    """A release for this run opens the model. One of another key, run or vault does not, and states why."""
    app = write_project(tmp_path / "project")
    app.with_name("vault.json").write_bytes(vault.expected())
    with serving(app, rehearsal_platform) as service:
        with service.client() as client:
            offer = offer_of(client)
        assert KEY not in json.dumps(vault.release(offer, "model-key")).encode()
        wrong = put(service, {"release": vault.release(offer, "other"), **brought(vault)})
        assert wrong == (403, "released key name: want model-key, got other")
        other = ReleasingVault(Forge(now=datetime.now(UTC)))
        other.keep(KEY, "model-key")
        status, why = put(service, {"release": other.release(offer, "model-key"), **brought(other)})
        assert (status, why.startswith("released key vault: want")) == (403, True), why
        status, model = put(service, {"release": vault.release(offer, "model-key"), **brought(vault)})
        assert status == 200, model
        with service.client() as client:
            assert client.get("/v1/models").status_code == 200
    with serving(app, rehearsal_platform) as service:  # a host presents an old release to a later run
        status, why = put(service, {"release": vault.release(offer, "model-key"), **brought(vault)})
        assert (status, "this run's key" in why) == (403, True), why
