"""Every code in the source has an entry in `kluis explain`, and every entry is of a code in the source."""

from __future__ import annotations

import ast
import fnmatch
import functools
import itertools
import re
from collections.abc import Iterator

from kluis.cli import codes as catalogue
from tests.meta.tree import modules, parse

# Objects of the wire that have a field of this name: the reply that all is well, and an agreement's part.
NOT_ERRORS = {"Done", "Agreement", "replace"}
# Codes that are computed, by their parts: each has an entry, or its family has one.
WORD = re.compile(r"[a-z0-9_*]+")
NUMBER = re.compile(r"^AKV[A-Z0-9.]*[0-9](?=:)")
RULES = {"of", "_judge", "_exact", "_same", "_document", "_configuration_rule"}
KINDS = ("_expired", "_not_yet_valid")


def _texts(node: ast.expr) -> Iterator[str]:
    """The codes that an expression may have; a computed part becomes ``*``."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from _texts(node.body)
            yield from _texts(node.orelse)
        case ast.JoinedStr():
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _in_call(node: ast.Call) -> Iterator[str]:
    if _name(node.func) in NOT_ERRORS:
        return
    for keyword in node.keywords:
        if keyword.arg == "code":
            yield from _texts(keyword.value)
        elif keyword.arg == "kind" and _name(node.func) in ("in_time", "check_time"):
            yield from ("".join(pair) for pair in itertools.product(_texts(keyword.value), KINDS))


def _in_class(node: ast.ClassDef) -> Iterator[str]:
    for each in node.body:
        match each:
            case (
                ast.Assign(targets=[ast.Name(id="code")], value=value)
                | ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant() as value)
            ) if any(_name(base).endswith("Error") for base in node.bases) or node.name == "KluisError":
                yield from _texts(value)


def _in_rule(node: ast.Call) -> Iterator[str]:
    """The name of a rule: the first argument of what makes one, or the ``rule`` of a table's field."""
    if _name(node.func) in RULES and node.args:
        yield from _texts(node.args[0])
    for keyword in node.keywords:
        if keyword.arg == "rule":
            yield from _texts(keyword.value)


@functools.cache
def codes() -> frozenset[str]:
    """Every code that the source may raise or a rule may have."""
    found: set[str] = set()
    for module in modules():
        for node in ast.walk(parse(module)):
            if isinstance(node, ast.Call):
                found |= set(_in_call(node))
                found |= set(_in_rule(node)) if module.parts[0] == "appraisal" else set()
            elif isinstance(node, ast.FunctionDef):
                defaults = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                found |= {
                    text for arg, value in defaults if arg.arg == "code" and value for text in _texts(value)
                }
            elif isinstance(node, ast.ClassDef):
                found |= set(_in_class(node))
            elif isinstance(node, ast.Assign) and [_name(target) for target in node.targets] == ["code"]:
                found |= {text for text in _texts(node.value) if WORD.fullmatch(text)}
    return frozenset(found)


def _in_vault(node: ast.Call) -> Iterator[str]:
    """What Azure's clients read of a refusal of the key service: ``innererror.code``."""
    if _name(node.func) in ("Forbidden", "Conflict") and len(node.args) > 1:
        yield from _texts(node.args[1])
    for keyword in node.keywords:
        if keyword.arg == "inner":
            yield from _texts(keyword.value)


def vault_codes() -> set[str]:
    """Azure's numbers and finer codes that the key service returns."""
    found: set[str] = set()
    for module in modules():
        if module.parts[:2] != ("services", "keyvault"):
            continue
        for node in ast.walk(parse(module)):
            if isinstance(node, ast.Call):
                found |= set(_in_vault(node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(NUMBER.findall(node.value))
    return found


def _means(code: str, entry: str) -> bool:
    return fnmatch.fnmatchcase(code, entry) or ("*" in code and fnmatch.fnmatchcase(entry, code))


def test_every_code_has_an_entry() -> None:
    """For every code of an error or a rule, `kluis explain` shows its cause and its fix."""
    known = catalogue.entries()
    assert vault_codes() <= known.keys()
    assert sorted(code for code in codes() if not any(_means(code, entry) for entry in known)) == []


def test_every_entry_has_a_code() -> None:
    """No entry explains a code that no part of the program uses."""
    found = codes() | vault_codes()
    assert sorted(e for e in catalogue.entries() if not any(_means(code, e) for code in found)) == []


def test_each_code_has_one_entry() -> None:
    """No code stands in two groups, where one entry would hide the other, with its cause and its fix."""
    listed = [code for group in catalogue._catalogue().values() for code in group]
    assert sorted({code for code in listed if listed.count(code) > 1}) == []
