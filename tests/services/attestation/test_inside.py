"""The service as its enclave builds it: from JSON, and nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from kluis.errors import UnavailableError, UsageError
from kluis.services.attestation.inside import build
from kluis.services.hosting import Place
from tests.evidence.forge import NOW
from tests.services.asking import ask
from tests.services.attestation.world import INTEL, MAKER, URL
from tests.services.web.issuer import FixedClock


def place(storage: SealedStore) -> Place:
    """A place whose host gives nothing."""

    def nothing(*_: Any) -> Any:
        raise UnavailableError("nothing")

    def none(*_: Any) -> Any:
        return None

    return Place(
        storage=storage, clock=FixedClock(NOW), fetch=nothing, certify=nothing, endorse=nothing,
        published=none, vouch=none,
    )  # fmt: skip


def document(**attestation: Any) -> bytes:
    """Settings as the host writes them."""
    issuer = MAKER.issuer()
    made = {
        "issuer": {"url": issuer.url, "audiences": issuer.audiences, "keys": issuer.keys},
        "attestation": {
            "url": URL,
            "roots": [{"pem": base64.b64encode(INTEL.authority.root_pem()).decode(), "level": None}],
            "collateral": [base64.b64encode(INTEL.collateral().to_json()).decode()],
            **attestation,
        },
    }
    return json.dumps(made).encode()


def test_built_from_json(storage: SealedStore) -> None:
    """Roots, documents and the issuer are taken from the document; the service answers."""
    from tests.services.attestation.test_attesting import sgx

    app = build(document(), place(storage))
    answer = ask(app, "POST", "/attest/SgxEnclave?api-version=2022-08-01", base=URL, json=sgx())
    assert answer.status_code == 200
    path = "/policies/SgxEnclave?api-version=2022-08-01"
    headers = MAKER.header("Attestation Reader", now=NOW)
    assert ask(app, "GET", path, base=URL, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"other": 1}, "attestation settings: Object contains unknown field `other` - at `$.attestation`"),
        ({"url": "http://localhost"}, "attestation.url: want https://host[:port], got 'http://localhost'"),
        ({"token_seconds": 0}, "attestation.token_seconds: want at least 1, got 0"),
        (
            {"shipped_roots": False, "roots": []},
            "attestation.roots: want at least 1 where the shipped ones are off, got 0",
        ),
        (
            {"secure_boot_variables": {"MOK": []}},
            "attestation.secure_boot_variables: want PK, KEK, db, dbx, got 'MOK'",
        ),
        ({"custom_claim_prefix": ""}, "attestation.custom_claim_prefix: want text, got none"),
        ({"compliance": {"cvm_id_keys": ["AAAA"]}}, "compliance.cvm_id_keys: want 48 bytes, got 3"),
    ],
)
def test_settings_that_are_none(storage: SealedStore, settings: dict[str, Any], message: str) -> None:
    """What cannot be meant is refused at the start, and named."""
    with pytest.raises(UsageError) as refused:
        build(document(**settings), place(storage))
    assert refused.value.message == message
