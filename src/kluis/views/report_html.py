"""A verdict as one page of HTML, for a person to read, to print and to file: no script, no other file.

Every text goes through :func:`_element`, which escapes it, and what would turn or hide other text: evidence
is hostile. Meaning is in words and signs; colour only repeats it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

import kluis
from kluis.appraisal import AttestationResult, Rule, Tier, dumps
from kluis.appraisal.policy.values import ordered
from kluis.appraisal.results import trustworthiness
from kluis.appraisal.tokens import ear
from kluis.evidence.levels import MEANINGS
from kluis.formats.encoding.brief import short, until
from kluis.views.printable import harmless

MARKS: Final = {"affirming": "✓", "warning": "!", "contraindicated": "✗", "none": "–"}
WORDS: Final = {
    "affirming": "Every rule is met.",
    "warning": "Every rule is met; read the notes below.",
    "contraindicated": "Do not rely on it: a rule is not met.",
}
MOST_BOUND: Final = 128  # bytes of one thing that are shown whole
STYLE: Final = """
:root { color-scheme: light; --line: #c9ced6; --soft: #f4f5f7; --quiet: #4d5664; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #14181f; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1.5rem; }
header { border: 2px solid #14181f; border-left-width: 14px; padding: 1rem 1.25rem; margin-bottom: 1.5rem; }
header.affirming { border-color: #17663a; } header.warning { border-color: #8a5a00; }
header.contraindicated { border-color: #a11b1b; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; } h1 .mark { font-family: monospace; }
h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; border-bottom: 1px solid var(--line);
  padding-bottom: .2rem; }
header p { margin: .15rem 0; } .quiet { color: var(--quiet); }
table { width: 100%; border-collapse: collapse; font-size: .92em; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; overflow-wrap: anywhere;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; } thead th { border-bottom: 2px solid #14181f; }
td.state, td code { white-space: nowrap; } td.state { font-weight: 600; }
tr.fail td { background: var(--soft); }
tr.fail td:first-child { box-shadow: inset 4px 0 0 #a11b1b; padding-left: .6rem; }
.fix { display: block; margin-top: .15rem; }
code, pre, .hex { font: .9em/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--soft); border: 1px solid var(--line); padding: .7rem .9rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
ul { margin: .3rem 0; padding-left: 1.2rem; } dl { display: grid; grid-template-columns: 11rem 1fr; margin: 0;
  gap: .25rem .8rem; } dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 2rem; padding-top: .6rem; border-top: 1px solid var(--line); font-size: .88em; }
@page { margin: 14mm 14mm; }
@media print { body { font-size: 8.5pt; line-height: 1.3; margin: 0; max-width: none; padding: 0; }
  header { padding: .6rem .9rem; margin-bottom: .8rem; } h1 { font-size: 1.5em; }
  h2 { margin: .9rem 0 .3rem; font-size: 1.1em; break-after: avoid; }
  th, td { padding: .12rem .6rem .12rem 0; } dl { gap: .1rem .8rem; } ul { margin: .15rem 0; }
  p { margin: .3rem 0; } pre { font-size: 7pt; line-height: 1.25; } footer { margin-top: .8rem; }
  tr, header, li, dd { break-inside: avoid; } thead { display: table-header-group; } }
"""


class _Html(str):
    """Text that is HTML already; every other text is escaped."""

    __slots__ = ()


def page(
    result: AttestationResult, *, log: str | None = None, sha256: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The whole page.

    Args:
        result: of an appraisal.
        log: what an event log was found to explain, where one was given.
        sha256: in hex, of each file of the evidence, by its name.
    """
    given = {f"SHA-256 of {name}": digest for name, digest in sha256.items()}
    if log is not None:
        given["Event log"] = log
    head = _element(
        "head",
        _Html('<meta charset="utf-8">'),
        _Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        _Html(
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'\">"
        ),
        _element("title", f"Attestation verdict: {result.verdict}"),
        _element("style", _Html(STYLE)),
    )
    body = _element("body", _verdict(result), _element("main", *_sections(result, given)), _footer(result))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def body(result: AttestationResult, *, sha256: Mapping[str, str] = MappingProxyType({})) -> str:
    """The verdict and its sections, as HTML for another page, which has its own styles; all text is escaped.

    Args:
        result: of an appraisal.
        sha256: in hex, of each file of the evidence, by its name.
    """
    given = {f"SHA-256 of {name}": digest for name, digest in sha256.items()}
    return "".join((_verdict(result, "div", "verdict "), *_sections(result, given)))


def _verdict(result: AttestationResult, tag: str = "header", cls: str = "") -> _Html:
    claims = result.claims
    met = len(result.rules) - len(result.failed)
    return _element(
        tag,
        _element(
            "h1",
            _element("span", MARKS[result.verdict], cls="mark"),
            f" {result.verdict.capitalize()}: {claims.kind}",
        ),
        _element("p", f"{WORDS[result.verdict]} {met} of {len(result.rules)} rules met."),
        _element(
            "p",
            f"Protection level {claims.level}; signed under {claims.anchor}; judged"
            f" {when(result.appraised_at)}.",
        ),
        cls=f"{cls}{result.verdict}",
    )


def _sections(result: AttestationResult, given: Mapping[str, str]) -> Iterable[_Html]:
    if result.warnings:
        yield _element("h2", "What a reader should know")
        yield _list(result.warnings)
    yield _element("h2", "Rules")
    yield _rules(result)
    meaning = MEANINGS[result.claims.level]
    yield _element("h2", f"What level {result.claims.level} is worth")
    yield _pairs([("Keys made by", meaning.keys), ("Keeps out", meaning.keeps_out)])
    yield _element("p", _element("strong", "Not kept out:"))
    yield _list(result.not_kept_out)
    yield _element("h2", "Contents of the evidence")
    yield _pairs([*contents(result), *given.items()])
    yield _element("h2", "Trustworthiness, for other programs")
    yield _pairs(
        (str(aspect), f"{number} ({trustworthiness.tier(number)})")
        for aspect, number in result.vector.items()
    )
    yield _element("p", f"Overall status: {result.status}.", *_status_note(result))
    yield _element("h2", "The policy it was judged under")
    yield _element("p", _element("span", ear.policy_id(result), cls="hex"))
    yield _element("pre", dumps(result.policy))


def _status_note(result: AttestationResult) -> Iterable[str]:
    if result.status is not Tier(result.verdict.value):
        yield " It is below the verdict, because who reads it does not know what this policy accepts."


def _rules(result: AttestationResult) -> _Html:
    # Failures come first, since readers look for them. Checks that accept anything come last.
    rows = [_rule(rule) for rule in sorted(result.rules, key=lambda rule: (rule.ok, rule.want == "any"))]
    head = _element(
        "tr", *(_element("th", each, scope="col") for each in ("State", "Rule", "Wanted", "Found"))
    )
    return _element("table", _element("thead", head), _element("tbody", *rows))


def _rule(rule: Rule) -> _Html:
    found: list[str] = [rule.got]
    if rule.fix is not None:
        found.append(_element("span", f"Fix: {rule.fix}.", cls="fix"))
    return _element(
        "tr",
        _element("td", "✓ met" if rule.ok else "✗ FAILS", cls="state"),
        _element("td", _element("code", rule.name)),
        _element("td", rule.want),
        _element("td", *found),
        cls="met" if rule.ok else "fail",
    )


def contents(result: AttestationResult) -> Iterable[tuple[str, str]]:
    """What the verified evidence contains, by name; text from outside, not yet escaped."""
    claims = result.claims
    yield "Kind", claims.kind
    if claims.wrapper is not None:
        bound = [f"{what} {_bytes(held)}" for what, held in sorted(claims.wrapper.binds.items())]
        yield "Came in", f"{claims.wrapper.name}, which binds {'; '.join(bound) or 'nothing'}"
    yield "Measurement", str(claims.measurement)
    if claims.signer is not None:
        yield "Signer", f"{claims.signer}"
    if claims.product_id is not None:
        yield "Product", str(claims.product_id)
    if claims.svn is not None:
        yield "Security version", str(claims.svn)
    for name, digest in ordered(claims.registers):
        yield name, str(digest)
    if claims.machine is not None:
        around = claims.machine
        yield "Machine", f"{around.kind}, {around.claims.kind}, boot {around.boot.hex()}"
        yield "Machine measurement", str(around.claims.measurement)
        yield from ((f"Machine {name}", str(digest)) for name, digest in ordered(around.claims.registers))
    yield "Report data", claims.report_data.hex() or "none"
    if claims.nonce is not None:
        yield "Nonce", claims.nonce.hex()
    yield "Debug", "on: open to its host" if claims.debug else "off"
    advisories = f": {', '.join(claims.tcb.advisories)}" if claims.tcb.advisories else ""
    yield "TCB status", f"{claims.tcb.status}{advisories}"
    yield "Platform", f"{claims.platform.product} {claims.platform.id.hex() or '(id not reported)'}"
    if claims.collateral_issued is not None:
        yield "Collateral issued", when(claims.collateral_issued)
    yield "Valid", until(claims.valid_until)
    yield "Verified", when(claims.verified_at)


def _bytes(held: bytes) -> str:
    return held.hex() if len(held) <= MOST_BOUND else f"{short(held)} ({len(held)} bytes)"


def _footer(result: AttestationResult) -> _Html:
    return _element(
        "footer",
        _element(
            "p",
            f"Made by kluis {kluis.__version__}. This page proves nothing by itself: anyone who has"
            " the evidence, its collateral, the policy, and the nonce or report data gets the same"
            " verdict from ",
            _element("code", f"kluis appraise EVIDENCE --policy FILE --now {when(result.appraised_at)}"),
            ".",
        ),
        cls="quiet",
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> _Html:
    return _element(
        "dl", *(part for name, text in pairs for part in (_element("dt", name), _element("dd", text)))
    )


def _list(items: Iterable[str]) -> _Html:
    return _element("ul", *(_element("li", item) for item in items))


def _element(tag: str, *children: str, cls: str | None = None, scope: str | None = None) -> _Html:
    """An element of its children, each escaped unless it is one."""
    marks = "".join(
        f' {name}="{html.escape(value)}"' for name, value in (("class", cls), ("scope", scope)) if value
    )
    inner = "".join(each if isinstance(each, _Html) else html.escape(harmless(each)) for each in children)
    return _Html(f"<{tag}{marks}>{inner}</{tag}>")


def when(time: datetime) -> str:
    """A time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
