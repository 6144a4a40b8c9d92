"""Look up the explanation of each error or rule code, and of each word of a verdict.

Errors and ``kluis explain`` read the same catalogue: ``codes.toml`` and ``words.toml``.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

from kluis.errors import NEAR, UsageError

GROUPS = {
    "general": "any program",
    "format": "the bytes are not what they should be",
    "authenticity": "its signer is not trusted",
    "freshness": "endorsements, and whether it is still true",
    "policy": "authentic, but rejected by the policy",
    "enclave": "a call into an enclave",
    "machine": "images, and this machine",
    "store": "the store",
    "connect": "the local proxy to an enclave",
    "cloud": "the local cloud",
    "room": "clean rooms",
    "service": "the services",
    "vault": "the key service, in the words of Azure's",
}


# Rules of the table [machine.TEE] have the name of the TEE's own rule, after this.
_MACHINE = "machine_"
_DEVICE = re.compile("device[0-9]{1,3}_")

WORDS = {"tier": "a verdict's word", "tcb": "a TCB status", "level": "a protection level"}


class Word(NamedTuple):
    """The explanation of a word of a verdict or a claim."""

    word: str
    kind: str
    means: str
    then: str


class Entry(NamedTuple):
    """The explanation of one code."""

    code: str
    group: str
    cause: str
    fix: str


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Every code, in the order of the catalogue; one that ends in ``*`` covers all codes with that prefix."""
    return {
        code: Entry(code, group, each["cause"], each["fix"])
        for group, codes in _catalogue().items()
        for code, each in codes.items()
    }


@functools.cache
def words() -> Mapping[str, Word]:
    """Every word of a verdict or a claim, lower case, with its explanation."""
    from kluis.evidence.levels import MEANINGS  # which errors, whose fixes come from here, do without

    data = resources.files("kluis.cli").joinpath("words.toml").read_bytes()
    listed = [
        Word(word, kind, each["means"], each["then"])
        for kind, table in tomllib.loads(data.decode()).items()
        for word, each in table.items()
    ]
    levels = [
        Word(
            str(level),
            "level",
            f"its keys are made by {worth.keys}; it keeps out {worth.keeps_out}",
            f"it does not keep out: {'; '.join(worth.lets_in)}",
        )
        for level, worth in MEANINGS.items()
    ]
    by_name: dict[str, Word] = {}
    for each in (*listed, *levels):
        name = each.word.lower()
        by_name[name] = _both(by_name[name], each) if name in by_name else each
    return by_name


def _both(one: Word, other: Word) -> Word:
    """A word of two kinds, with its meaning as each."""
    return other._replace(
        means=f"as {WORDS[one.kind]}: {one.means}; as {WORDS[other.kind]}: {other.means}",
        then=f"{one.then}; {other.then}",
    )


@functools.cache
def _catalogue() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    data = resources.files("kluis.cli").joinpath("codes.toml").read_bytes()
    return tomllib.loads(data.decode())


@functools.cache
def _others() -> Mapping[str, str]:
    """Other names to look up codes by: names of situations that are no codes here."""
    return {
        other: code
        for codes in _catalogue().values()
        for code, each in codes.items()
        for other in each.get("also", ())
    }


def find(code: str) -> Entry:
    """The entry of a code, or of the code that covers ``code``.

    Raises:
        UsageError: no such code; the hint names the nearest.
    """
    known = entries()
    code = code if code in known else _others().get(code, code)
    if code in known:
        return known[code]
    if code.startswith(_MACHINE) and (rule := known.get(code.removeprefix(_MACHINE))) is not None:
        return rule._replace(code=code, cause=f"in the machine around the enclave: {rule.cause}")
    if (match := _DEVICE.match(code)) and (rule := known.get(code[match.end() :])) is not None:
        return rule._replace(code=code, cause=f"in the evidence of a device: {rule.cause}")
    broken = _denylist_entries()
    if code in broken:
        return broken[code]
    if code.lower() != code and code.lower() in {*known, *broken}:
        return find(code.lower())
    near = difflib.get_close_matches(code.lower(), [*known, *broken, *words()], 1, NEAR)
    near = [words()[each].word if each in words() else each for each in near]
    raise UsageError(
        f"explain: no code or word {code[:64]!a}",
        hint=f"kluis explain {near[0]}" if near else "kluis explain lists every code and word",
    )


@functools.cache
def _denylist_entries() -> Mapping[str, Entry]:
    """The explanation of each product line that a dated list names."""
    from kluis.evidence import denylist  # which errors, whose fixes come from here, do without

    return {
        each.id: Entry(
            each.id,
            "policy",
            f"{each.title}: {each.effect}; published {each.published}: {each.source}",
            each.fix,
        )
        for each in denylist.entries()
    }


def list_completions() -> list[tuple[str, str]]:
    """Each code with its cause and each word with its meaning, for shell completion."""
    codes = [(code, entry.cause) for code, entry in {**entries(), **_denylist_entries()}.items()]
    return codes + [(each.word, each.means) for each in words().values()]
