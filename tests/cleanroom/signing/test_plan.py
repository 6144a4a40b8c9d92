"""From what one party writes to what all sign: every mistake is named before anyone signs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest

from kluis.cleanroom.agreement.terms import Scale
from kluis.cleanroom.data import datasets
from kluis.cleanroom.data.terms_toml import read_terms
from kluis.cleanroom.records.rooms import RoomFile
from kluis.cleanroom.signing import plan
from kluis.cleanroom.signing.explain import explain
from kluis.errors import FormatError, KluisError, PolicyError, UsageError
from kluis.tee.process import linux
from tests.cleanroom import samples

NAFLD = Path(__file__).parents[3] / "examples" / "nafld"
PLAN = """
expires_days = 30
k_min = 7
max_runs = 1
[code]
protection = ["process"]
[[analysis]]
kind = "sql"
id = "by-sex"
question = "How many?"
inputs = ["people"]
recipients = ["clinic"]
max_rows = 10
query = "SELECT sex, count(DISTINCT id) AS persons FROM people GROUP BY sex"
"""
TERMS = 'privacy_unit = "id"\nk_min = 9\nexpires_days = 10\n[allow]\nid = ["join"]\nage = ["group"]\n'


def drafted(text: str, tmp_path: Path) -> str:
    room = samples.setting(tmp_path)
    file = RoomFile(kind="kluis-room/1", room=samples.ROOM, title="Sample", purpose="Tests")
    image = plan.Image("11" * 32, "22" * 32, 31)
    agreement = plan.draft(
        file,
        plan.read_plan(text),
        room.agreement.parties,
        room.agreement.datasets,
        image,
        ("PEM",),
        samples.NOW,
    )
    return explain(agreement)


def test_explained(tmp_path: Path) -> None:
    """The signer sees who, what, which code, every use, every query and the group size that applies."""
    said = drafted(PLAN, tmp_path)
    words = " ".join(said.replace("\\ ", "").split())
    assert "age integer may be used to aggregate, filter, group, model; from 0 to 120 by 1" in words
    assert "rows of one person: 1" in words
    assert "    secret     string    may be used to nothing" in said
    assert "    lets out groups of at least 7 persons, at most 10 rows" in said
    assert "    | SELECT sex, count(DISTINCT id) AS persons FROM people GROUP BY sex" in said
    assert "  level    process; debug never; may be missing: nothing" in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("k_min = 7", "k_min = 1", "plan.k_min: want an integer >= 3, got 1"),
        ('kind = "sql"', 'kind = "python"', "plan.analysis[0].kind: want sql or logistic, got 'python'"),
        ("max_runs = 1", "", "plan.max_runs: is not stated"),
        (
            "max_runs = 1",
            "max_runs = 1\ndebug = true",
            "plan.debug: want one of expires_days, k_min, max_runs, code, analysis",
        ),
        (
            "[code]",
            "[code",
            "plan: is not TOML: Expected ']' at the end of a table declaration (at line 5, column 6)",
        ),
        ('protection = ["process"]', "", "plan.code.protection: is not stated"),
        (
            '["process"]',
            '["proces"]',
            "plan.code.protection[0]: want none or process-user or process or vm or vtpm or hardware-gpu or "
            "hardware-cca or hardware-nitro or hardware-snp or hardware-tdx or hardware-sgx, got 'proces'",
        ),
        ('["process"]', "[]", "plan.code.protection: want a list of length >= 1, got []"),
        (
            "[code]",
            '[code]\nlacks = ["memory"]',
            "plan.code.lacks[0]: want landlock or mdwe or secret-memory, got 'memory'",
        ),
        ("[code]", "[code]\nfresh_days = 0", "plan.code.fresh_days: want an integer >= 1, got 0"),
        ("max_runs = 1", "max_runs = true", "plan.max_runs: want an integer, got true or false"),
        ('inputs = ["people"]', 'inputs = ["labs"]', "query: people is not an input of this analysis"),
        ('kind = "sql"', "kind = []", "plan.analysis[0].kind: want sql or logistic, got list"),
        ('kind = "sql"', "kind = {}", "plan.analysis[0].kind: want sql or logistic, got dict"),
        ('recipients = ["clinic"]', 'recipients = ["eve"]', "agreement: names no party 'eve'"),
        (
            "max_rows = 10",
            "max_rows = 351",
            "agreement: want at most 700 published figures, got 702 (by-sex 702)",
        ),
        (
            "GROUP BY sex",
            "GROUP BY secret",
            "query: people.secret may not be used here: want group, its owner allows []",
        ),
    ],
)
def test_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each mistake is refused, with its place or its reason."""
    with pytest.raises(KluisError) as caught:
        drafted(PLAN.replace(old, new), tmp_path)
    assert caught.value.message == message


def test_the_example_is_whole() -> None:
    """The plan of the example reads, and names the analyses that the demo runs."""
    assert [each.id for each in plan.read_plan((NAFLD / "plan.toml").read_text()).analysis] == [
        "by-age",
        "five-year-death",
    ]


def test_terms() -> None:
    """A column that the terms do not name may be put to no use."""
    terms = read_terms(TERMS, samples.people(), samples.NOW)
    allowed = {column.name: column.allow for column in terms.columns}
    assert allowed == {"id": ("join",), "age": ("group",), "sex": (), "died": (), "wage": (), "secret": ()}
    assert terms.k_min == 9


