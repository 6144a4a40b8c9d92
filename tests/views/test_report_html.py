"""The page of a verdict: whole, without scripts and other files, and nothing in it can be markup."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

from kluis.appraisal import AttestationResult
from kluis.evidence.levels import MEANINGS
from kluis.evidence.model import Wrapper
from kluis.views import report_html
from tests.appraisal.rules.test_appraise import DEBUG, NOW, _evidence, _judge, _policy
from tests.appraisal.rules.test_machine import _judge as judge_machine

VOID = {"meta"}


class _Reader(HTMLParser):
    """Elements that are opened and closed in order, and their contents."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def _read(result: AttestationResult) -> tuple[_Reader, str]:
    reader = _Reader()
    reader.feed(report_html.page(result))
    reader.close()
    assert reader.open == []
    return reader, "\n".join(reader.text)


def test_a_machine() -> None:
    """The page of an enclave in a machine has the machine's kind, boot and measurement."""
    _, text = _read(judge_machine())
    for line in ("snp, SNP report v3, boot " + "b0" * 16, "sha384:" + "a1" * 48, "machine_measurement"):
        assert line in text


def test_says_everything() -> None:
    """The page has the verdict, every rule with want, got and fix, the level's worth, and the policy."""
    result = _judge(now=NOW, nonce=b"\1" * 16)
    _, text = _read(result)
    assert "Contraindicated: SGX quote v3" in text
    assert "19 of 20 rules met" in text
    for rule in result.rules:
        assert rule.name in text
        assert rule.want in text
    assert f"Fix: {result.failed[0].fix}." in text
    for item in MEANINGS[result.claims.level].lets_in:
        assert item in text
    assert 'purpose = "cli"' in text
    assert "This page proves nothing by itself" in text


def test_names_the_evidence_that_was_judged() -> None:
    """The page names the bytes it is about, and what their event log explains."""
    page = report_html.page(_judge(), log="3 events; <b>", sha256={"tpm_quote": "ab" * 32})
    assert f"<dt>SHA-256 of tpm_quote</dt><dd>{'ab' * 32}</dd>" in page
    assert "<dt>Event log</dt><dd>3 events; &lt;b&gt;</dd>" in page
    assert "Event log" not in report_html.page(_judge())


def test_what_fails_stands_first_and_needs_no_colour() -> None:
    """A failed rule is marked in words, before those that are met."""
    _, text = _read(_judge(nonce=b"\1" * 16))
    assert text.index("✗ FAILS") < text.index("✓ met")


def test_warnings_are_told() -> None:
    """What the policy accepts and a reader should know has its own heading."""
    result = _judge(_evidence(flags=DEBUG), _policy(debug=True, protection=frozenset({"none"})))
    _, text = _read(result)
    assert "What a reader should know" in text
    assert "a debug enclave keeps nothing from its host" in text
    assert "below the verdict" in text


def test_self_contained() -> None:
    """No script, no link, no picture, no event: the page loads nothing and runs nothing."""
    reader, _ = _read(_judge())
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "a", "form", "svg", "base"}
    assert reader.attributes <= {"charset", "name", "content", "http-equiv", "class", "scope", "lang"}
    page = report_html.page(_judge())
    assert "default-src 'none'" in page
    for word in ("url(", "@import", "http://", "https://", "javascript:"):
        assert word not in page


def test_hostile_text_is_escaped() -> None:
    """All strings from evidence appear as text."""
    evil = '<script>alert("x")</script>&<img src=x onerror=y>'
    result = _judge()
    claims = dataclasses.replace(result.claims, kind=evil, anchor=evil)
    rules = (dataclasses.replace(result.rules[0], got=evil, want=evil, fix=evil, ok=False), *result.rules[1:])
    reader, text = _read(dataclasses.replace(result, claims=claims, rules=rules, warnings=(evil,)))
    assert not reader.tags & {"script", "img"}
    assert text.count(evil) >= 4


def test_what_the_evidence_came_in() -> None:
    """The wrapper is shown with what the evidence binds, shortened if long, and escaped."""
    result = _judge()
    assert "Came in" not in _read(result)[1]
    for name, binds, said in (
        ("EAT (CWT)", {}, "EAT (CWT), which binds nothing"),
        ("<b>x</b>", {"public key": b"\xab" * 91}, f"<b>x</b>, which binds public key {'ab' * 91}"),
        (
            "RA-TLS certificate",
            {"public key": b"\xab" * 4, "event log": b"\xcd" * 5000},
            "RA-TLS certificate, which binds event log cdcdcdcd..cdcd (5000 bytes); public key abababab",
        ),
    ):
        claims = dataclasses.replace(result.claims, wrapper=Wrapper(name, binds))
        reader, text = _read(dataclasses.replace(result, claims=claims))
        assert f"\nCame in\n{said}\n" in text
        assert "b" not in reader.tags


def test_text_that_turns_or_hides_other_text() -> None:
    """Direction marks, control characters and lone surrogates appear by their numbers."""
    evil = "\u202eno\u2066\x1b[2J\x00\ud800"
    result = _judge()
    rules = (dataclasses.replace(result.rules[0], got=evil), *result.rules[1:])
    page = report_html.page(dataclasses.replace(result, rules=rules))
    assert r"<td>\u202eno\u2066\x1b[2J\x00\ud800</td>" in page
    assert all(line.isprintable() for line in page.split("\n"))
