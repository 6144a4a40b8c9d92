"""Clocks that jump: of a relying party, of a host, and of a machine. Afterwards everything is as before."""

from __future__ import annotations

import ast
import dataclasses
import socket
import threading
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kluis.errors import FreshnessError, UnavailableError
from kluis.evidence import Claims, Collateral, Verifier
from kluis.formats.kluis.processor_port import CERTIFICATES
from kluis.tee.platform.root import session
from kluis.tee.platform.root.session import Root
from kluis.tee.vm.processor import answer, answering, kept, load_or_create
from tests.authority.amd.chips import chip, launch
from tests.evidence.forge import NOW
from tests.evidence.machine import MachineForge
from tests.meta.tree import modules, parse

YEAR = timedelta(days=365)
FORGE = MachineForge()


class Jumping(datetime):
    """A clock that shows what a test sets it to."""

    at: ClassVar[datetime] = NOW

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        """What it is set to."""
        return cls.at


def test_a_relying_partys() -> None:
    """A verifier that has seen evidence refuses it at a time when it is not valid, and no longer."""
    verifier, quote, collateral = Verifier(FORGE.anchors), FORGE.inside.quote(), FORGE.collateral()

    def judge(now: datetime) -> Claims:
        return verifier.verify(quote, collateral=collateral, now=now).value

    first = judge(NOW)
    for jump in (2 * YEAR, -YEAR, 20 * YEAR, timedelta(days=-1)):
        with pytest.raises(FreshnessError):
            judge(NOW + jump)
        assert judge(NOW) == first


def test_a_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated processor's list is of the time of each request: a wrong clock leaves nothing behind."""
    monkeypatch.setattr(answering, "datetime", Jumping)
    monkeypatch.setattr(session, "datetime", Jumping)
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=answer, args=(theirs, FORGE.processor, launch()), daemon=True)
    thread.start()
    document = FORGE.configuration().runtime_data()
    with ours, ours.makefile("rb") as answers:
        for jump in (timedelta(), 3 * YEAR, timedelta(), -YEAR, timedelta(days=1)):
            now = Jumping.at = NOW + jump
            ours.sendall(CERTIFICATES)
            chain, crl = (answers.read(int.from_bytes(answers.read(4), "little")) for _ in range(2))
            parts = {"report": FORGE.report(document), "certificates": chain, "crl": crl}
            endorsement = FORGE.endorsement(document=document, **parts)
            inside = Collateral.from_json(_root().collateral())
            collateral = dataclasses.replace(inside, endorsement=endorsement)
            if jump < timedelta():
                with pytest.raises(FreshnessError, match="is not valid before"):
                    FORGE.verify(collateral=collateral, now=now)
            else:
                assert FORGE.verify(collateral=collateral, now=now).machine is not None
    thread.join(60)


def _root() -> Root:
    made: Any = Root
    return made("process", None, FORGE.inside.authority, None, None, bytes(32))


def test_a_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform's collateral is of the time of each request: a jump back leaves none of the future."""
    monkeypatch.setattr(session, "datetime", Jumping)
    root = _root()
    for jump in (timedelta(), 3 * YEAR, timedelta(hours=1), timedelta()):
        Jumping.at = NOW + jump
        found = dataclasses.replace(
            Collateral.from_json(root.collateral()),
            endorsement=FORGE.endorsement(crl=FORGE.processor.crl(Jumping.at)),
        )
        assert FORGE.verify(collateral=found, now=Jumping.at).machine is not None


def test_a_processor_that_a_wrong_clock_dated(tmp_path: Path) -> None:
    """Its evidence would be refused everywhere: no machine starts, and the error names both times."""
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    folder = tmp_path / "processor"
    kept.save(chip(now=now + 30 * YEAR), folder)
    with pytest.raises(UnavailableError) as caught:
        load_or_create(folder, now)
    assert caught.value.code == "processor_clock"
    assert caught.value.message == (
        f"{folder}: emulated processor: is valid from 2056-05-24T11:55:00Z to 2066-05-22T11:55:00Z, "
        "and the clock shows 2026-06-01T12:00:00Z"
    )
    assert caught.value.hint is not None
    assert str(folder) in caught.value.hint
    kept.save(chip(now=now), folder)
    assert load_or_create(folder, now).chip_id == chip().chip_id


WALL = {"cli/cloud/watch.py"}
"""It states times, and waits for none."""


def test_no_wait_follows_the_clock() -> None:
    """Limits of waits are measured by the monotonic clock, which does not jump."""
    found = {
        str(module)
        for module in modules()
        for node in ast.walk(parse(module))
        if isinstance(node, ast.Attribute)
        and node.attr in ("time", "time_ns")
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
    }
    assert found == WALL
