"""An attacker with one true piece of evidence sends it repeatedly to a long-lived verifier."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import UnavailableError
from kluis.evidence import AzureEndorsements, Verifier
from kluis.evidence.amd import snp
from kluis.evidence.azure import hcl
from kluis.evidence.context import Context
from tests.evidence.amd.forge import Forge as Processor
from tests.evidence.azure.forge import AzureForge
from tests.evidence.machine import MachineForge
from tests.evidence.nvidia import forge as gpus

TIMES = 24
MOST_HELD = 4 << 20


def _padding(time: int) -> bytes:
    return b"\n" * ((1 << 20) + time)


def _held(ask: Callable[[int], object], times: int = TIMES) -> int:
    """Bytes that stay after as many requests, each with 1 MiB of line ends, other bytes each time."""
    tracemalloc.start()
    try:
        for time in range(times):
            ask(time)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_padding_in_evidence_takes_no_memory() -> None:
    """The chain in a report is the same, whatever is between its lines."""
    gpu = gpus.Forge()
    verifier = Verifier(gpu.anchors)

    def ask(time: int) -> None:
        verifier.verify(gpu.evidence(chain=gpu.chain() + _padding(time)), collateral=None, now=gpus.NOW)

    assert _held(ask) < MOST_HELD


def test_roots_in_machines_take_no_memory() -> None:
    """One owner of a machine under a trusted processor endorses as many roots as it likes."""
    chip = MachineForge().processor
    verifier = Verifier(MachineForge(chip).anchors)

    def ask(time: int) -> None:
        machine = MachineForge(chip)
        given = machine.collateral()
        padded = dataclasses.replace(given, pck_crl_issuer_chain=given.pck_crl_issuer_chain + b"\n" * 32768)
        assert verifier.verify(
            machine.inside.quote(), collateral=padded, now=machine.inside.now
        ).value.machine

    assert _held(ask, 64) < 2 << 20


def test_padding_in_endorsements_takes_no_memory() -> None:
    """So are the certificates next to one."""
    processor = Processor()
    verifier, given = Verifier(processor.anchors), processor.endorsements()
    ark, report = processor.ark.public_bytes(Encoding.PEM), processor.report()

    def ask(time: int) -> None:
        padded = dataclasses.replace(given, ark=ark + _padding(time))
        verifier.verify(report, collateral=padded, now=processor.now)

    assert _held(ask) < MOST_HELD


def test_keys_that_nobody_vouches_for_are_not_kept() -> None:
    """A leaf without its issuers, and a vTPM's key on unendorsed hardware, push nothing proven out."""
    processor, azure = Processor(), AzureForge()
    ground = Context(processor.anchors, lasting=True)
    alone = processor.endorsements(ask=None, ark=None)
    with pytest.raises(UnavailableError):
        snp.verify(processor.report(), context=ground, collateral=alone, now=processor.now)
    assert len(ground.memory) == 0
    ground = Context(azure.anchors, lasting=True)
    with pytest.raises(UnavailableError):
        hcl.verify(
            azure.parts(azure.snp(), **azure.tpm()),
            context=ground,
            collateral=AzureEndorsements(),
            now=azure.now,
        )
    assert len(ground.memory) == 0
