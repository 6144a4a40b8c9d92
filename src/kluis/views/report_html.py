"""A verdict as one page of HTML, for a person to read, to print and to file: no script, no other file.

Every text goes through :func:`_element`, which escapes it, and what would turn or hide other text: evidence
is hostile. Meaning is in words and signs; colour only repeats it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import kluis
from kluis.appraisal import AttestationResult, Rule, Tier, dumps
from kluis.appraisal.results import trustworthiness
from kluis.appraisal.tokens import ear
from kluis.evidence.levels import MEANINGS
from kluis.views.printable import harmless
from kluis.views.values import zulu
from kluis.views.verdict import MARKS, contents, in_order, state, summary

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
    shown = contents(result, log=log, sha256=sha256)
    body = _element("body", _verdict(result), _element("main", *_sections(result, shown)), _footer(result))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def body(result: AttestationResult, *, sha256: Mapping[str, str] = MappingProxyType({})) -> str:
    """The verdict and its sections, as HTML for another page, which has its own styles; all text is escaped.

    Args:
        result: of an appraisal.
        sha256: in hex, of each file of the evidence, by its name.
    """
    shown = contents(result, sha256=sha256)
    return "".join((_verdict(result, "div", "verdict "), *_sections(result, shown)))


def _verdict(result: AttestationResult, tag: str = "header", cls: str = "") -> _Html:
    claims = result.claims
    return _element(
        tag,
        _element(
            "h1",
            _element("span", MARKS[result.verdict], cls="mark"),
            f" {result.verdict.capitalize()}: {claims.kind}",
        ),
        _element("p", summary(result)),
        _element(
            "p",
            f"Protection level {claims.level}; signed under {claims.anchor}; judged"
            f" {zulu(result.appraised_at)}.",
        ),
        cls=f"{cls}{result.verdict}",
    )


def _sections(result: AttestationResult, shown: Iterable[tuple[str, str]]) -> Iterable[_Html]:
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
    yield _pairs(shown)
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
    rows = map(_rule, in_order(result.rules))
    head = _element(
        "tr", *(_element("th", each, scope="col") for each in ("State", "Rule", "Wanted", "Found"))
    )
    return _element("table", _element("thead", head), _element("tbody", *rows))


def _rule(rule: Rule) -> _Html:
    parts: list[str] = [rule.got]
    if rule.fix is not None:
        parts.append(_element("span", f"Fix: {rule.fix}.", cls="fix"))
    return _element(
        "tr",
        _element("td", state(rule), cls="state"),
        _element("td", _element("code", rule.name)),
        _element("td", rule.want),
        _element("td", *parts),
        cls="met" if rule.ok else "fail",
    )


def _footer(result: AttestationResult) -> _Html:
    return _element(
        "footer",
        _element(
            "p",
            f"Made by kluis {kluis.__version__}. This page proves nothing by itself: anyone who has"
            " the evidence, its collateral, the policy, and the nonce or report data gets the same"
            " verdict from ",
            _element("code", f"kluis appraise EVIDENCE --policy FILE --now {zulu(result.appraised_at)}"),
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
