"""What the service gives is verified offline, as its relying parties do: with its keys, and nothing else."""

from __future__ import annotations

import pytest

from kluis.appraisal.tokens import attestation_token, token_keys
from kluis.appraisal.tokens.attestation_token import Expected, Form
from kluis.errors import AuthenticityError
from tests.evidence.forge import NOW
from tests.services.attestation.test_attesting import sgx, snp
from tests.services.attestation.world import URL, World


@pytest.mark.parametrize(("kind", "body"), [("SgxEnclave", sgx()), ("SevSnpVm", snp())])
def test_tokens(world: World, kind: str, body: dict[str, object]) -> None:
    """A token in Azure's shape and an EAR hold under the published keys, for this issuer, with the nonce."""
    keys = tuple(token_keys.read(world.ask("GET", "/certs").content, certified=True).values())
    body = body | {"nonce": "12345678"}
    azure = world.attest(kind, body).json()["token"].encode()
    found = attestation_token.verify(azure, keys, Expected(URL, None, "12345678"), NOW)
    assert found.form is Form.AZURE
    ear = world.attest(kind, body, headers={"Accept": "application/eat+jwt"})
    assert ear.status_code == 200, ear.text
    read = attestation_token.verify(ear.content, keys, Expected(None, None, "12345678"), NOW)
    assert read.form is Form.EAR_JWT
    with pytest.raises(AuthenticityError, match="token nonce: want '87654321', got "):
        attestation_token.verify(ear.content, keys, Expected(None, None, "87654321"), NOW)
