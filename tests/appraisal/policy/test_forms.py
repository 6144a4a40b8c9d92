"""Forms: how each want stands in a policy, what is refused, and what is drafted."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.appraisal.policy import structured, wants
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.toml_tables import Table
from kluis.appraisal.policy.values import Product, Value
from kluis.appraisal.policy.wants import ANY, Form, Named, Want
from kluis.errors import KluisError
from kluis.evidence import Tee
from tests.appraisal import wanted
from tests.appraisal.samples import digest
from tests.strategies import PROPERTY

FORMS: list[Form] = [
    Form(wants.OneOf, sizes=(32, 48)),
    Form(wants.OneOf),
    Form(wants.Named, known=("VCEK", "VLEK")),
    Form(wants.Named),
    Form(wants.Named, most=3),
    Form(wants.Exactly, most=0xFFFF),
    Form(wants.AtLeast, most=0xFFFF),
    Form(wants.AtMost, most=86400, age_seconds=300),
    Form(wants.AtLeast, parts=3),
    Form(wants.Allowed),
    Form(wants.Required),
    Form(structured.Masked, width=64, mask=0xFF),
    Form(structured.Registers, pattern=r"pcr[0-7]"),
    Form(structured.Components, products={"Milan": ("boot_loader", "tee", "snp", "microcode")}),
]


def _read(form: Form, text: str) -> Want:
    return form.read(Table(tomllib.loads(f"key = {text}"), "policy.snp", "hint"), "key")


@PROPERTY
@given(st.sampled_from(FORMS).flatmap(lambda form: wanted.of(form).map(lambda want: (form, want))))
def test_what_is_written_is_read(case: tuple[Form, Want]) -> None:
    """A want of every form, written, reads as itself."""
    form, want = case
    assert _read(form, want.toml()) == want


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.want.__name__)
def test_any_is_said(form: Form) -> None:
    """Every form takes any where it is written out, and not where nothing is."""
    assert _read(form, '"any"') == ANY
    with pytest.raises(KluisError) as caught:
        form.read(Table({}, "policy.snp", "hint"), "key")
    assert (caught.value.code, str(caught.value)) == ("policy_incomplete", "policy.snp.key: is not stated")


def test_names_in_small_letters() -> None:
    """An FMSPC is the same in capitals and in small letters; other names are compared as they stand."""
    small = '["00806f050000", "00906ED50000"]'
    assert _read(Form(Named, fmspcs=True), small) == Named(frozenset({"00806F050000", "00906ED50000"}))
    assert _read(Form(Named), small) == Named(frozenset({"00806f050000", "00906ED50000"}))
    for tee in (Tee.SGX, Tee.TDX):
        form = {field.key: field.form for field in TABLES[tee]}["products"]
        assert _read(form, small).meets("00806F050000")


REFUSED = {
    "an empty list of hex": (FORMS[1], "[]", "policy.snp.key: want at least 1, got 0"),
    "another size": (FORMS[0], '["00"]', "policy.snp.key: want 32 or 48 bytes, got 1"),
    "no hex": (FORMS[1], '["0x"]', "policy.snp.key: want hex, got '0x'"),
    "an empty list of names": (FORMS[3], "[]", "policy.snp.key: want at least 1, got 0"),
    "an unknown name": (FORMS[2], '["ARK"]', "policy.snp.key: want some of VCEK, VLEK, got 'ARK'"),
    "an empty list of numbers": (FORMS[4], "[]", "policy.snp.key: want at least 1, got 0"),
    "a number past the most": (FORMS[4], "[4]", "policy.snp.key: want a list of integers 0..3"),
    "a flag as number": (FORMS[4], "[true]", "policy.snp.key: want a list of integers 0..3"),
    "a number below zero": (FORMS[5], "-1", "policy.snp.key: want 0..65535, got -1"),
    "text for a number": (FORMS[6], '"3"', "policy.snp.key: want an integer or \"any\", got '3'"),
    "a version of two": (FORMS[8], '"1.55"', "policy.snp.key: want a version of 3 numbers, got '1.55'"),
    "a version with a word": (
        FORMS[8],
        '"1.5.x"',
        "policy.snp.key: want a version of 3 numbers, got '1.5.x'",
    ),
    "a flag that is text": (FORMS[9], '"no"', "policy.snp.key: want true or false or \"any\", got 'no'"),
    "bits without a value": (FORMS[11], '{ mask = "1" }', "policy.snp.key.value: is not stated"),
    "too many bits": (
        FORMS[11],
        f'{{ mask = "1{"0" * 16}", value = "0" }}',
        "policy.snp.key.mask: want at most 64 bits in hex",
    ),
    "no bits": (FORMS[11], '{ mask = "", value = "0" }', "policy.snp.key.mask: want at most 64 bits in hex"),
    "more than bits": (
        FORMS[11],
        '{ mask = "1", value = "0", other = 1 }',
        "policy.snp.key.other: is not a key of a policy",
    ),
    "a version of four": (
        FORMS[8],
        '"1.2.3.4"',
        "policy.snp.key: want a version of 3 numbers, got '1.2.3.4'",
    ),
    "a reference of what has none": (
        FORMS[0],
        '"reference"',
        "policy.snp.key: want a list or \"any\", got 'reference'",
    ),
    "a reference of registers that have none": (
        FORMS[12],
        '"reference"',
        "policy.snp.key: want a table or \"any\", got 'reference'",
    ),
    "no register": (FORMS[12], "{}", "policy.snp.key: want at least 1, got 0"),
    "a register without values": (FORMS[12], "{ pcr0 = [] }", "policy.snp.key: pcr0: want at least 1, got 0"),
    "an unknown register": (FORMS[12], "{ pcr8 = [] }", "policy.snp.key.pcr8: is no register of this TEE"),
    "a register of another size": (
        FORMS[12],
        '{ pcr0 = ["00"] }',
        "policy.snp.key.pcr0: want a digest, got 1 bytes",
    ),
    "no product": (FORMS[13], "{}", "policy.snp.key: want at least 1, got 0"),
    "an unknown product": (FORMS[13], "{ Rome = {} }", "policy.snp.key.Rome: want some of Milan"),
    "a part that the product does not have": (
        FORMS[13],
        "{ Milan = { boot_loader = 1, tee = 1, snp = 1, microcode = 1, fmc = 1 } }",
        "policy.snp.key.Milan.fmc: is not a key of a policy",
    ),
    "a part above all": (
        FORMS[13],
        "{ Milan = { boot_loader = 256, tee = 1, snp = 1, microcode = 1 } }",
        "policy.snp.key.Milan.boot_loader: want 0..255, got 256",
    ),
    "a product without a part": (
        FORMS[13],
        "{ Milan = { boot_loader = 1 } }",
        "policy.snp.key.Milan.tee: is not stated",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """An empty set, a missing part and another kind of value are refused, each by its place."""
    form, text, message = REFUSED[name]
    with pytest.raises(KluisError) as caught:
        _read(form, text)
    assert str(caught.value) == message


def test_references() -> None:
    """A reference value is wanted where there may be one, in so many words."""
    for form in (
        Form(wants.OneOf, referenced=True),
        Form(structured.Registers, pattern=r"pcr[0-7]", referenced=True),
    ):
        assert _read(form, '"reference"') == wants.REFERENCE


def test_the_most_of_a_part_and_digits_of_any_number() -> None:
    """A part's version may be 255; bits are written in as many digits as they need."""
    parts = {"boot_loader": 255, "tee": 0, "snp": 255, "microcode": 255}
    text = ", ".join(f"{name} = {svn}" for name, svn in parts.items())
    assert _read(FORMS[13], f"{{ Milan = {{ {text} }} }}") == structured.Components({"Milan": parts})
    assert _read(FORMS[11], '{ mask = "1f7", value = "7" }') == structured.Masked(0x1F7, 7)


