"""Wants: each kind judges, is shown, and is written; none is met by what is not there."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import pytest

from kluis.appraisal.policy import structured, values, wants
from kluis.appraisal.policy.values import Product, Value
from kluis.appraisal.policy.wants import ANY, Want
from kluis.errors import UsageError
from tests.appraisal.samples import digest

A, B = b"\xaa" * 32, b"\xbb" * 32
MILAN = Product("Milan", {"snp": 8, "microcode": 209})

# want, how it is shown, what meets it, what does not
CASES: list[tuple[Want, str, list[Value], list[Value]]] = [
    (ANY, "any", [None, 1, b"", "x"], []),
    (wants.REFERENCE, "a reference value, and none was given", [], [None, A, {}]),
    (
        wants.OneOf(frozenset({A, B})),
        "aaaaaaaa..aaaa or bbbbbbbb..bbbb",
        [A, B],
        [A[:31], A + b"\0", b"", None, "aa", 1],
    ),
    (wants.Named(frozenset({"VCEK"})), "VCEK", ["VCEK"], ["VLEK", "", None, b"VCEK", {}]),
    (wants.Named(frozenset({0, 2})), "0 or 2", [0, 2], [1, None, False, True]),
    (wants.AtLeast(3), "at least 3", [3, 4], [2, None, True, (3,)]),
    (wants.AtLeast(1), "at least 1", [1], [0, True]),
    (
        wants.AtLeast((1, 55, 21)),
        "at least 1.55.21",
        [(1, 55, 21), (2, 0, 0)],
        [(1, 55, 20), (2,), (1, 55, 21, 0), (2, 0, 0, 0), None, 2],
    ),
    (wants.AtMost(3), "at most 3 s", [0, 3], [4, -1, None, True]),
    (wants.Exactly(1), "1", [1], [0, True, None]),
    (wants.Allowed(False), "no", [False], [True, None, 0]),
    (wants.Allowed(True), "yes or no", [False, True], [None, 1]),
    (wants.Required(True), "yes", [True], [False, None, 1]),
    (wants.Required(False), "yes or no", [False, True], [None, 0]),
    (structured.Masked(0x6, 0x4), "0x4 under 0x6", [0x4, 0xD], [0x6, 0x0, None, True]),
    (structured.Masked(0x1, 0x1), "0x1 under 0x1", [1, 3], [0, True]),
    (
        structured.Registers({"pcr0": frozenset({A})}),
        "pcr0 aaaaaaaa..aaaa",
        [{"pcr0": digest(0xAA, 32), "pcr1": digest(1)}],
        [{}, {"pcr0": digest(0xBB, 32)}, {"pcr1": digest(0xAA, 32)}, {"pcr0": 1}, None, A],
    ),
    (
        structured.Registers({"pcr1": frozenset({A}), "pcr0": frozenset({B})}),
        "pcr0 bbbbbbbb..bbbb, pcr1 aaaaaaaa..aaaa",
        [{"pcr0": digest(0xBB, 32), "pcr1": digest(0xAA, 32)}],
        [{"pcr0": digest(0xAA, 32), "pcr1": digest(0xBB, 32)}, {"pcr0": digest(0xBB, 32)}],
    ),
    (
        structured.Components({"Milan": {"snp": 0}, "Genoa": {"snp": 1, "tee": 0}}),
        "Genoa snp 1, tee 0 or Milan snp 0",
        [Product("Milan", {"snp": 0}), Product("Genoa", {"snp": 1, "tee": 0})],
        [Product("Milan", {"tee": 1}), Product("Genoa", {"snp": 1}), Product("Genoa", {"snp": 0, "tee": 1})],
    ),
    (
        structured.Components({"Milan": {"snp": 8, "microcode": 209}}),
        "Milan microcode 209, snp 8",
        [MILAN, Product("Milan", {"snp": 255, "microcode": 209})],
        [
            Product("Milan", {"snp": 7, "microcode": 255}),
            Product("Milan", {"snp": 8}),
            Product("Genoa", {"snp": 8, "microcode": 209}),
            {"snp": 8, "microcode": 209},
            None,
        ],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case[0]).__name__)
def test_want(case: tuple[Want, str, list[Value], list[Value]]) -> None:
    """What meets a want, what does not, and how it reads."""
    want, text, good, bad = case
    assert str(want) == text
    assert [got for got in good if want.meets(got) is not True] == []
    assert [got for got in bad if want.meets(got) is not False] == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: wants.OneOf(frozenset()),
        lambda: wants.Named(frozenset()),
        lambda: structured.Registers({}),
        lambda: structured.Registers({"pcr0": frozenset()}),
        lambda: structured.Components({}),
        lambda: structured.Components({"Milan": {}}),
    ],
)
def test_an_empty_expected_set_is_refused(make: object) -> None:
    """Empty means fail: no empty set is ever read as everything."""
    assert callable(make)
    with pytest.raises(UsageError, match="want at least 1, got 0"):
        make()


@pytest.mark.parametrize(("mask", "value"), [(0, 0), (0, 1), (1, 2), (1, 3)])
def test_bits_that_no_mask_looks_at(mask: int, value: int) -> None:
    """A mask without bits wants nothing, and a value outside it is never met: neither makes a want."""
    with pytest.raises(UsageError, match="want a mask with bits, and a value within it"):
        structured.Masked(mask, value)


def test_registers_that_fail_are_told_in_order() -> None:
    """Of registers, the failing ones are reported, sorted."""
    want = structured.Registers({f"pcr{index}": frozenset({A}) for index in (7, 0, 4)})
    assert want.failing({"pcr0": digest(0xAA, 32)}) == ["pcr4", "pcr7"]


def test_compared_in_full_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte strings are compared whole, by a comparison that takes as long wherever they differ."""
    seen: list[int] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: (seen.append(len(b)), real(a, b))[1])
    assert not wants.OneOf(frozenset({A})).meets(A[:16])
    assert seen == [32]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (b"", "none"),
        ("", "none"),
        (True, "yes"),
        (False, "no"),
        (A, "aaaaaaaa..aaaa"),
        (b"\1\2", "0102"),
        (bytes(10), "00" * 10),
        (bytes(11), "00000000..0000"),
        ((1, 55), "1.55"),
        (7, "7"),
        ({}, "none"),
        ({"pcr1": digest(1), "pcr0": digest(2)}, "pcr0 02020202..0202, pcr1 01010101..0101"),
        (MILAN, "Milan microcode 209, snp 8"),
    ],
)
def test_shown(value: Value, text: str) -> None:
    """Claims are shown short, and what is not there as none."""
    assert values.format_value(value) == text


