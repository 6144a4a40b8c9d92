"""Policy text: what is read, and where and why the rest is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.services.attestation.language import PolicyParsingError, parse
from kluis.services.attestation.language.syntax import Section, Verb
from tests.services.attestation.language.examples import EXAMPLES
from tests.strategies import PROPERTY


def _rules(text: str, version: str = "1.0", section: str = "authorizationrules") -> str:
    return f"version={version};{section}{{ {text} }};"


VERSION = "policy > versionInfo"
REFUSED: dict[str, tuple[Any, ...]] = {
    "version's end": ("version=1.0\n[", "mismatched input '[' expecting ';'", (2, 1), VERSION),
    "unknown version": ("version=1.3;", "version 1.3 is not one of 1.0, 1.1, 1.2", (1, 9), VERSION),
    "unknown version below": (
        "// one\n\n version =\n  2.0;",
        "version 2.0 is not one of 1.0, 1.1, 1.2",
        (4, 3),
        VERSION,
    ),
    "a version of many digits": (
        "version=1.0000000001;",
        "version 1.0000000001 is not one of 1.0, 1.1, 1.2",
        (1, 9),
        VERSION,
    ),
    "a version that is nearly one": ("version=1.02;", "version 1.02 is not one of", (1, 9), VERSION),
    "no version": ("authorizationrules{};", "mismatched input '{' expecting '='", (1, 19), VERSION),
    "another word": ("verson=1.0;", "mismatched input 'verson' expecting 'version'", (1, 1), VERSION),
    "no semicolon": (_rules("=> permit()"), "mismatched input '}' expecting ';'", (1, 45)),
    "smart quote": (_rules('[type=="11”] => permit();'), "mismatched input"),
    "unknown section": (
        _rules("", section="rules"),
        "mismatched input 'rules' expecting one of",
        (1, 13),
        "policy",
    ),
    "sections swapped": (
        "version=1.0; issuancerules{}; authorizationrules{};",
        "section authorizationrules appears twice, or after",
        (1, 31),
    ),
    "a section twice": (
        "version=1.0; issuancerules{}; issuancerules{};",
        "section issuancerules appears twice",
        (1, 31),
        "policy > issuancerules",
    ),
    "cut short": ("version=1.0; authorizationrules{", "mismatched input '<EOF>' expecting", (1, 33)),
    "configuration in 1.0": (
        _rules('=> issueproperty(type="x", value=1);', "1.0", "configurationrules"),
        "configurationrules need version 1.1",
        (1, 13),
        "policy > configurationrules",
    ),
    "configuration that is none": (
        _rules('=> issueproperty(type="require_valid_aik_certs", value=true);', "1.1", "configurationrules"),
        "configuration property 'require_valid_aik_certs' is not one of require_valid_aik_cert, required",
        (1, 36),
        "policy > configurationrules",
    ),
    "configuration of another kind": (
        _rules('=> issueproperty(type="required_pcr_mask", value="15");', "1.1", "configurationrules"),
        "configuration property required_pcr_mask has a value of an integer",
        (1, 36),
        "policy > configurationrules",
    ),
    "a switch that is a number": (
        _rules('=> issueproperty(type="require_valid_aik_cert", value=1);', "1.1", "configurationrules"),
        "configuration property require_valid_aik_cert has a value of true or false",
        "policy > configurationrules",
    ),
    "a number that is a switch": (
        _rules('=> issueproperty(type="required_pcr_mask", value=true);', "1.1", "configurationrules"),
        "configuration property required_pcr_mask has a value of an integer",
        "policy > configurationrules",
    ),
    "verb of another section": (
        _rules("=> permit();", section="issuancerules"),
        "permit is no verb of issuancerules; those are add, issue, issueproperty",
        (1, 31),
        "policy > issuancerules",
    ),
    "no verb": (_rules("=> allow();"), "mismatched input 'allow' expecting one of permit", (1, 36)),
    "negation in 1.0": (
        _rules('![type=="x"] => permit();'),
        "a negated condition needs version 1.2",
        (1, 33),
    ),
    "function in 1.1": (
        _rules('=> add(type="x", value=NegateBool(true));', "1.1"),
        "function NegateBool needs version 1.2",
    ),
    "no such function": (
        _rules('=> add(type="x", value=Sum(1));', "1.2"),
        "function 'Sum' is not one of JmesPath",
    ),
    "arity": (_rules('=> add(type="x", value=JmesPath("a"));', "1.2"), "JmesPath: want 2 arguments, got 1"),
    "no such property": (
        _rules('[kind=="x"] => permit();'),
        "property 'kind' is not one of type, value",
        (1, 34),
    ),
    "no such property of a claim": (
        _rules('=> add(type="x",\n value=1,\n kind="y");'),
        "property 'kind' is not one of",
        (3, 2),
    ),
    "no such property of a reference": (
        _rules('c:[type=="x"] => add(type="x", value=c.kind);'),
        "property 'kind' is not one of",
    ),
    "unbound": (_rules('=> add(type="x", value=c.value);'), "identifier 'c' is not bound by this rule"),
    "unbound copy": (
        _rules("=> issue(claim=c);", section="issuancerules"),
        "identifier 'c' is not bound by this rule",
        None,
        "policy > issuancerules",
    ),
    "bound by negation": (
        _rules('c:[type=="x"] && d:[type=="y"] => permit();').replace("d:", "!d:").replace("1.0", "1.2"),
        "a negated condition matches nothing to call 'd'",
    ),
    "bound twice": (_rules('c:[type=="x"] && c:[type=="y"] => permit();'), "identifier 'c' appears twice"),
    "an order of text": (_rules('[type=="x", value>"y"] => permit();'), "> compares integers"),
    "an order of booleans": (_rules('[type=="x", value<=true] => permit();'), "<= compares integers"),
    "a bare word": (_rules("[type==x] => permit();"), "mismatched input 'x' expecting a value", (1, 40)),
    "a bare word in a call": (
        _rules('=> add(type="x", value=AppendString(\n  "a",\n  b));', "1.2"),
        "mismatched input 'b' expecting a value",
        (3, 3),
    ),
    "a bare word in a claim": (
        _rules('=> add(type="x", value=y);'),
        "mismatched input 'y' expecting a value",
        (1, 56),
    ),
    "no value": (_rules('=> add(type="x");'), "add needs value=..."),
    "no type": (_rules("=> add(value=1);"), "add needs type=..."),
    "many properties": (
        _rules("=> add(" + ", ".join(["value=1"] * 20_000) + ");"),
        "a claim has at most 4 properties, got 20000",
    ),
    "a property twice": (
        _rules('=> add(type="x", value=1, value=2);'),
        "property 'value' appears twice",
        (1, 59),
    ),
    "permit of something": (_rules('=> permit(type="x");'), "permit takes no argument"),
    "claim and more": (
        _rules('c:[type=="x"] => issue(claim=c, type="y");'),
        "claim=... must be the only property",
    ),
    "two claims": (
        _rules('c:[type=="x"] && d:[type=="y"] => issue(claim=c, claim=d);', section="issuancerules"),
        "claim=... must be the only property",
        (1, 77),
        "policy > issuancerules",
    ),
    "after a section's name in a comment": (
        _rules("// as in issuancerules {\n=> allow();"),
        "mismatched input 'allow'",
        (2, 4),
    ),
    "after a section's name in a string": (
        _rules('=> add(type="}; issuancerules {", value=1); => allow();'),
        "mismatched input 'allow'",
    ),
    "after a section's name as an identifier": (
        _rules('issuancerules:[type=="x"] => allow();'),
        "mismatched input 'allow'",
    ),
    "after a comment's semicolon": (
        "// one; two;\nversion=1.0 authorizationrules{};",
        "mismatched input 'authorizationrules' expecting ';'",
        (2, 13),
        VERSION,
    ),
    "between sections": ("version=1.0; authorizationrules{}; }", "mismatched input '}'", (1, 36), "policy"),
    "two positions": (_rules('=> add("x", "y");'), "an argument is written name=value", (1, 45)),
    "65 bits": (_rules('[type=="x", value==9223372036854775808] => permit();'), "an integer has 64 bits"),
    "digits without end": (
        _rules(f'[type=="x", value=={"9" * 5000}] => permit();'),
        "an integer has 64 bits",
    ),
    "deep": (
        _rules('=> add(type="x", value=' + "NegateBool(" * 40 + "true" + ")" * 40 + ");", "1.2"),
        "calls nest deeper than 16",
    ),
    "large": ("version=1.0;" + " " * (256 * 1024), "want at most 262144 characters", None, "policy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """What is wrong is named, with its line, its column and what was being read."""
    text, problem, *rest = REFUSED[name]
    place = next((each for each in rest if isinstance(each, tuple)), None)
    failing = next((each for each in rest if isinstance(each, str)), "policy > authorizationrules")
    with pytest.raises(PolicyParsingError) as caught:
        parse(text)
    error = caught.value
    assert problem in error.problem
    assert error.failing == failing
    assert (error.exit_code, error.code) == (3, "policy_parsing")
    if place is not None:
        assert error.place is not None
        assert (error.place.line, error.place.column) == place
        assert f"Line: '{place[0]}', Column: '{place[1]}'" in error.message


def test_azures_words() -> None:
    """The message is the one that people search for."""
    with pytest.raises(PolicyParsingError) as caught:
        parse("version=1.0\n[")
    assert caught.value.message == (
        "policy: Offending symbol: '[' Line: '2', Column: '1' "
        "Failure message: 'mismatched input '[' expecting ';'' Failing rule: 'policy > versionInfo'"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (_rules('c:[type="x"] => permit();'), "type = ...: a comparison is written =="),
        (
            _rules('=> issue("PlatformAttested", value=true);', section="Issuancerules"),
            "a claim's type is written",
        ),
        (_rules("", section="Issuancerules"), "Issuancerules: is written issuancerules"),
    ],
)
def test_warnings(text: str, problem: str) -> None:
    """What published policies write otherwise than the language is accepted, and told."""
    assert any(warned.problem.startswith(problem) for warned in parse(text).warnings)


@pytest.mark.parametrize("value", ['"y"', "c.value", "7", 'AppendString("a",\n "b")'])
def test_an_argument_without_a_name_is_told_as_it_stands(value: str) -> None:
    """The symbol of an error is the policy's own text."""
    with pytest.raises(PolicyParsingError) as caught:
        parse(_rules(f'c:[type=="x"] => add(type="x", {value});', "1.2"))
    assert caught.value.message == (
        f"policy: Offending symbol: '{' '.join(value.split())}' Line: '1', Column: '64' "
        "Failure message: 'an argument is written name=value' Failing rule: 'policy > authorizationrules'"
    )


