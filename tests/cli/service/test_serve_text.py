"""The lines that ``kluis serve`` prints are Python that works where it is pasted."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from kluis.cli.service.serve_text import lines_of
from kluis.serve.issuer import Certificate, Registered
from kluis.serve.plan import Plan
from kluis.serve.start import Serving
from tests.serve.conftest import SERVICES, running, state
from tests.serve.issuer.asserting import Client, federated

__all__ = ["running", "state"]

pytestmark = pytest.mark.slow


def test_pasted(running: Serving, state: Path) -> None:
    """Every client that is made there reaches its service, and no line is wider than a terminal."""
    pytest.importorskip("azure.identity")
    text = lines_of(Plan(services=SERVICES, state=state, port=0, instances=2), running)
    said: dict[str, Any] = {}
    exec(text, said)  # what a person does with it
    assert list(said["keys"].list_properties_of_keys()) == []
    policy, token = said["policies"].get_policy("SgxEnclave")
    assert policy.startswith("version=")
    assert token.issuer == running.addresses["attestation"]
    port = running.addresses["keyvault"].rpartition(":")[2]
    assert f"#     --suffix-keyvault-dns .0.0.1:{port}\n" in text
    assert "# az keyvault key list --vault-name 127\n" in text
    one = lines_of(Plan(services=("keyvault",), state=state, port=0), running)
    assert "az cloud register" not in one
    assert re.findall(r"# pip install (.*)", one) == ["azure-identity", "azure-keyvault-keys"]
    assert max(len(line) for line in text.splitlines() if str(state) not in line) < 80


def test_what_was_registered_is_named(running: Serving, state: Path) -> None:
    """Each client that may come without a secret; and whom a managed identity is open to, with its roles."""
    url = "http://127.0.0.1:8447"
    shown = Registered(
        certificates=(("reader", Certificate.of_pem(Client("reader").pem, "reader.pem")),),
        federated=(federated(),),
    )
    plan = Plan(services=SERVICES, state=state, port=0, registered=shown, insecure_managed_identity=True)
    more = {**running.addresses, "insecure_managed_identity": url}
    text = lines_of(plan, dataclasses.replace(running, addresses=more))
    compile(text, "pasted", "exec")
    assert 'CertificateCredential(tenant, "reader"' in text
    assert 'WorkloadIdentityCredential(tenant_id=tenant, client_id="workload"' in text
    assert f"insecure: AZURE_POD_IDENTITY_AUTHORITY_HOST={url}" in text
    assert "every process of every user of this" in text
    assert "#     Key Vault Crypto Service Release User" in text
    assert max(len(line) for line in text.splitlines() if str(state) not in line) < 80
    assert "AZURE_POD_IDENTITY" not in lines_of(Plan(services=SERVICES, state=state, port=0), running)
