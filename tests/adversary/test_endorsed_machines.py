"""A host against the evidence of a machine: what it has are other machines, earlier boots, and the channel.

The host starts machines at will, keeps what each sent, and answers in their place. It has no key of the
processor, and no key of a root inside a machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kluis.appraisal import appraise
from kluis.appraisal.draft import draft
from kluis.authority.amd import Processor
from kluis.authority.amd.reports import guest_policy
from kluis.errors import AuthenticityError, FormatError, KluisError, PolicyError
from kluis.evidence import Collateral, TrustAnchors, verify
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.machine import MachineConfiguration
from kluis.formats.snp import report as snp_report
from tests.authority.amd.chips import NOW, chip
from tests.evidence.forge import NONCE, Forge
from tests.evidence.machine import MachineForge

CHIP = chip()
MACHINE = MachineForge(CHIP)
EARLIER = MachineForge(CHIP)  # the same machine, one boot before: another root
NEIGHBOUR = MachineForge(CHIP)
NEIGHBOUR.launch = dataclasses.replace(NEIGHBOUR.launch, measurement=b"\xee" * 48)
POLICY = draft(
    verify(MACHINE.inside.quote(), anchors=MACHINE.anchors, collateral=MACHINE.collateral(), now=NOW),
    runtime_data=MACHINE.inside.runtime,
    launch_configuration=MACHINE.inside.launch,
)


def _judge(quote: bytes, collateral: Collateral, anchors: TrustAnchors = MACHINE.anchors) -> None:
    """What a relying party does with what arrives: verify it, and require its policy."""
    evidence = verify(quote, anchors=anchors, collateral=collateral, now=NOW)
    appraise(
        evidence,
        POLICY,
        nonce=NONCE,
        runtime_data=MACHINE.inside.runtime,
        launch_configuration=MACHINE.inside.launch,
        now=NOW,
    ).require()


def test_the_machine_itself() -> None:
    """Without an attack, the evidence is accepted."""
    _judge(MACHINE.inside.quote(), MACHINE.collateral())


def _parts(endorsement: bytes, **changes: bytes) -> bytes:
    """An endorsement with parts replaced by the host."""
    found = Endorsement.parse(endorsement)
    return dataclasses.replace(found, parts={**found.parts, **changes}).encode()


def _host_signs(**changes: Any) -> bytes:
    """A report with fields replaced, of a processor that the host made itself."""
    own = MachineForge(chip(bytes(32)))
    return own.report(MACHINE.configuration().runtime_data(), **changes)


def _rewritten(name: str, value: bytes) -> bytes:
    """The machine's own report, with a field written over."""
    document = MACHINE.configuration().runtime_data()
    report = snp_report.parse(MACHINE.report(document))
    return _parts(MACHINE.endorsement(), report=dataclasses.replace(report, **{name: value}).encode())


def _renamed(**changes: Any) -> bytes:
    """The machine's own report, next to runtime data that the host wrote."""
    found = Endorsement.parse(MACHINE.endorsement())
    document = MACHINE.configuration(**changes).runtime_data()
    return dataclasses.replace(found, runtime_data=document).encode()


def _debugged() -> tuple[bytes, Collateral]:
    """The same guest, started by the host so that it may read its memory."""
    opened = MachineForge(CHIP, MACHINE.inside)
    opened.launch = dataclasses.replace(MACHINE.launch, policy=guest_policy(debug=True))
    return opened.inside.quote(), opened.collateral()


