"""The verdict as Markdown: the rules and the worth of the level, and no text of evidence is markup."""

from __future__ import annotations

import dataclasses

import pytest
from markdown_it import MarkdownIt

from kluis.appraisal import AttestationResult
from kluis.errors import AuthenticityError
from kluis.evidence.levels import MEANINGS
from kluis.evidence.model import Wrapper
from kluis.views import report_markdown
from tests.appraisal.rules.test_appraise import _judge
from tests.views.test_report_html import _Reader

HOSTILE = (
    "| a | b |",
    "\n## affirming\n",
    "<script>alert(1)</script>",
    "<img src=x onerror=y>",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "`code` **bold** _it_ ~~no~~ #1 @admin",
    "<https://evil.example>",
    "&lt;b&gt; &#60;i&#62;",
    "\u202eevil\u202c\x1b[2J",
    "    indented",
    "- item",
    "\\| \\<b>",
)


def _shown(text: str) -> _Reader:
    """What a renderer of GitHub's Markdown, with HTML, makes of it."""
    reader = _Reader()
    reader.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
    reader.close()
    return reader


def test_the_verdict_is_whole() -> None:
    """Each rule, and what the level is worth, is in the summary."""
    result = _judge()
    said = "".join(_shown(report_markdown.page(result, log="3 events", sha256={"evidence": "ab"})).text)
    assert f"✓ Affirming: {result.claims.kind}" in said
    for rule in result.rules:
        assert rule.name in said
        assert rule.want in said
    assert MEANINGS[result.claims.level].keeps_out in said
    for item in result.not_kept_out:
        assert item in said
    assert "SHA-256 of evidence" in said
    assert "3 events" in said


def test_a_failure_comes_first_with_its_fix() -> None:
    """A reader sees the rules that fail before all others, with what fixes them."""
    result = _judge(nonce=b"\1" * 16)
    said = "".join(_shown(report_markdown.page(result)).text)
    assert "✗ Contraindicated" in said
    assert 0 < said.index("✗ FAILS") < said.index("✓ met")
    assert f"fix: {result.failed[0].fix}" in said


def _named(text: str) -> AttestationResult:
    result = _judge()
    rule = dataclasses.replace(result.rules[0], got=text, want=text, fix=text, ok=False)
    wrapper = Wrapper(text, {"public key": text.encode()})
    claims = dataclasses.replace(result.claims, kind=text, anchor=text, wrapper=wrapper)
    rules = (rule, *result.rules[1:])
    return dataclasses.replace(result, claims=claims, rules=rules, warnings=(text,))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_markup(text: str) -> None:
    """A hostile name, value or error adds no element, no cell and no line, and is shown as it is."""
    for page, plain in (
        (report_markdown.page(_named(text)), report_markdown.page(_named("name"))),
        (
            report_markdown.render_refusal(AuthenticityError(text, hint=text)),
            report_markdown.render_refusal(AuthenticityError("name", hint="name")),
        ),
    ):
        got, want = _shown(page), _shown(plain)
        assert (sorted(got.tags), got.attributes) == (sorted(want.tags), want.attributes)
        assert len(page.splitlines()) == len(plain.splitlines())
        assert [line.count("|") for line in page.splitlines()] == [
            line.count("|") for line in plain.splitlines()
        ]
        assert not text.isprintable() or text.strip() in "".join(got.text)
