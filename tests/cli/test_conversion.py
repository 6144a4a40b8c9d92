"""Values of the command line: converted as Typer does it, and usually without pydantic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.main

from kluis.cli import conversion
from tests.cli.quotes import FORGE

QUICK = """
import sys
from kluis.cli.main import run
code = run(sys.argv[1:])
loaded = {name.partition(".")[0] for name in sys.modules} & {"pydantic", "httpx", "asyncio", "rich"}
sys.exit(f"{code} {sorted(loaded)}" if code or loaded else 0)
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["explain", "usage"], ["wait", "--help"]])
def test_commands_that_load_little(words: list[str]) -> None:
    """Help, the version and a page of errors load no library that takes longer than they do."""
    done = subprocess.run([sys.executable, "-c", QUICK, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_verify_loads_little(tmp_path: Path) -> None:
    """Verifying an evidence file loads the reader of its vendor's evidence only, and no pydantic."""
    from kluis.formats.kluis.evidence_file import EvidenceFile

    evidence, root = tmp_path / "x.evidence", tmp_path / "root.pem"
    evidence.write_bytes(
        EvidenceFile(
            evidence=FORGE.quote(),
            runtime_data=FORGE.runtime,
            launch_configuration=FORGE.launch,
            collateral=FORGE.collateral().to_json(),
        ).encode()
    )
    root.write_bytes(FORGE.authority.root_pem())
    others = ("kluis.evidence.amd", "kluis.formats.snp", "kluis.formats.wrappers", "kluis.appraisal")
    more = (
        f"others = [name for name in sys.modules if name.startswith({others})]\nassert not others, others\n"
    )
    code = QUICK.replace("sys.exit", f"{more}sys.exit")
    words = ["verify", str(evidence), "--root", str(root), "--now", FORGE.now.isoformat()]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "authentic, and not appraised" in done.stdout


LINES = [
    ["a"],
    [],
    ["a", "b"],
    ["a", "--file", "x"],
    ["a", "--file", "/"],
    ["a", "--file", ""],
    ["a", "--file", "-"],
    ["a", "--file", "x\udce4"],
    ["a\udce4"],
    ["a", "--part", "x", "--part", "y"],
    ["a", "--part", ""],
    ["a", "--paths", "x", "--paths", "/"],
    ["a", "--flag"],
    ["a", "--no-flag"],
    *(
        ["a", option, value]
        for option in ("--number", "--bounded", "--seconds", "--numbers")
        for value in (
            "0", "7", "10", "11", "-1", "+1", "007", "1_000", " 5 ", "5.0", "5.5", "1e3", "nan", "inf", "٣",
            "", "x", "9" * 40, "0x10",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=str)
def test_values_are_typers(line: list[str]) -> None:
    """Each value, and each refusal, is the one that Typer gives without this module."""
    seen = []
    for spared in (False, True):
        given: dict[str, Any] = {}
        command = _command_of(given)
        if spared:
            conversion.spare_pydantic(command)
        try:
            command.main(args=list(line), prog_name="one", standalone_mode=False)
            seen.append(given)
        except Exception as error:
            seen.append({"error": f"{type(error).__name__}: {error}"})
    assert repr(seen[0]) == repr(seen[1])


def _command_of(given: dict[str, Any]) -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command()
    def one(
        word: str,
        file: Path | None = None,
        number: int | None = None,
        bounded: Annotated[int, typer.Option(min=0, max=10)] = 3,
        seconds: float = 1.5,
        part: list[str] | None = None,
        paths: list[Path] | None = None,
        numbers: list[int] | None = None,
        flag: bool = False,
    ) -> None:
        given.update(
            word=word, file=file, number=number, bounded=bounded, seconds=seconds, part=part, paths=paths,
            numbers=numbers, flag=flag,
        )  # fmt: skip

    return typer.main.get_command(app)
