"""``kluis ledger`` at a node: members found, open and govern a ledger by its commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kluis.services.clock import SystemClock
from kluis.services.ledger.settings import Member
from tests.cli.quotes import Kluis
from tests.services.ledger.listening import listening
from tests.services.ledger.world import World


class RealClock(SystemClock):
    """This machine's time, which certificates and requests are of."""


def _founded(tmp_path: Path, kluis: Kluis, *names: str) -> World:
    members = []
    for name in names:
        assert kluis("ledger", "init", name, "--out", tmp_path / name).code == 0
        folder = tmp_path / name
        members.append(
            Member(
                certificate=(folder / f"{name}_cert.pem").read_text(),
                encryption_key=(folder / f"{name}_enc_pubk.pem").read_text(),
            )
        )
    settings: dict[str, Any] = {"members": tuple(members), "principals": ()}
    return World(tmp_path / "ledger", clock=RealClock(), settings=settings)  # type: ignore[arg-type] # a clock


def test_members_open_a_ledger_and_rekey_it(tmp_path: Path, kluis: Kluis) -> None:
    """Two members: each acknowledges, one proposes, both vote; a ballot against leaves a proposal open."""
    world, service = _founded(tmp_path, kluis, "one", "two"), tmp_path / "service.pem"
    with listening(world) as url:
        first = kluis("ledger", "status", "--url", url, "--service-cert", tmp_path / "one/one_cert.pem")
        assert (first.code, "does not answer" in first.err) == (7, True)  # another root is trusted
        service.write_text(_service(world))
        at = ("--url", url, "--service-cert", service)
        as_one, as_two = (("--as", tmp_path / f"{name}/{name}") for name in ("one", "two"))
        early = kluis("ledger", "propose", "open", *at, *as_one)
        assert (early.code, "AuthorizationFailed" in early.err) == (6, True)
        for who in (as_one, as_two):
            assert "is active" in kluis("ledger", "ack", *at, *who).out
        proposed = json.loads(kluis("ledger", "propose", "open", *at, *as_one, "--json").out)
        assert proposed["state"] == "Open"
        ident = proposed["proposal"]
        against = json.loads(kluis("ledger", "vote", ident, *at, *as_one, "--against", "--json").out)
        assert against["state"] in ("Open", "Rejected")
        again = json.loads(kluis("ledger", "propose", "open", *at, *as_two, "--json").out)["proposal"]
        ballot = tmp_path / "ballot.js"
        ballot.write_text("export function vote (proposal) { return proposal.includes('open'); }")
        for who in (as_one, as_two):
            voted = kluis("ledger", "vote", again, *at, *who, "--ballot", ballot, "--json")
        assert json.loads(voted.out)["state"] == "Accepted"
        status = json.loads(kluis("ledger", "status", *at, "--save", tmp_path / "s.pem", "--json").out)
        assert (status["status"], len(status["members"])) == ("Open", 2)
        assert (tmp_path / "s.pem").read_text() == service.read_text()
        rekeyed = kluis("ledger", "rekey", *at, *as_one)
        assert "state    Open" in rekeyed.out
    assert kluis("ledger", "verify", world.folder, "--service-cert", service).code == 0


def _service(world: World) -> str:
    from kluis.services.ledger import kept

    found = kept.find(world.storage)
    assert found is not None
    return found.certificate


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("init", "a/b"), "name: want letters, digits, - and _"),
        (("status", "--url", "https://localhost:1"), "want --service-cert or --policy, one of the two"),
        (
            ("up", "--state", "s", "--witness-every", "soon"),
            "--witness-every: want seconds, as 1s",
        ),
        (("up", "--state", "s", "--user", "x=King"), "--user: want PEM=Reader"),
        (("up", "--state", "s", "--member", "none.pem"), "none.pem"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    argv: tuple[str, ...], problem: str, kluis: Kluis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started or written."""
    monkeypatch.chdir(tmp_path)
    said = kluis("ledger", *argv)
    assert (said.code, problem in said.err) == (2, True), said.err
    assert not any(tmp_path.iterdir())


def test_keys_that_are_there_stay(tmp_path: Path, kluis: Kluis) -> None:
    """A second init makes no other member under the same name; private files are their owner's alone."""
    assert kluis("ledger", "init", "bank", "--out", tmp_path / "bank").code == 0
    before = (tmp_path / "bank/bank_privk.pem").read_bytes()
    again = kluis("ledger", "init", "bank", "--out", tmp_path / "bank")
    assert (again.code, "has keys of bank already" in again.err) == (2, True)
    assert (tmp_path / "bank/bank_privk.pem").read_bytes() == before
    for name in ("bank_privk.pem", "bank_enc_privk.pem"):
        assert (tmp_path / "bank" / name).stat().st_mode & 0o077 == 0
