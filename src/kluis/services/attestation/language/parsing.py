"""Parse policy text into a checked policy, or report where it is wrong, what and why.

Spec: Microsoft Azure Attestation, policy grammar; the messages keep Azure's form (symbol, line, column,
failing rule), which people search for.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import lark
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from kluis.errors import FormatError
from kluis.services.attestation.language import checks
from kluis.services.attestation.language.claims import MOST_INTEGER
from kluis.services.attestation.language.syntax import (
    VERSIONS,
    Action,
    Call,
    Condition,
    Expression,
    Literal,
    Place,
    Policy,
    Property,
    Reference,
    Rule,
    Section,
    Test,
    Verb,
    Warned,
)

MAX_SIZE: Final = 256 * 1024
MAX_DEPTH: Final = 16
_PARTS: Final = re.compile(r'//[^\r\n]*|"(?:[^"\\\r\n]|\\.)*"|[{};]|\w+')
# Blanks and comments; or a string, which can contain neither.
_LAYOUT: Final = re.compile(r'("(?:[^"\\\r\n]|\\.)*")|(?:\s|//[^\r\n]*)+')
_SHOWN: Final = {
    "SEMICOLON": "';'",
    "EQUALS": "'='",
    "ARROW": "'=>'",
    "OPEN": "'['",
    "CLOSE": "']'",
    "BANG": "'!'",
    "COMMA": "','",
    "LPAR": "'('",
    "RPAR": "')'",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "COLON": "':'",
    "DOT": "'.'",
    "COMPARISON": "a comparison",
    "DECIMAL": "a version",
    "INTEGER": "an integer",
    "STRING": "a string",
    "NAME": "a name",
    "$END": "the end",
    "__ANON_0": "'&&'",
}


class PolicyParsingError(FormatError):
    """An invalid policy.

    Attributes:
        place: of the problem, or None if it has none.
        failing: the rule being parsed: ``policy > versionInfo``, ``policy > issuancerules``.
        problem: in one sentence.
    """

    code = "policy_parsing"

    def __init__(self, problem: str, place: Place | None, failing: str, symbol: str = "") -> None:
        where = f"Offending symbol: '{symbol}' " if symbol else ""
        where += f"Line: '{place.line}', Column: '{place.column}' " if place else ""
        super().__init__(
            f"policy: {where}Failure message: '{problem}' Failing rule: '{failing}'",
            hint="kluis policy lint FILE shows the line",
        )
        self.place = place
        self.failing = failing
        self.problem = problem


def parse(text: str) -> Policy:
    """Parse a policy and check it.

    Args:
        text: at most 262144 characters.

    Raises:
        PolicyParsingError: names the symbol, its line and column, and the rule of the grammar.
    """
    if len(text) > MAX_SIZE:
        raise PolicyParsingError(f"want at most {MAX_SIZE} characters, got {len(text)}", None, "policy")
    builder = _Builder(text)
    try:
        version, sections = _grammar(builder)
    except UnexpectedInput as error:
        raise _syntax_error(error, text) from None
    warnings = sorted(builder.warnings, key=lambda each: each.place)
    policy = Policy(version, sections, tuple(warnings), text)
    checks.check(policy, refuse=PolicyParsingError)
    return policy


def _grammar(builder: _Builder) -> tuple[tuple[int, int], dict[Section, tuple[Rule, ...]]]:
    tree: Any = _parser().parse(builder.text)
    built: tuple[tuple[int, int], dict[Section, tuple[Rule, ...]]] = builder.transform(tree)
    return built


@lru_cache(maxsize=1)
def _parser() -> lark.Lark:
    grammar = (pkgutil.get_data(__package__, "policy.lark") or b"").decode()
    return lark.Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def _syntax_error(error: UnexpectedInput, text: str) -> PolicyParsingError:
    place = Place(max(error.line, 1), max(error.column, 1))
    if isinstance(error, UnexpectedToken):
        symbol = str(error.token) or "<EOF>"
        wanted = sorted(_SHOWN.get(name, name) for name in error.expected)
    else:
        symbol = text[error.pos_in_stream :][:1]
        allowed = error.allowed if isinstance(error, UnexpectedCharacters) else None
        wanted = sorted(_SHOWN.get(name, name) for name in allowed or ())
    if symbol == "<EOF>":
        lines = text.split("\n")
        place = Place(len(lines), len(lines[-1]) + 1)
    problem = f"mismatched input '{symbol}' expecting {' or '.join(wanted)}"
    return PolicyParsingError(problem, place, _failing(text, place), symbol)


def _failing(text: str, place: Place) -> str:
    """The part of the grammar being parsed at ``place``: the version, a section, or the text between."""
    lines = text.split("\n")[: place.line]
    before = "\n".join([*lines[:-1], lines[-1][: place.column - 1]])
    part, rules = "policy > versionInfo", False
    for match in _PARTS.finditer(before):
        word = match[0].lower()
        if word in ("{", "}"):
            rules = word == "{"
        elif not rules and word == ";":
            part = "policy"
        elif not rules and word in list(Section) and part != "policy > versionInfo":
            part = f"policy > {word}"
    return part


class _Builder:
    """Builds the tree of :mod:`syntax` from lark's, leaf by leaf: no text, however nested, causes
    recursion.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.warnings: list[Warned] = []

    def transform(self, tree: lark.Tree[Any]) -> Any:
        """Build the part that ``tree`` describes."""
        made: dict[int, Any] = {}
        for node in tree.iter_subtrees():
            children = [made.get(id(child), child) for child in node.children]
            build: Callable[[Any, list[Any]], Any] = getattr(self, f"_{node.data}")
            made[id(node)] = build(node.meta, children)
        return made[id(tree)]

    def _start(self, _: Any, children: list[Any]) -> Any:
        version, *sections = children
        by_section: dict[Section, tuple[Rule, ...]] = {}
        for name, rules, place in sections:
            if name is Section.CONFIGURATION and version < (1, 1):
                raise PolicyParsingError(f"{name} need version 1.1", place, f"policy > {name}", name)
            if by_section and list(Section).index(name) <= max(
                list(Section).index(each) for each in by_section
            ):
                raise PolicyParsingError(
                    f"section {name} appears twice, or after a later one", place, f"policy > {name}"
                )
            by_section[name] = rules
        return version, by_section

    def _version(self, _: Any, children: list[Any]) -> tuple[int, int]:
        name, _equals, number, _end = children
        if name != "version":
            raise self._mismatch(name, "'version'")
        if number not in VERSIONS:
            problem = f"version {number[:24]} is not one of {', '.join(VERSIONS)}"
            raise self._error(problem, _place(number), number[:24])
        return VERSIONS[number]

    def _section(self, _: Any, children: list[Any]) -> tuple[Section, tuple[Rule, ...], Place]:
        name, *rules, _end = children
        try:
            section = Section(name.lower())
        except ValueError:
            raise PolicyParsingError(
                f"mismatched input '{name}' expecting one of {', '.join(Section)}",
                _place(name),
                "policy",
                name,
            ) from None
        if name != section.value:
            self.warnings.append(Warned(_place(name), f"{name}: is written {section}"))
        return section, tuple(rules), _place(name)

    def _rule(self, meta: Any, children: list[Any]) -> Rule:
        conditions, _arrow, action, _end = children
        return Rule(conditions or (), action, Place(meta.line, meta.column), self._words(meta))

    def _conditions(self, _: Any, children: list[Any]) -> tuple[Condition, ...]:
        return tuple(children)

    def _condition(self, meta: Any, children: list[Any]) -> Condition:
        bang, identifier, _open, *tests, _close = children
        return Condition(
            bang is not None,
            None if identifier is None else str(identifier),
            tuple(tests),
            Place(meta.line, meta.column),
            self._words(meta),
        )

    def _test(self, _: Any, children: list[Any]) -> Test:
        name, operator, expression = children
        self._check_value(expression)
        if operator == "=":
            self.warnings.append(Warned(_place(name), f"{name} = ...: a comparison is written =="))
            operator = "=="
        return Test(str(name), operator, expression, _place(name))

    def _operator(self, _: Any, children: list[Any]) -> str:
        return str(children[0])

    def _action(self, _: Any, children: list[Any]) -> Action:
        name, *arguments = children
        try:
            verb = Verb(name)
        except ValueError:
            raise self._mismatch(name, f"one of {', '.join(Verb)}") from None
        present = [argument for argument in arguments if argument is not None]
        if present and present[0][0] is None:
            self.warnings.append(Warned(present[0][2], "a claim's type is written type=..."))
            present[0] = ("type", *present[0][1:])
        copied, properties = None, []
        for key, value, place, words in present:
            if key == "claim" and isinstance(value, lark.Token):
                if copied is not None:
                    raise self._error("claim=... must be the only property", place, "claim")
                copied = str(value)
            elif key is None:
                raise self._error("an argument is written name=value", place, words)
            else:
                self._check_value(value)
                properties.append(Property(str(key), value, place))
        return Action(verb, copied, tuple(properties), _place(name))

    def _named(self, meta: Any, children: list[Any]) -> tuple[lark.Token, Any, Place, str]:
        name, _equals, value = children
        return name, value, _place(name), self._words(meta)

    def _positional(self, meta: Any, children: list[Any]) -> tuple[None, Any, Place, str]:
        return None, children[0], Place(meta.line, meta.column), self._words(meta)

    def _string(self, _: Any, children: list[Any]) -> Literal:
        raw, out, position = children[0][1:-1], [], 0
        while (at := raw.find("\\", position)) >= 0:
            if raw[at + 1 : at + 2] not in ('"', "\\"):
                # A JMESPath query has its own escapes; an escape that is unknown here is left unchanged.
                out.append(raw[position : at + 1])
                position = at + 1
                continue
            out += [raw[position:at], raw[at + 1]]
            position = at + 2
        return Literal("".join([*out, raw[position:]]))

    def _integer(self, _: Any, children: list[Any]) -> Literal:
        token = children[0]
        value = int(token[:24], 16 if token.startswith("0x") else 10)
        if len(token) > 24 or not -MOST_INTEGER - 1 <= value <= MOST_INTEGER:
            raise self._error("an integer has 64 bits", _place(token), token[:24])
        return Literal(value)

    def _word(self, _: Any, children: list[Any]) -> Any:
        return Literal(children[0] == "true") if children[0] in ("true", "false") else children[0]

    def _reference(self, _: Any, children: list[Any]) -> Reference:
        return Reference(str(children[0]), str(children[1]), _place(children[0]))

    def _call(self, _: Any, children: list[Any]) -> Call:
        name, *rest = children
        arguments: tuple[Expression, ...] = tuple(each for each in rest if each is not None)
        for each in arguments:
            self._check_value(each)
        depth = 1 + max((each.depth for each in arguments if isinstance(each, Call)), default=0)
        if depth > MAX_DEPTH:
            raise self._error(f"calls nest deeper than {MAX_DEPTH}", _place(name), name)
        return Call(str(name), arguments, _place(name), depth)

    def _check_value(self, expression: Any) -> None:
        if isinstance(expression, lark.Token):
            raise self._mismatch(expression, "a value")

    def _mismatch(self, token: lark.Token, wanted: str) -> PolicyParsingError:
        return self._error(f"mismatched input '{token}' expecting {wanted}", _place(token), str(token))

    def _error(self, problem: str, place: Place, symbol: str) -> PolicyParsingError:
        return PolicyParsingError(problem, place, _failing(self.text, place), symbol)

    def _words(self, meta: Any) -> str:
        return _LAYOUT.sub(lambda match: match[1] or " ", self.text[meta.start_pos : meta.end_pos])


def _place(token: lark.Token) -> Place:
    return Place(token.line or 1, token.column or 1)
