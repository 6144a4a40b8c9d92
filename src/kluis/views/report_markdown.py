"""A verdict as Markdown, for the summary of a job: with the content of :mod:`kluis.views.verdict`.

Evidence is hostile: each sign of its text that Markdown or HTML could read is written as a character
reference, which no renderer takes for markup. So no text can be a link, an image, a heading, or another cell.

Spec: GitHub Flavored Markdown, "Entity and numeric character references", "Tables".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from kluis.appraisal import AttestationResult
from kluis.errors import KluisError, foreign
from kluis.evidence.levels import MEANINGS
from kluis.views.values import zulu
from kluis.views.verdict import MARKS, contents, in_order, state, summary


def page(
    result: AttestationResult, *, log: str | None = None, sha256: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The verdict, its rules, what its level is worth, and the contents of the evidence.

    Args:
        result: of an appraisal.
        log: what an event log was found to explain, where one was given.
        sha256: in hex, of each file of the evidence, by its name.
    """
    return "\n".join([*_lines(result, contents(result, log=log, sha256=sha256)), ""])


def render_refusal(error: KluisError) -> str:
    """Evidence that could not be judged: it is not authentic, too old, or malformed."""
    lines = [f"## {MARKS['contraindicated']} Not authentic, or not readable", "", text(error.message), ""]
    if error.hint:
        lines += [f"Fix: {text(error.hint)}", ""]
    return "\n".join([*lines, f"Code: {text(error.code)}", ""])


def text(value: str) -> str:
    """Text as Markdown shows it: one line, without any sign that could be markup."""
    line = foreign(value, len(value))
    return "".join(
        sign if sign.isalnum() or (sign == " " and line[at - 1 : at] not in ("", " ")) else f"&#{ord(sign)};"
        for at, sign in enumerate(line)
    )


def _lines(result: AttestationResult, shown: Iterable[tuple[str, str]]) -> Iterator[str]:
    claims, meaning = result.claims, MEANINGS[result.claims.level]
    yield f"## {MARKS[result.verdict]} {result.verdict.capitalize()}: {text(claims.kind)}"
    yield ""
    yield summary(result)
    yield f"Protection level {text(claims.level)}; signed under {text(claims.anchor)};"
    yield f"judged {text(zulu(result.appraised_at))}."
    yield ""
    yield from (f"- {text(each)}" for each in result.warnings)
    yield "### Rules"
    yield ""
    yield from _table(
        ("", "Rule", "Wanted", "Found"),
        (
            (
                state(rule),
                rule.name,
                rule.want,
                rule.got if rule.fix is None else f"{rule.got}; fix: {rule.fix}",
            )
            for rule in in_order(result.rules)
        ),
    )
    yield f"### What level {text(claims.level)} is worth"
    yield ""
    yield f"Keys made by {text(meaning.keys)}. Keeps out {text(meaning.keeps_out)}. Not kept out:"
    yield ""
    yield from (f"- {text(each)}" for each in result.not_kept_out)
    yield ""
    yield "### Contents of the evidence"
    yield ""
    yield from _table(("Name", "Value"), shown)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(text, row))} |"
    yield ""