Attack = Callable[[], tuple[bytes, Collateral]]
ATTACKS: dict[str, tuple[type[KluisError], str, Attack]] = {
    "the endorsement of another machine": (
        AuthenticityError,
        "endorsement_root",
        lambda: (MACHINE.inside.quote(), MACHINE.collateral(NEIGHBOUR.endorsement())),
    ),
    "another machine, of another guest": (
        PolicyError,
        "machine_measurement",
        lambda: (NEIGHBOUR.inside.quote(MACHINE.inside.body()), NEIGHBOUR.collateral()),
    ),
    "the endorsement of the boot before": (
        AuthenticityError,
        "endorsement_root",
        lambda: (MACHINE.inside.quote(), MACHINE.collateral(EARLIER.endorsement())),
    ),
    "the quote of the boot before": (
        AuthenticityError,
        "root_untrusted",
        lambda: (EARLIER.inside.quote(MACHINE.inside.body()), MACHINE.collateral()),
    ),
    "a replayed report under new runtime data": (
        AuthenticityError,
        "endorsement_binding",
        lambda: (
            NEIGHBOUR.inside.quote(MACHINE.inside.body()),
            NEIGHBOUR.collateral(_parts(NEIGHBOUR.endorsement(), report=MACHINE.report(b"{}"))),
        ),
    ),
    "the host's own platform under the machine's report": (
        AuthenticityError,
        "endorsement_root",
        lambda: (
            (own := MachineForge(CHIP, Forge())).inside.quote(MACHINE.inside.body()),
            own.collateral(MACHINE.endorsement()),
        ),
    ),
    "a monitor that answers for the processor": (
        AuthenticityError,
        "sig_report",
        lambda: (
            MACHINE.inside.quote(),
            MACHINE.collateral(_parts(MACHINE.endorsement(), report=_host_signs())),
        ),
    ),
    "a monitor with its own vendor": (
        AuthenticityError,
        "root_untrusted",
        lambda: (MACHINE.inside.quote(), MachineForge(_own_vendor(), MACHINE.inside).collateral()),
    ),
    "a report whose measurement is written over": (
        AuthenticityError,
        "sig_report",
        lambda: (MACHINE.inside.quote(), MACHINE.collateral(_rewritten("measurement", b"\xee" * 48))),
    ),
    "a report whose report data are written over": (
        AuthenticityError,
        "sig_report",
        lambda: (
            MACHINE.inside.quote(),
            MACHINE.collateral(_rewritten("report_data", runtime_data.report_data(b"x"))),
        ),
    ),
    "a debug machine": (PolicyError, "protection", _debugged),
    "runtime data without the guest's debug": (
        AuthenticityError,
        "endorsement_binding",
        lambda: (MACHINE.inside.quote(), MACHINE.collateral(_renamed(missing=("swap",)))),
    ),
    "a second TEE's report next to the first": (
        FormatError,
        "bad_type",
        lambda: (
            MACHINE.inside.quote(),
            MACHINE.collateral(_parts(MACHINE.endorsement(), hcl=MACHINE.report(b"{}"))),
        ),
    ),
    "no endorsement": (
        AuthenticityError,
        "root_untrusted",
        lambda: (MACHINE.inside.quote(), MACHINE.inside.collateral()),
    ),
}


def _own_vendor() -> Processor:
    """A processor under another root, whose names are the same."""
    from tests.keys import rsa_key

    return Processor.create(NOW, secret=bytes(32), rsa_keys=(rsa_key(52), rsa_key(53)))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str) -> None:
    """Each attempt of the host is refused, and the error names the part."""
    error, code, make = ATTACKS[name]
    quote, collateral = make()
    with pytest.raises(error) as caught:
        _judge(quote, collateral)
    assert caught.value.code == code


def test_a_named_root_inside_hides_no_machine() -> None:
    """If a relying party also trusts the root inside by its file, its policy still requires the machine."""
    both = MACHINE.anchors | MACHINE.inside.anchors
    with pytest.raises(PolicyError) as caught:
        _judge(MACHINE.inside.quote(), MACHINE.collateral(), both)
    assert "machine: want snp, got none" in caught.value.message


def test_a_policy_for_a_process_is_not_met_in_a_machine() -> None:
    """A policy written before there were machines accepts none, under the same anchors and level."""
    evidence = verify(
        MACHINE.inside.quote(), anchors=MACHINE.anchors, collateral=MACHINE.collateral(), now=NOW
    )
    result = appraise(
        evidence,
        dataclasses.replace(POLICY, machine=None),
        nonce=NONCE,
        runtime_data=MACHINE.inside.runtime,
        launch_configuration=MACHINE.inside.launch,
        now=NOW,
    )
    assert [rule.name for rule in result.failed] == ["machine"]
    assert isinstance(MACHINE.configuration(), MachineConfiguration)
