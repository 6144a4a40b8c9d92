"""The runner: every record is run, what differs is named, and the last line counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts import vectors
from tests.corpus.case import MAPPINGS
from tests.evidence.forge import Forge
from tests.meta.corpus import samples

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))


def test_counts_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts by TEE, a line for each that differs or leaves a file aside, and the sum; 1 if any differs."""
    parts = samples.files(Forge())
    samples.write(tmp_path, "good", {**parts, "new": b"x"}, outcome="valid-under-test-root")
    samples.write(tmp_path, "odd", {"quote": b"x"}, outcome="valid")
    samples.write(tmp_path, "other", {"x": b"x"}, outcome="valid", tee="abacus")
    assert vectors.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("DIFFERS  abacus/other: UsageError usage: TEE 'abacus': is not known; known: ")
    assert lines[1] == "ASIDE    sgx/good: role 'new' is not known: its file is not read"
    assert lines[2].startswith("DIFFERS  sgx/odd: want verified, got UnsupportedError ")
    assert lines[3:] == ["abacus        0 of    1", "sgx           1 of    2", "1 of 3 as expected"]


def test_all_as_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where none differs, and the values that nothing is compared with on request."""
    samples.write(
        tmp_path, "good", samples.files(Forge()), outcome="valid-under-test-root", known={"colour": "blue"}
    )
    assert vectors.main([str(tmp_path), "--unasked"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "unasked    sgx.known.colour (1)",
        "1 of 1 as expected",
    ]


def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without records there is nothing to say, and the exit code is not 0."""
    assert vectors.main([str(tmp_path)]) == 7
    assert capsys.readouterr().out == ""


needs_records = pytest.mark.skipif(
    not (VECTORS / "INDEX.json").exists(), reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS"
)


@needs_records
def test_every_record_ends_as_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them do, and none is left out."""
    code = vectors.main([str(VECTORS)])
    lines = capsys.readouterr().out.splitlines()
    count = len(list(VECTORS.glob("*/*/meta.json")))
    assert [line for line in lines if line.startswith("DIFFERS")] == []
    assert (code, lines[-1]) == (0, f"{count} of {count} as expected")


@needs_records
def test_every_tee_is_recorded() -> None:
    """No mapping of files is of a TEE that nothing is recorded of."""
    assert set(MAPPINGS) == {path.parent.name for path in vectors.find(VECTORS)}
