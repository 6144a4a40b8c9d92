"""Images whose bytecode does something else than their source shows."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError
from kluis.tee import measure
from kluis.tee.image import bytecode, diff, interpreter
from tests.tee.image import samples

OLD = b"app = 1\n"
NEW = b"app = 1  # a comment\n"
HIDDEN = b"app = 1\nimport os; os.system('id')\n"
PLACE = "/k/app/app.py"
PYC = bytecode.pyc_path("app.py", sys.implementation.cache_tag)


def image(path: Path, source: bytes, compiled: bytes | None, version: str = "", at: str = PYC) -> Path:
    """A signed image whose ``app.py`` is ``source``, and whose bytecode is of ``compiled``."""
    files = {"app.py": source}
    if compiled is not None:
        with tempfile.TemporaryDirectory() as work:
            both = [(PLACE, compiled), (PLACE, source)]
            made, honest = bytecode.compile_all(both, samples.python(), Path(work))
        # The header names the source that a reader sees: the interpreter does not look.
        files[at] = honest[:16] + made[16:]
    contents = samples.contents(app=files)
    python = version or interpreter.version()
    path.write_bytes(samples.image(contents, signer=samples.key(), python=python))
    return path


def hidden(before: Path, after: Path) -> list[str]:
    """What ``diff`` finds that its source does not show."""
    return [change.what for change in diff(before, after) if change.kind == "hidden"]


def test_measure_refuses_it(tmp_path: Path) -> None:
    """An image that runs something else than its source is named, with the file."""
    assert measure.measure(image(tmp_path / "good.kluis", OLD, OLD)).bytecode
    with pytest.raises(AuthenticityError) as refused:
        measure.measure(image(tmp_path / "bad.kluis", OLD, HIDDEN))
    assert refused.value.message == f"image: app/{PYC}: want what its source compiles to, got other bytecode"
    assert refused.value.code == "bytecode"


def test_a_changed_comment_hides_nothing_from_diff(tmp_path: Path) -> None:
    """Source and bytecode both change from one release to the next: the bytecode is held to the source."""
    before = image(tmp_path / "1.kluis", OLD, OLD)
    assert hidden(before, image(tmp_path / "2.kluis", NEW, NEW)) == []
    assert hidden(before, image(tmp_path / "3.kluis", NEW, HIDDEN)) == [f"app/{PYC}"]
    assert hidden(before, image(tmp_path / "4.kluis", OLD, HIDDEN)) == [f"app/{PYC}"]


def test_a_source_that_changes_under_its_old_bytecode(tmp_path: Path) -> None:
    """Bytecode that stays where its source is made harmless is named too."""
    before = image(tmp_path / "1.kluis", HIDDEN, HIDDEN)
    after = image(tmp_path / "2.kluis", OLD, HIDDEN)
    assert hidden(before, after) == [f"app/{PYC}"]


@pytest.mark.parametrize("name", ["app.cpython-311.opt-1.pyc", "app.cpython-399.pyc", "app.pyc"])
def test_bytecode_under_another_name(tmp_path: Path, name: str) -> None:
    """Bytecode for an interpreter that runs otherwise has no place in an image."""
    bad = image(tmp_path / "bad.kluis", OLD, OLD, at=f"__pycache__/{name}")
    with pytest.raises(AuthenticityError, match="other bytecode"):
        measure.measure(bad)


def test_another_pythons_bytecode_is_said_to_be_unknown(tmp_path: Path) -> None:
    """What this interpreter cannot compile the same way is not called the same."""
    before = image(tmp_path / "1.kluis", OLD, OLD, version="3.99.0")
    after = image(tmp_path / "2.kluis", NEW, HIDDEN, version="3.99.0")
    assert not measure.measure(after).bytecode
    (unknown,) = [change for change in diff(before, after) if change.kind == "uncompared"]
    assert unknown.what == f"1 files: want Python 3.99.0 here, got {interpreter.version()}"
