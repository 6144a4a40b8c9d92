"""A relying party builds the source again: the same id, or the file that differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kluis.cli.main import run
from kluis.errors import AuthenticityError, UsageError
from kluis.tee.image import read_image
from kluis.tee.image.build.builder import build
from kluis.tee.measure.rebuild import rebuild
from tests.tee.image import samples


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An author's image, and its source next to it."""
    folder = tmp_path_factory.mktemp("author")
    build(samples.application(folder / "hello"), folder / "hello.kluis", folder / "author.pem")
    return folder / "hello.kluis"


def test_the_same_source_has_the_same_id(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The id is the same without the author's key; the source folder is left as it was."""
    source = image.parent / "hello"
    before = sorted(source.rglob("*"))
    assert run(["rebuild", str(image), str(source)]) == 0
    with image.open("rb") as f:
        image_id = read_image(f).image_id.hex()
    assert capsys.readouterr().out == f"{image_id}  the same id, built from this source\n"
    assert sorted(source.rglob("*")) == before


def test_other_source_names_the_file(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One changed letter is named by its file, and the exit code is authenticity's."""
    source = samples.application(tmp_path / "hello")
    (source / "app.py").write_text(samples.APP + "# more\n")
    assert run(["rebuild", str(image), str(source)]) == 4
    assert "files:\n  app/app.py: changed\n" in capsys.readouterr().out
    assert run(["rebuild", str(image), str(source), "--json"]) == 4
    said = json.loads(capsys.readouterr().out)
    assert said["same"] is False
    assert [change["what"] for change in said["changes"] if change["kind"] == "file"] == ["app/app.py"]


def test_a_damaged_image_is_refused(image: Path, tmp_path: Path) -> None:
    """The image's own bytes are checked: one whose files are not what its id names proves nothing."""
    data = bytearray(image.read_bytes())
    data[-5] ^= 1
    (tmp_path / "x.kluis").write_bytes(data)
    with pytest.raises(AuthenticityError):
        rebuild(tmp_path / "x.kluis", image.parent / "hello", lambda line: None)


def test_requirements_without_a_lock(image: Path, tmp_path: Path) -> None:
    """Without the author's lock nothing is chosen and nothing is written."""
    source = samples.application(tmp_path / "hello", kluis__toml='requirements = ["six"]\n')
    with pytest.raises(UsageError, match=r"want requirements.cpython-3.*lock, which the author's"):
        rebuild(image, source, lambda line: None)
    assert not list(source.glob("*.lock"))


def test_an_image_of_another_release(tmp_path: Path) -> None:
    """An image of another Kluis needs that Kluis, and the error names it."""
    path = tmp_path / "old.kluis"
    path.write_bytes(samples.image(kluis="0.0.9"))
    with pytest.raises(UsageError) as caught:
        rebuild(path, tmp_path, lambda line: None)
    assert caught.value.hint == (
        "python3 -m venv other && other/bin/pip install --find-links DIR 'kluis[enclave]==0.0.9',"
        " where DIR has that version's wheels"
    )
