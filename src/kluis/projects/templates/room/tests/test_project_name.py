"""The room: it starts, and its question has an answer on the invented records."""

import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parents[1]
sys.path.insert(0, str(FOLDER))


def test_the_room_starts(enclave):
    assert enclave(FOLDER / "app.py").interface.name == "project_name"


def test_the_question_has_an_answer(tmp_path):
    import duckdb
    import make_data

    make_data.main(tmp_path)
    (analysis,) = tomllib.loads((FOLDER / "plan.toml").read_text())["analysis"]
    with duckdb.connect() as database:
        for name in analysis["inputs"]:
            database.read_parquet(f"{tmp_path / name}.parquet").create_view(name)
        rows = database.execute(analysis["query"]).fetchall()
    assert [row[0] for row in rows] == ["60 and over", "under 60"]
    assert sum(row[1] for row in rows) == make_data.PEOPLE
