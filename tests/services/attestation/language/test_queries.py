"""JMESPath in policies follows its specification, refuses unsupported parts, and is limited."""

from __future__ import annotations

import json
import random

import pytest

from kluis.errors import PolicyError
from kluis.services.attestation.language.functions import Values, call
from kluis.services.attestation.language.queries import Work
from tests.pace import within


def _answer(document: str, query: str, work: Work | None = None) -> object:
    (found,) = call("JmesPath", [Values((document,)), Values((query,))], work or Work()).members
    return json.loads(str(found))


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("{}", "ceil(`1e999`)"),
        ("{}", "floor(`-1e999`)"),
        ("[" + "9" * 400 + ",0.5]", "sum(@)"),
        ("[" + "9" * 400 + "]", "avg(@)"),
        ('"1e999"', "ceil(to_number(@))"),
        ('"' + "9" * 5000 + '"', "to_number(@)"),
    ],
)
def test_numbers_past_every_bound(document: str, query: str) -> None:
    """Arithmetic that overflows is a refusal by the function's name."""
    with pytest.raises(PolicyError, match=r"^policy: JmesPath: "):
        _answer(document, query)


@pytest.mark.parametrize(
    ("document", "query", "want"),
    [
        ('[{"v":"x"},{"v":3},{"v":null},{"v":true}]', "[?v > `1`].v", [3]),
        ('[{"v":"x"},{"v":3}]', "[*].[v <= `3`]", [[None], [True]]),
        ("[1, 0]", "contains(@, `true`)", False),
        ("[[1]]", "contains(@, `[true]`)", False),
        ("[[1]]", "contains(@, `[1.0]`)", True),
        ('"a1"', "contains(@, `1`)", False),
        ("[1]", "@ == `[true]`", False),
        ('{"a":[0]}', '@ != `{"a":[false]}`', True),
        ('{"a":[0]}', '@ == `{"a":[0.0]}`', True),
        ('{"a":1}', '@ == `{"a":1,"b":1}`', False),
        ("1", "@ == `1.0`", True),
        ('"1"', "@ == `1`", False),
    ],
)
def test_values_of_two_kinds(document: str, query: str, want: object) -> None:
    """They have no order and are never equal, at any depth: none is an error, and true is not one."""
    assert _answer(document, query) == want
    assert json.dumps(_answer(document, query)) == json.dumps(want)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ('"12"', 12), ('"-1.5e1"', -15.0), ('"0"', 0), ("7", 7), ('""', None), ('" 1"', None), ('"01"', None),
        ('"1_0"', None),
        ('"nan"', None), ('"infinity"', None), ('"\u0663"', None), ("true", None), ("[1]", None),
    ],
)  # fmt: skip
def test_to_number(value: str, want: object) -> None:
    """What JSON calls a number becomes one, and no other text does."""
    assert _answer(value, "to_number(@)") == want


LONG = ["x" * 4000 + f"{number:03}" for number in range(500)]
random.Random(1).shuffle(LONG)
PAIR = {"a": "x" * 1_000_000 + "1", "b": "x" * 1_000_000 + "2"}


@pytest.mark.parametrize(
    ("document", "one", "times"),
    [
        (LONG, "sort(@)", 500),
        (LONG, "max(@)", 500),
        (LONG, "sort_by(@, &@)", 200),
        (PAIR, "a==b", 700),
        (PAIR, "a!=b", 700),
    ],
)
def test_texts_that_are_compared_are_counted(document: object, one: str, times: int) -> None:
    """Long texts, alike up to their ends, are compared so often and no more."""
    with within(2), pytest.raises(PolicyError, match="too much work: want at most 1000000 steps"):
        _answer(json.dumps(document), "[" + ",".join([one] * times) + "]|length(@)")
