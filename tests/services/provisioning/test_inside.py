"""The service as its enclave builds it: from settings and what its host brings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.collateral import Cache
from kluis.collateral.paths import vendor
from kluis.enclave.store.sealed import SealedStore
from kluis.errors import FormatError, KluisError, UsageError
from kluis.services.hosting import Place
from kluis.services.provisioning.inside import app, build
from tests.services.provisioning.serving import MAKER
from tests.services.web.issuer import FixedClock


def place(storage: SealedStore, folder: Path) -> Place:
    """Its host: a store, a clock, and a folder of vendors' documents."""

    def nothing(*_: Any) -> Any:
        raise AssertionError("the provisioning service asks for nothing else")

    return Place(
        storage=storage,
        clock=FixedClock(),
        fetch=nothing,
        certify=nothing,
        endorse=nothing,
        published=vendor(Cache(folder)),
        vouch=nothing,
    )


def test_built(storage: SealedStore, tmp_path: Path) -> None:
    """Settings as ``kluis serve`` writes them make a service, which gets vendors' documents from its host."""
    issuer = MAKER.issuer()
    settings = {
        "issuer": {"url": issuer.url, "audiences": issuer.audiences, "keys": issuer.keys},
        "level": "process-user",
    }
    service = build(json.dumps(settings).encode(), place(storage, tmp_path))

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(service), base_url="https://pcs.example", timeout=120
        ) as client:
            return await client.get(path)

    assert b"BEGIN CERTIFICATE" in asyncio.run(ask("/kluis/root")).content
    assert asyncio.run(ask("/vcek/v1/Milan/cert_chain")).status_code == 404
    assert asyncio.run(ask("/health/ready")).json() == {"status": "ready"}
    assert app.name == "provisioning"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (b"{}x", "provisioning settings: JSON is malformed: trailing characters (byte 3)"),
        (b'{"levels":1}', "provisioning settings: Object contains unknown field `levels`"),
        (b'{"level":"vm"}', "authority.level: want one of process, process-user, got vm"),
    ],
)
def test_settings_that_cannot_be_meant(
    storage: SealedStore, tmp_path: Path, settings: bytes, message: str
) -> None:
    """Settings of another shape, or of a level that no authority has, are refused, with the member's name."""
    with pytest.raises(UsageError) as caught:
        build(settings, place(storage, tmp_path))
    assert caught.value.message == message


def test_an_authority_keeps_its_level(storage: SealedStore, tmp_path: Path) -> None:
    """An authority that was made at one level is not served at another."""
    here = place(storage, tmp_path)
    build(b'{"level":"process"}', here)
    with pytest.raises(KluisError) as caught:
        build(b'{"level":"process-user"}', here)
    assert isinstance(caught.value, FormatError)
    assert caught.value.message == (
        "authority.level: want process-user, as the settings say, got process, as it was made"
    )


def test_keys_stay_in_the_store(storage: SealedStore, tmp_path: Path) -> None:
    """The authority's keys are in the sealed store, and in no word that could be shown."""
    from kluis.services.provisioning import records

    build(b"{}", place(storage, tmp_path))
    data = storage.get("authority", "own")
    assert data is not None
    assert repr(records.decode(data, records.Authority)) == "<authority>"