def test_warnings_are_in_the_order_of_the_text() -> None:
    """Whichever part of the language they are of."""
    text = _rules(
        'c:[type="x"]\n=> issue("y", value=1);\nd:[type="z"]\n=> issue(claim=d);', section="IssuanceRules"
    )
    places = [warned.place for warned in parse(text).warnings]
    assert [(place.line, place.column) for place in places] == [(1, 13), (1, 31), (2, 10), (3, 4)]


def test_a_rule_is_told_as_it_stands() -> None:
    """On one line and without its comments; what is within a string stays, blanks and slashes too."""
    policy = parse(_rules('[type=="a  //  b"]  // why\r\n\t&& [ value == 1 ] => // and\n permit();'))
    (rule,) = policy.rules(Section.AUTHORIZATION)
    assert rule.text == '[type=="a  //  b"] && [ value == 1 ] => permit();'
    assert rule.conditions[0].text == '[type=="a  //  b"]'


def test_layout_is_free() -> None:
    """Blanks, comments and line ends mean nothing, and strings hold what they hold."""
    policy = parse(
        'version = 1.2 ; // a comment; with "quotes"\r\n'
        'authorizationrules\r\n{\r\n c :[ type == "// no comment" ]\r\n=>permit ( ) ;\r\n} ;'
    )
    (rule,) = policy.rules(Section.AUTHORIZATION)
    assert rule.action.verb is Verb.PERMIT
    assert rule.conditions[0].identifier == "c"
    assert policy.rules(Section.ISSUANCE) == ()
    assert policy.warnings == ()


@PROPERTY
@given(st.sampled_from([example.policy for example in EXAMPLES]), st.data())
def test_only_our_errors(text: str, data: st.DataObject) -> None:
    """Whatever is cut out of a policy or put into it, the answer is a policy or an error of ours."""
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 5))
    put = data.draw(st.text('[]{}();:=!<>&.,"\\ axt10\n', max_size=5))
    try:
        parse(text[:at] + put + text[at + cut :])
    except PolicyParsingError:
        return
