"""``kluis serve``: settings of files and of options, as the services are told them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.cli import serve
from kluis.errors import EnclaveError, KluisError, UnavailableError, UsageError
from tests.evidence.tpm.forge import Maker

if TYPE_CHECKING:
    from kluis.services.running.serving import Serving


def test_settings_of_a_file_and_of_options(tmp_path: Path) -> None:
    """Options add to the lists of a settings file, and go over its other members."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"attestation": {"roots": [1], "location": "here"}, "provisioning": {"a": 1}}))
    options = {"attestation": {"roots": [2], "location": "there"}, "keyvault": {"b": 2}}
    assert serve._given(path, options) == {
        "attestation": {"roots": [1, 2], "location": "there"},
        "provisioning": {"a": 1},
        "keyvault": {"b": 2},
    }
    assert serve._given(None, {"keyvault": {}}) == {"keyvault": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "want settings by service, JSON"),
        ("[]", "want settings by service, JSON"),
        ('{"attestation": 1}', "want settings by service, JSON"),
        ("[" * 100_000, "want settings by service, JSON"),
        ('{"bank": {}}', "want settings of attestation, keyvault, provisioning, got 'bank'"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no settings by service is named with what it should be."""
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        serve._given(path, {})
    assert caught.value.message == f"{path}: {message}"


def test_issuers_of_tpms_are_a_chain(tmp_path: Path) -> None:
    """Every certificate of a file is an issuer; of a policy signer's file the first is the signer's."""
    maker, path = Maker(), tmp_path / "chain.pem"
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in (maker.ca, maker.root)))
    der = [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in (maker.ca, maker.root)]
    assert serve._attestation(None, None, [path], [path], None, False) == {
        "policy_signers": der[:1],
        "tpm_issuers": der,
    }
    path.write_text("no certificate")
    with pytest.raises(UsageError) as caught:
        serve._attestation(None, None, None, [path], None, False)
    assert caught.value.message == f"{path}: want a certificate, PEM"


def test_further_authorities(tmp_path: Path) -> None:
    """Authorities of files and those by URL alone are both told; a file that is no JSON is named."""
    path = tmp_path / "authority.json"
    path.write_text('{"type": "pinned"}')
    assert serve._authorities([path], ["https://a.example"]) == (
        {"type": "pinned"},
        {"type": "insecure_fetched", "url": "https://a.example"},
    )
    path.write_text("{")
    with pytest.raises(UsageError) as caught:
        serve._authorities([path], None)
    assert caught.value.message == f"{path}: want an authority, JSON"


class Running:
    """Stands where the services run: what it is told to raise, and which instances ended."""

    fleets = ()

    def __init__(self, turns: list[Exception | list[tuple[str, KluisError]]], asked: serve._Asked) -> None:
        self._turns, self._asked = turns, asked
        self.waits: list[list[tuple[str, KluisError]]] = []

    def hand_over(self) -> None:
        """Nobody waits."""

    def tend(self) -> list[tuple[str, KluisError]]:
        """What waits the next time; nothing after the last."""
        return self.waits.pop(0) if self.waits else []

    def mend(self) -> list[tuple[str, KluisError]]:
        """The next turn; after the last, the command is asked to stop."""
        turn = self._turns.pop(0)
        self._asked.stop = not self._turns
        if isinstance(turn, Exception):
            raise turn
        return turn


def watch(
    turns: list[Exception | list[tuple[str, KluisError]]], *waits: list[tuple[str, KluisError]]
) -> list[list[tuple[str, KluisError]]]:
    """Watch over them; what they were not asked for."""
    asked, wake = serve._Asked(), threading.Event()
    running = Running(turns, asked)
    running.waits.extend(waits)
    serve._watch(cast("Serving", running), wake, asked)
    return running.waits


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between turns."""
    monkeypatch.setattr(serve, "LOOK_SECONDS", 0.0)


def test_what_is_away_for_a_while_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A database that does not answer is told of once, and again only after it did."""
    away = UnavailableError("database: is away", code="store_database")
    watch([away, away, [], away, []])
    assert capsys.readouterr().err.count("kluis: error: database: is away") == 2


def test_enclaves_that_end_again_and_again_end_the_command() -> None:
    """The fifth end within minutes is raised; as many over a long time are not."""
    fault = EnclaveError("it stopped serving")
    with pytest.raises(EnclaveError, match="it stopped serving"):
        watch([[("keyvault", fault)]] * 5 + [[]])
    watch([[("keyvault", fault)]] * 4 + [[]])


def test_as_many_ends_over_a_long_time_are_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is made good, and nothing ends."""
    monkeypatch.setattr(serve, "FAULT_SECONDS", 0.0)
    watch([[("keyvault", EnclaveError("it stopped serving"))]] * 9)


def test_services_are_asked_to_do_what_is_due(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and then by the calendar of the command; what waits is told once, until it waits no more."""
    away = [("keyvault", UnavailableError("store: is away"))]
    assert watch([[]] * 3, away, away) == [away]
    monkeypatch.setattr(serve, "TEND_SECONDS", -1.0)
    assert watch([[]] * 5, away, away, [], away) == []
    line = "kluis: keyvault: what is due waits: store: is away"
    assert capsys.readouterr().err.count(line) == 3


def test_a_root_that_is_none_is_said_at_once(tmp_path: Path) -> None:
    """Before any image is built: a root that is not there, and a file that is no certificate."""
    missing, other = tmp_path / "missing.pem", tmp_path / "other.pem"
    other.write_text("no certificate")
    with pytest.raises(UsageError) as caught:
        serve._root(str(missing))
    assert caught.value.hint == f"kluis platform root -o {missing} writes this machine's"
    with pytest.raises(UsageError) as caught:
        serve._root(f"{other}=vtpm")
    assert caught.value.message == f"{other}: want a certificate, PEM"
    for level in ("foo", "process", ""):
        with pytest.raises(UsageError) as caught:
            serve._root(f"{other}={level}")
        assert caught.value.message.startswith(f"--root: {other}: want a level of none, vtpm, ")
        assert caught.value.message.endswith(f", got '{level}'")


def test_a_stop_before_anything_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM while images are built ends the command there, and does not wait until all is up."""

    @contextlib.contextmanager
    def building(*arguments: object) -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield pytest.fail("it went on")

    monkeypatch.setattr(serve, "serving", building)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        serve._run(cast("Any", None))
    assert signal.getsignal(signal.SIGTERM) is before
