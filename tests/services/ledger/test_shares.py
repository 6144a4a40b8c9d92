"""What members' shares of a ledger open, and what they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.cli.ledger import explain, reading
from kluis.errors import AuthenticityError, UnavailableError
from kluis.formats.ccf import tables
from kluis.formats.ccf.shares import PastSecret, RecoveryShares
from kluis.ledger import audit, shares
from kluis.ledger.secrets import Secrets
from kluis.services.ledger import settings
from tests.keys import rsa_key
from tests.services.keyvault.memory import MemoryStorage
from tests.services.ledger.members import Member
from tests.services.ledger.world import MEMBER, MEMBER_RSA, Identity, Served, World, run


def test_they_open_entries_for_reading_and_continue_no_ledger(tmp_path: Path) -> None:
    """From the files: as many members as the threshold open every entry, also those before a rekey."""
    other = Identity("member1")
    keys = {MEMBER: MEMBER_RSA, other: rsa_key(20_001)}
    pem = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    founders = tuple(
        settings.Member(certificate=who.pem, encryption_key=key.public_key().public_bytes(*pem).decode())
        for who, key in keys.items()
    )
    world = World(tmp_path / "ledger", open=False, settings={"members": founders, "recovery_threshold": 2})

    async def write(served: Served) -> None:
        members = [Member(served, who) for who in keys]
        for member in members:
            assert (await member.acknowledge()).status_code == 204

        async def decide(name: str, **arguments: str) -> None:
            body = json.dumps({"actions": [{"name": name, "args": arguments}]}).encode()
            proposed = await members[0].send("members/proposals:create", "proposal", body)
            for member in members:
                decided = await member.vote(proposed.json()["proposalId"])
            assert decided.json()["proposalState"] == "Accepted"

        await decide("transition_service_to_open", next_service_identity=served.node.service.certificate)
        await served.write("before")
        await decide("trigger_ledger_rekey")
        await served.write("after")

    run(world, write)
    sources = reading.sources(world.folder)
    store = explain.tables(sources)
    found, rekeyed = store.begin(), store.table(tables.PAST_SECRETS)
    past = PastSecret.parse(found.get(tables.PAST_SECRETS, tables.ONLY) or b"", "past secret")
    written = RecoveryShares.parse(found.get(tables.RECOVERY_SHARES, tables.ONLY) or b"", "shares")
    assert rekeyed is not None
    assert past.encrypted is not None
    assert past.version is not None
    version = rekeyed.version(tables.ONLY) + 1
    opened = [shares.decrypt_share(written.shares[who.id], key, "share") for who, key in keys.items()]

    with pytest.raises(AuthenticityError):
        shares.unwrap(written, shares.combine(opened[:1]), version, "secret")
    latest = shares.unwrap(written, shares.combine(opened), version, "secret")
    first = latest.unwrap(past.encrypted, past.version, "past secret")
    report = audit.audit(sources, secrets=Secrets([first, latest]))
    assert report.ok, report.failures
    assert any(one.message.startswith(f"{report.entries} entries opened") for one in report.findings)

    world.storage = MemoryStorage()
    with pytest.raises(UnavailableError, match="there is a log, and no service in the store"):
        run(world, write)