def test_very_many_alternatives_are_counted() -> None:
    """Of a long list the first entries are reported, and the number of others."""
    assert values.either(range(10, 23)) == " or ".join(map(str, range(10, 23)))
    assert values.either(range(10, 24)).endswith(" or 21 or one of 2 more")
    assert values.either(range(10, 30)).endswith(" or 21 or one of 8 more")


def test_written() -> None:
    """Lists and tables are sorted, and a key that is not bare is quoted; text is unchanged."""
    assert values.format_list({"b", "a"}) == '["a", "b"]'
    assert values.format_list({2, 0}) == "[0, 2]"
    assert values.table({"b c": 1, "a": 2}, str) == '{ a = 2, "b c" = 1 }'
    assert values.format_list({"\U0001f511"}) == '["\U0001f511"]'
    assert values.table({"\U0001f511": 1}, str) == '{ "\U0001f511" = 1 }'
    assert wants.REFERENCE.toml() == '"reference"'
    assert [want.toml() for want in (wants.AtLeast(3), wants.AtMost(4), wants.Exactly(5))] == ["3", "4", "5"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: wants.Named("process-user"),  # type: ignore[arg-type]
        lambda: wants.OneOf(A),  # type: ignore[arg-type]
        lambda: structured.Registers({"pcr0": A}),  # type: ignore[dict-item]
    ],
)
def test_text_is_no_list(make: Callable[[], Want]) -> None:
    """A name where a set of names belongs would be met by every part of it: it makes no want."""
    with pytest.raises(UsageError, match=r"want a set of values, got (str|bytes)$"):
        make()


def test_registers_stand_as_people_count() -> None:
    """PCR 2 comes before PCR 10, in a policy and in a rule's text."""
    value = digest(0xAA)
    names = [f"pcr{index}" for index in (10, 2, 1)]
    want = structured.Registers({name: frozenset({value.value}) for name in names})
    for text in (str(want), want.toml(), values.format_value(dict.fromkeys(names, value))):
        assert sorted(names, key=lambda name: text.index(f"{name} ")) == ["pcr1", "pcr2", "pcr10"]
