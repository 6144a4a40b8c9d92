"""Run ``kluis demo``: the main job on real patients, then attacks by everyone who tries to get at them."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import signal
import time
from typing import Any

from kluis.cleanroom.agreement.exchange import Challenge, Offer, Release
from kluis.cleanroom.receipts.receipt import CheckedReceipt, check_receipt, check_result
from kluis.cleanroom.receipts.results import open_result
from kluis.cleanroom.running import conduct
from kluis.cli.demo import limits, process, room
from kluis.cli.demo import text as demo_text
from kluis.cli.demo.stage import Calls, Stage
from kluis.cli.demo.text import conclude, print_each, say
from kluis.cli.room.room_text import format_result, summary_of
from kluis.host.proxy import EnclaveProxy
from kluis.tee import places
from kluis.tee.platform import start

CLAIM = """

Of about {persons:,} people whose outcome after five years is known, about {with_outcome} died. AUC is the \
probability that the model ranks a person who died above a person who did not; pairs with nearly equal \
scores count in part. Each person was scored by models fitted without that person ({folds} folds). Secret \
noise hides what one person changes; the intervals include it.

In this cohort and for this model the laboratory's values {verdict}: for the same people the AUC differs \
by {gained}. This proves nothing about other models, other clinics, or causes. The laboratory has no deaths \
in its data, so it could not have fitted a model by itself. People followed for less than five years are \
left out."""


def play(brief: bool) -> None:
    """Run the demo and print each step.

    Args:
        brief: only the main job, without the attackers.

    Raises:
        InternalError: an attack succeeded that must not.
    """
    began = time.monotonic()
    facts: dict[str, Any] = {}
    running = [each for each in places.candidates() if start.answers(each)]
    say(demo_text.paragraph(demo_text.OPENING))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended so, it cleans up all the same
    stage = Stage()
    try:
        _set_up(stage, facts)
        with stage.start() as enclave:
            answered = _main_job(stage, enclave, facts)
            if not brief:
                say(demo_text.heading(6, "Everyone who tries to get at the patients"))
                kept_out = [
                    *print_each(room.attempts(stage, enclave, answered)),
                    *print_each(process.attempts(stage, enclave)),
                ]
                facts["attempts"] = [dataclasses.asdict(each) for each in kept_out]
        if not brief:
            say(demo_text.heading(7, f"What level '{facts['level']}' does NOT keep out"))
            facts["limits"] = [
                dataclasses.asdict(each) for each in print_each(limits.attempts(stage), limit=True)
            ]
            say(demo_text.heading(8, "What it was"))
            say(demo_text.closing(facts["level"], stage.agreement.k_min))
    finally:
        stage.close(stop=not running)
        signal.signal(signal.SIGTERM, before)
    conclude(facts, began)


def _set_up(stage: Stage, facts: dict[str, Any]) -> None:
    say(demo_text.heading(1, "The code that will run inside, measured"))
    built = stage.build()
    size = stage.image.stat().st_size / 1e6
    say(demo_text.fact("image", f"{size:.0f} MB: this Python, its libraries, and the clean room's own code"))
    say(demo_text.fact("image id", f"{built.image_id.hex()[:32]}.., a hash of all of it"))
    facts["image_id"] = built.image_id.hex()
    say(demo_text.heading(2, "Each owner encrypts its data, on its own machine, and keeps the key"))
    for name, (plain, sealed) in stage.seal().items():
        table = stage.tables[name]
        say(
            demo_text.fact(
                name, f"{len(table):,} rows, {plain / 1e6:.1f} MB, sealed into {sealed / 1e6:.1f} MB"
            )
        )
    say(demo_text.heading(3, "Both sign one agreement; it allows this and nothing else"))
    for party, printed in stage.fingerprints.items():
        say(demo_text.fact(party, f"keys {printed}, compared outside the shared folder"))
    say(demo_text.agreement(stage.agree()))
    if stage.lacks:
        say(demo_text.fact("missing", f"{', '.join(sorted(stage.lacks))}: kluis doctor prints how to fix it"))
    facts["agreement"] = stage.agreement.hash


def _main_job(stage: Stage, enclave: EnclaveProxy, facts: dict[str, Any]) -> Offer:
    say(demo_text.heading(4, "The enclave starts, proves itself to each owner, and computes"))
    witnessed = {name: _Witnessed(each) for name, each in stage.participants().items()}
    ended = conduct.conduct(Calls(enclave), stage.room, witnessed, stage.platform.collateral())
    checked = check_receipt(ended.receipt, stage.agreement.hash)
    for consent in checked.consents:
        words = (
            f"made a nonce, verified the evidence ({len(consent.rules)} rules met), then sealed its key to "
        )
        words += "a key that exists only inside"
        say(demo_text.fact(consent.party, words))
    say(demo_text.level(checked.verdict.level))
    say(demo_text.heading(5, "The answer, which only the clinic can open"))
    facts["results"] = _results(stage, ended.run, checked)
    say("\nThe receipt, checked offline:\n" + summary_of(checked, limits=False))
    facts["run"], facts["level"] = ended.run, checked.verdict.level
    return witnessed["clinic"].offers[0]


def _results(stage: Stage, run: str, checked: CheckedReceipt) -> dict[str, Any]:
    values = {}
    for done in checked.statement.analyses:
        analysis = next(each for each in stage.agreement.analyses if each.id == done.id)
        say(f"{analysis.question}\n")
        sealed = stage.room.sealed_result(run, done.id)
        check_result(checked, sealed, done.id)
        header, plain = open_result(sealed, "clinic", stage.homes["clinic"].sealing)
        values[done.id], text = format_result(header.format, plain)
        say("\n".join(f"  {line}" for line in text.splitlines()))
        if header.format == "parquet":
            say(f"  groups with a number that rests on fewer than {done.k} people are not shown\n")
        elif plain:
            say(demo_text.paragraph(_claim(jsonlib.loads(plain))))
    return values


def _claim(result: dict[str, Any]) -> str:
    """What a scored model shows, and no more."""
    gain = next(each for each in result["differences"] if each["name"].endswith("clinic only"))
    low, high = float(gain["low"]), float(gain["high"])
    verdict = "help" if low > 0 else "do not help" if high < 0 else "may or may not help; this cannot tell"
    gained = f"{float(gain['value']):.3f} ({low:.3f} to {high:.3f}, 95 %)"
    return CLAIM.format(**result, verdict=verdict, gained=gained)


class _Witnessed:
    """An owner whose offers are kept, for an attacker to replay."""

    def __init__(self, owner: conduct.Participant) -> None:
        self._owner = owner
        self.offers: list[Offer] = []

    def challenge(self) -> Challenge:
        return self._owner.challenge()

    def release(self, offer: Offer, collateral: bytes) -> Release:
        self.offers.append(offer)
        return self._owner.release(offer, collateral)
