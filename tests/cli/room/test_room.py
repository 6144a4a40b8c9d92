"""``kluis room`` as people use it: two owners, their commands, a real enclave, and the error for each
mistake.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.cli.main import run
from tests.cleanroom import samples
from tests.images import ALLOWED, built

__all__ = ["built"]

NAFLD = Path(__file__).parents[3] / "examples" / "nafld"
LACKS = json.dumps(sorted(ALLOWED))
PLAN = f'''
expires_days = 30
k_min = 5
max_runs = 2
[code]
protection = ["process", "process-user"]
lacks = {LACKS}
[[analysis]]
kind = "sql"
id = "by-sex"
question = "How many, and what value, by sex?"
inputs = ["people", "labs"]
recipients = ["clinic"]
max_rows = 10
query = """
SELECT p.sex, count(DISTINCT p.id) AS persons
FROM people p JOIN (SELECT id FROM labs GROUP BY id) AS l ON p.id = l.id
GROUP BY sex
"""
'''
TERMS = """
privacy_unit = "id"
k_min = 5
expires_days = 60
[allow]
id = ["join"]
"""


class People:
    """Two owners at one machine; each command is one of theirs."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.room, self._capsys = folder, folder / "room", capsys
        samples.people().write_parquet(folder / "people.parquet")
        samples.labs().write_parquet(folder / "labs.parquet")
        (folder / "people.toml").write_text("rows_per_person = 1" + TERMS + 'sex = ["group"]\n')
        (folder / "labs.toml").write_text(TERMS)
        (folder / "plan.toml").write_text(PLAN)

    def __call__(self, command: str, *rest: object) -> tuple[int, str, str]:
        where = () if command == "fingerprint" else (str(self.room),)
        code = run(["room", command, *where, *map(str, rest), "--home", str(self.folder / "homes")])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def confirm(self, *names: str) -> list[str]:
        """What confirms these parties, each fingerprint as its party has it."""
        return [f"--confirm={name}={self('fingerprint', '--as', name)[1].strip()}" for name in names]

    def seal(self) -> None:
        assert self("init", "--as", "clinic", "--title", "Sample", "--purpose", "Tests")[0] == 0
        assert self("init", "--as", "laboratory", "--role", "owner")[0] == 0
        for party, name in (("clinic", "people"), ("laboratory", "labs")):
            file, terms = self.folder / f"{name}.parquet", self.folder / f"{name}.toml"
            assert self("seal", file, "--as", party, "--dataset", name, "--terms", terms)[0] == 0


@pytest.fixture
def people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> People:
    return People(tmp_path, capsys)


def test_six_verbs_and_a_receipt(people: People, built: Callable[..., Path]) -> None:
    """Two owners make, seal, propose, approve, run and open; the receipt holds, and any owner stops it."""
    image = built(NAFLD)
    people.seal()
    assert people("init", "--as", "reader", "--role", "recipient")[0] == 0
    (people.room / "parties" / "eve.json").write_bytes(b"{")  # which is nobody's business
    others = people.confirm("laboratory", "reader")
    words = ["--as", "clinic", "--plan", people.folder / "plan.toml", "--image", image, "--with", "reader"]
    code, out, err = people("propose", *words, *others)
    assert code == 0, err
    assert "    lets out groups of at least 5 persons, at most 10 rows" in out

    code, _, err = people("run", "--image", image, "--as", "clinic", "--as", "laboratory")
    assert code == 6
    assert "want a signature of every party, missing ['laboratory', 'reader']" in err

    others = people.confirm("clinic", "laboratory")
    assert people("approve", "--as", "reader", "--yes", *others)[0] == 0
    others = people.confirm("clinic", "reader")
    yes = ["--as", "laboratory", "--yes", "--json", *others]
    code, out, err = people("approve", *yes, "--image", built(NAFLD.parent / "hello"))
    assert (code, out, ", which is proposed, got" in err) == (6, "", True)
    code, out, err = people("approve", *yes, "--image", image)
    assert (code, json.loads(out)["missing"]) == (0, [])
    allow = [f"--insecure-allow-missing={','.join(ALLOWED)}"] if ALLOWED else []
    everybody = [word for name in ("reader", "clinic", "laboratory") for word in ("--as", name)]
    code, out, err = people("run", "--image", built(NAFLD.parent / "hello"), *everybody, *allow)
    assert (code, out) == (6, "")
    assert "which was agreed, got" in err
    code, out, err = people("run", "--image", image, *everybody, "--json", *allow)
    assert code == 0, err
    assert [(each["id"], each["k"]) for each in json.loads(out)["analyses"]] == [("by-sex", 5)]

    code, out, _ = people("open", "--as", "clinic", "--json")
    assert (code, json.loads(out)["by-sex"]) == (
        0,
        [{"sex": "f", "persons": 86}, {"sex": "m", "persons": 86}],
    )
    code, _, err = people("open", "--as", "laboratory")
    assert (code, err.splitlines()[0][-39:]) == (6, "no result of it is sealed to laboratory")

    code, out, _ = people("receipt", "--as", "reader", "--json")
    proof = json.loads(out)
    assert (code, proof["level"] in ("process", "process-user"), bool(proof["not_kept_out"])) == (
        0,
        True,
        True,
    )

    assert people("approve", "--as", "laboratory", "--stop")[0] == 0
    code, out, _ = people("events", "--as", "clinic", "--json")
    assert code == 0
    assert [(each["actor"], each["kind"]) for each in json.loads(out)["events"]][5:] == [
        ("clinic", "agreement.proposed"),
        ("reader", "agreement.signed"),
        ("laboratory", "agreement.signed"),
        ("clinic", "key.released"),
        ("laboratory", "key.released"),
        ("reader", "run.finished"),
        ("clinic", "result.opened"),
        ("laboratory", "agreement.stopped"),
    ]
    code, _, err = people("run", "--image", image, "--as", "clinic", "--as", "laboratory")
    assert code == 6
    assert "stopped it" in err