def test_ranges() -> None:
    """A range is exact decimals, whatever TOML's floats would be; a summed column needs one."""
    text = TERMS.replace('["group"]', '["group", "aggregate"]')
    with pytest.raises(PolicyError) as caught:
        read_terms(text, samples.people(), samples.NOW)
    assert caught.value.message == "terms: age allows aggregate: want its range"
    terms = read_terms(
        f"{text}[range]\nage = {{ low = 0, high = 120, step = 1 }}\n"
        "wage = { low = -0.5, high = 99.5, step = 0.1 }\n",
        samples.people(),
        samples.NOW,
    )
    scales = {column.name: column.scale for column in terms.columns if column.range}
    assert scales == {
        "age": Scale(Fraction(0), Fraction(1), 120),
        "wage": Scale(Fraction(-1, 2), Fraction(1, 10), 1000),
    }


@pytest.mark.parametrize(
    ("range_", "message"),
    [
        (
            "age = { low = 9, high = 9, step = 1 }",
            "range: want low < high and a step above 0, got 9 to 9 by 1",
        ),
        ("age = { low = 0, high = 9, step = 2 }", "range: want 1 to 1000000000 whole steps, got 0 to 9 by 2"),
        ("age = { low = 0, high = 9, step = 0.5 }", "terms: age: want a range of whole numbers"),
        (
            "sex = { low = 0, high = 9, step = 1 }",
            "terms: sex: want a range for integer or number, got string",
        ),
        ("nobody = { low = 0, high = 9, step = 1 }", None),
    ],
)
def test_ranges_refused(range_: str, message: str | None) -> None:
    """A range that holds no whole number of steps, or does not fit its column, is refused."""
    with pytest.raises(PolicyError) as caught:
        read_terms(f"{TERMS}[range]\n{range_}\n", samples.people(), samples.NOW)
    if message:
        assert caught.value.message == message


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("number", ["1e999999999", "1e-999999999", "1e99999999999999999999"])
def test_a_range_of_any_exponent(number: str) -> None:
    """A range is written out before it is checked: one of a billion digits is refused before that."""
    with pytest.raises(FormatError) as caught:
        read_terms(
            f"{TERMS}[range]\nage = {{ low = 0, high = {number}, step = 1 }}\n",
            samples.people(),
            samples.NOW,
        )
    assert caught.value.message == "terms: is not TOML: want an exponent from -99 to 99"


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        (
            '"group"',
            '"show"',
            FormatError,
            "terms.allow.age[0]: want aggregate or extrema or filter or group or join or model, got 'show'",
        ),
        ("age =", "years =", PolicyError, None),
        ("k_min = 9", "k_min = 2", FormatError, "terms.k_min: want an integer >= 3, got 2"),
        (
            'privacy_unit = "id"',
            'privacy_unit = "nr"',
            PolicyError,
            "terms: want privacy_unit to be a column, got 'nr'",
        ),
        (
            'id = ["join"]',
            'id = ["group"]',
            PolicyError,
            "terms: want privacy unit 'id' to allow at most join, got ['group']",
        ),
    ],
)
def test_terms_refused(old: str, new: str, kind: type[KluisError], message: str | None) -> None:
    """Terms that contradict themselves or the table are not sealed under."""
    with pytest.raises(kind) as caught:
        read_terms(TERMS.replace(old, new), samples.people(), samples.NOW)
    if message:
        assert caught.value.message == message


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ('["process"]', '["proces"]', "did you mean process"),
        ('kind = "sql"', 'kind = "sqll"', "did you mean sql"),
        ("max_runs", "maxruns", "did you mean max_runs"),
        ("max_rows", "max_row", "did you mean max_rows"),
        ("max_runs = 1", "max_runs = 0", "examples/nafld/plan.toml is a whole one"),
    ],
)
def test_what_was_meant(old: str, new: str, hint: str) -> None:
    """A misspelt key or choice is answered with the nearest that there is."""
    with pytest.raises(FormatError) as caught:
        plan.read_plan(PLAN.replace(old, new), "plan.toml")
    assert caught.value.message.startswith("plan.toml.")
    assert caught.value.hint == hint


def test_one_file_for_the_other() -> None:
    """Terms where a plan is wanted, and the reverse, are recognised, and the command they go to is named."""
    with pytest.raises(FormatError) as caught:
        plan.read_plan(TERMS, "people.toml")
    assert caught.value.message == "people.toml: want a plan of analyses, got the terms of a data set"
    assert caught.value.hint == (
        "a plan has [[analysis]]; terms go to: kluis room seal ROOM FILE --terms people.toml"
    )
    with pytest.raises(FormatError) as caught:
        read_terms(PLAN, samples.people(), samples.NOW, "plan.toml")
    assert caught.value.message == "plan.toml: want the terms of a data set, got a plan of analyses"
    assert caught.value.hint == "terms have [allow]; a plan goes to: kluis room propose ROOM --plan plan.toml"


def test_a_use_that_was_misspelt() -> None:
    """So it is in terms, and the column is named."""
    with pytest.raises(FormatError) as caught:
        read_terms(TERMS.replace('"join"', '"jion"'), samples.people(), samples.NOW, "terms.toml")
    assert caught.value.message.startswith("terms.toml.allow.id[0]: want aggregate or")
    assert caught.value.hint == "did you mean join"


def test_lacks_are_the_machines() -> None:
    """A plan may only name missing protections that exist."""
    assert set(get_args(plan.Lack)) == set(linux.FIXES)


@pytest.mark.parametrize("name", ["p 2", "2p", "", "people;", "é", "a" * 64, "a-b"])
def test_a_data_set_that_no_query_can_name(name: str) -> None:
    """A data set has a name that SQL can use, checked before it is sealed."""
    with pytest.raises(UsageError) as caught:
        datasets.check_name(name, "--dataset")
    assert caught.value.message.startswith("--dataset: want letters, digits and _")
    datasets.check_name(str(caught.value.hint).split(": ")[1].split(",")[0], "--dataset")
