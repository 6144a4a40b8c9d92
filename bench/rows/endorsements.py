"""Verify an enclave's quote with its machine's endorsement, compared with the parts verified separately.

All is forged: an SNP report and a quote of an emulated platform, each with its collateral.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.harness import Harness, Row, timed
from fuzz.pool import our_tests
from kluis.evidence import SnpEndorsements, TrustAnchors, Verifier, verify
from kluis.formats import x509
from kluis.formats.kluis.endorsement import Endorsement

TIMES = 10
ROUNDS = 31
AGAINST = "the quote and the report, each verified separately"


def rows(take: Harness) -> list[Row]:
    """Two rows: without a cache, and by verifiers that saw the same evidence before."""
    our_tests()
    from tests.evidence.forge import NOW
    from tests.evidence.machine import MachineForge

    machine = MachineForge()
    quote, whole, alone = machine.inside.quote(), machine.collateral(), machine.inside.collateral()
    parts = Endorsement.parse(whole.endorsement or b"").parts
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates")
    amd = SnpEndorsements(vek=vek, ask=ask, ark=ark, crl=parts["crl"])
    root, inside = machine.anchors, machine.inside.authority.root_pem()
    both, outer, inner = Verifier(root), Verifier(root), Verifier(TrustAnchors.from_pem(inside))

    def cold() -> None:
        verify(quote, anchors=root, collateral=whole, now=NOW)

    def cold_parts() -> None:
        verify(parts["report"], anchors=root, collateral=amd, now=NOW)
        # Each machine has another root, so its anchor is loaded, too.
        verify(quote, anchors=TrustAnchors.from_pem(inside), collateral=alone, now=NOW)

    def seen() -> None:
        both.verify(quote, collateral=whole, now=NOW)

    def seen_parts() -> None:
        outer.verify(parts["report"], collateral=amd, now=NOW)
        inner.verify(quote, collateral=alone, now=NOW)

    return [
        take.compare(name, AGAINST, hold, ours=_repeated(ours), theirs=_repeated(theirs), rounds=ROUNDS)
        for name, hold, ours, theirs in (
            ("enclave in a machine, cold", 1.15, cold, cold_parts),
            ("enclave in a machine, seen before", 1.25, seen, seen_parts),
        )
    ]


def _repeated(work: Callable[[], None]) -> Callable[[], float]:
    work()

    def all_of_it() -> None:
        for _ in range(TIMES):
            work()

    return lambda: timed(all_of_it) / TIMES