def test_other_code_is_not_proposed_unsigned(people: People, tmp_path: Path) -> None:
    """A file that is no image is a format error, whose sentence names it."""
    people.seal()
    other = tmp_path / "x.kluis"
    other.write_bytes(b"not an image")
    code, _, err = people(
        "propose", "--as", "clinic", "--plan", people.folder / "plan.toml", "--image", other
    )
    assert code == 3
    assert err.startswith("kluis: error: ")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["open", "--as", "clinic"], 7, "is not a room"),
        (["init", "--as", "clinic"], 2, "init: a new room wants a title and a purpose"),
    ],
)
def test_no_room_yet(people: People, command: list[str], code: int, message: str) -> None:
    """Without a room, each command hints how to create one."""
    got, _, err = people(*command)
    assert got == code
    assert message in err
    assert "kluis: hint: " in err


def test_mistakes(people: People) -> None:
    """Each mistake has the exit code of its kind, and a message with the expected value."""
    people.seal()
    file, terms = people.folder / "people.parquet", people.folder / "people.toml"
    cases: list[tuple[list[object], int, str]] = [
        (["open", "--as", "clinic"], 7, "no run has ended here"),
        (["receipt", "--as", "clinic"], 7, "no run has ended here"),
        (["approve", "--as", "laboratory"], 7, "no agreement is proposed"),
        (["approve", "--as", "laboratory"], 7, " --as PARTY --plan PLAN.toml --image FILE.kluis"),
        (["open", "--as", "eve"], 7, "party eve: no keys in"),
        (
            ["open", "--as", "eve"],
            7,
            "hint: if eve has keys elsewhere, name their folder, as then: --home DIR",
        ),
        (
            ["init", "--as", "eve", "--role", "king"],
            2,
            "--role: want one of analyst, auditor, operator, owner, recipient, got 'king'",
        ),
        (["seal", "/nonexistent", "--as", "clinic", "--dataset", "x", "--terms", terms], 2, "cannot be read"),
        (
            ["seal", terms, "--as", "clinic", "--dataset", "x", "--terms", terms],
            3,
            "write it as Parquet: polars.read_csv",
        ),
        (["seal", file, "--as", "clinic", "--dataset", "x", "--terms", file], 3, "want text, found a byte"),
    ]
    for command, code, message in cases:
        got, out, err = people(*map(str, command))
        assert (got, out) == (code, ""), err
        assert message in err


def test_a_second_version(people: People) -> None:
    """Sealing again makes a version, with a new key; the first stays as it was."""
    people.seal()
    first = (people.room / "datasets" / "people.v1.0.parquet").read_bytes()
    file, terms = people.folder / "people.parquet", people.folder / "people.toml"
    code, out, _ = people("seal", file, "--as", "clinic", "--dataset", "people", "--terms", terms, "--json")
    assert (code, json.loads(out)["version"]) == (0, 2)
    assert (people.room / "datasets" / "people.v1.0.parquet").read_bytes() == first