VALUES: list[Value] = [
    b"\1" * 32,
    b"\1" * 32,
    "VCEK",
    "a name",
    2,
    7,
    7,
    7,
    (1, 55, 21),
    True,
    True,
    0x1FF,
    {"pcr0": digest(1), "other": digest(2)},
    Product("Milan", {"boot_loader": 4, "tee": 0, "snp": 24, "microcode": 219}),
]


@pytest.mark.parametrize("pair", list(zip(FORMS, VALUES, strict=True)), ids=lambda p: type(p[0]).__name__)
def test_draft(pair: tuple[Form, Value]) -> None:
    """A draft is met by what it was drafted from; of what is not there it is any."""
    form, value = pair
    want = form.draft(value)
    assert want != ANY
    assert want.meets(value)
    assert _read(form, want.toml()) == want
    assert form.draft(None) == ANY


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.want.__name__)
@pytest.mark.parametrize("value", [None, b"", "", True, 7, "text", b"x", (1,), {}, {"pcr0": 1}])
def test_draft_of_what_is_not_there(form: Form, value: Value) -> None:
    """Of a value of another kind, or an empty one, the draft is any, and no want that nothing meets."""
    drafted = form.draft(value)
    assert drafted == ANY or drafted.meets(value) or form.want is wants.AtMost
    if not value or (value is True and form.want not in {wants.Allowed, wants.Required}):
        assert drafted == ANY


def test_draft_of_some_registers() -> None:
    """A form may draft some registers alone; of none it drafts any."""
    form = Form(structured.Registers, pattern=r"pcr[0-9]", drafted=r"pcr[4-7]")
    registers = {"pcr0": digest(1), "pcr4": digest(2)}
    assert form.draft(registers) == structured.Registers({"pcr4": frozenset({b"\2" * 48})})
    assert form.draft({"pcr0": digest(1)}) == ANY
