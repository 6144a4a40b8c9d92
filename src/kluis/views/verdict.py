"""The content of a report about a verdict, which its HTML page and its Markdown have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from kluis.appraisal import AttestationResult, Rule
from kluis.appraisal.policy.values import sort_naturally
from kluis.formats.encoding.brief import short, until
from kluis.views.values import zulu

MARKS: Final = {"affirming": "✓", "warning": "!", "contraindicated": "✗", "none": "–"}
WORDS: Final = {
    "affirming": "Every rule is met.",
    "warning": "Every rule is met; read the notes below.",
    "contraindicated": "Do not rely on it: a rule is not met.",
}
MOST_BOUND: Final = 128  # bytes of one thing that are shown whole


def summary(result: AttestationResult) -> str:
    """What the verdict means, and how many rules are met."""
    met = len(result.rules) - len(result.failed)
    return f"{WORDS[result.verdict]} {met} of {len(result.rules)} rules met."


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Rules as readers look for them: failures first, and last those that accept anything."""
    return sorted(rules, key=lambda rule: (rule.ok, rule.want == "any"))


def state(rule: Rule) -> str:
    """Whether a rule is met, as a sign and a word."""
    return "✓ met" if rule.ok else "✗ FAILS"


def contents(
    result: AttestationResult, *, log: str | None = None, sha256: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, str]]:
    """What the verified evidence contains, by name; text from outside, not yet escaped.

    Args:
        result: of an appraisal.
        log: what an event log was found to explain, where one was given.
        sha256: in hex, of each file of the evidence, by its name.
    """
    claims = result.claims
    yield "Kind", claims.kind
    if claims.wrapper is not None:
        bound = [
            f"{what} {_bytes(bound_digest)}" for what, bound_digest in sorted(claims.wrapper.binds.items())
        ]
        yield "Came in", f"{claims.wrapper.name}, which binds {'; '.join(bound) or 'nothing'}"
    yield "Measurement", str(claims.measurement)
    if claims.signer is not None:
        yield "Signer", f"{claims.signer}"
    if claims.product_id is not None:
        yield "Product", str(claims.product_id)
    if claims.svn is not None:
        yield "Security version", str(claims.svn)
    for name, digest in sort_naturally(claims.registers):
        yield name, str(digest)
    if claims.machine is not None:
        around = claims.machine
        yield "Machine", f"{around.kind}, {around.claims.kind}, boot {around.boot.hex()}"
        yield "Machine measurement", str(around.claims.measurement)
        yield from (
            (f"Machine {name}", str(digest)) for name, digest in sort_naturally(around.claims.registers)
        )
    yield "Report data", claims.report_data.hex() or "none"
    if claims.nonce is not None:
        yield "Nonce", claims.nonce.hex()
    yield "Debug", "on: open to its host" if claims.debug else "off"
    advisories = f": {', '.join(claims.tcb.advisories)}" if claims.tcb.advisories else ""
    yield "TCB status", f"{claims.tcb.status}{advisories}"
    yield "Platform", f"{claims.platform.product} {claims.platform.id.hex() or '(id not reported)'}"
    if claims.collateral_issued is not None:
        yield "Collateral issued", zulu(claims.collateral_issued)
    yield "Valid", until(claims.valid_until)
    yield "Verified", zulu(claims.verified_at)
    yield from ((f"SHA-256 of {name}", digest) for name, digest in sha256.items())
    if log is not None:
        yield "Event log", log


def _bytes(data: bytes) -> str:
    return data.hex() if len(data) <= MOST_BOUND else f"{short(data)} ({len(data)} bytes)"
