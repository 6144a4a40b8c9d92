"""Hints about packages work for how this Kluis was installed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from kluis import installing


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``dist-info`` of a Kluis that was installed somewhere, as an installer writes it."""
    place = tmp_path / "kluis-0.1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: kluis\nVersion: 0.1.0\n")
    monkeypatch.setattr(metadata, "distributions", lambda name: [metadata.PathDistribution(place)])
    return place


def _origin(record: Path, **fields: object) -> None:
    (record / "direct_url.json").write_text(json.dumps(fields))


def test_from_a_folder_of_wheels(record: Path) -> None:
    """Pip records no --find-links: the hint gives the option, and names the folder."""
    assert installing.command_for("rooms") == (
        f"{sys.executable} -m pip install --find-links DIR 'kluis[rooms]'"
        ", where DIR has Kluis's wheels, as make dist makes them in a checkout"
    )


def test_from_a_wheel_by_name(record: Path, tmp_path: Path) -> None:
    """A wheel that was named by its file is in the folder that the hint names, while it is there."""
    folder = tmp_path / "the wheels"
    folder.mkdir()
    wheel = folder / "kluis-0.1.0-py3-none-any.whl"
    wheel.touch()
    _origin(record, url=wheel.as_uri(), archive_info={})
    line = installing.requirement("kluis-runtime==0.1.0", "--no-deps")
    assert shlex.split(line) == [
        *(sys.executable, "-m", "pip", "install", "--no-deps"),
        *("--find-links", str(folder), "kluis-runtime==0.1.0"),
    ]
    wheel.unlink()
    assert "--find-links DIR 'kluis[rooms]', where DIR has" in installing.command_for("rooms")


def test_a_checkout_that_a_path_names_first(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ``egg-info`` is no installation: what the installer recorded counts."""
    own = tmp_path / "kluis.egg-info"
    own.mkdir()
    both = [metadata.PathDistribution(own), metadata.PathDistribution(record)]
    monkeypatch.setattr(metadata, "distributions", lambda name: both)
    (record / "INSTALLER").write_text("uv\n")
    assert installing.command_for("rooms").startswith("uv pip install ")


@pytest.mark.parametrize(("name", "target"), [("enclave", "serve"), ("services", "serve"), ("rooms", "demo")])
def test_from_a_checkout(record: Path, tmp_path: Path, name: str, target: str) -> None:
    """A checkout is set up by its own script, into the environment that runs; the script has the target."""
    script = tmp_path / "scripts" / "setup.sh"
    script.parent.mkdir()
    script.touch()
    _origin(record, url=tmp_path.as_uri(), dir_info={"editable": True})
    assert installing.command_for(name) == f"KLUIS_VENV={sys.prefix} {script} {target}"
    here = Path(__file__).parents[1] / "scripts" / "setup.sh"
    subprocess.run(["bash", str(here), target, "--dry-run"], check=True, capture_output=True)


def test_by_uv(record: Path) -> None:
    """An environment that uv made may have no pip: uv is what installs there."""
    (record / "INSTALLER").write_text("uv\n")
    line = installing.command_for("enclave")
    assert line.startswith(f"uv pip install --python {sys.executable} --find-links DIR 'kluis[enclave]'")


@pytest.mark.parametrize("text", ["{", "[]", '{"url": 7}', '{"url": "https://example.org/kluis.whl"}'])
def test_a_record_that_tells_nothing(record: Path, text: str) -> None:
    """Where the record is damaged, or is of a place elsewhere, the hint is the general one."""
    (record / "direct_url.json").write_text(text)
    assert "--find-links DIR 'kluis[enclave]', where DIR has" in installing.command_for("enclave")
