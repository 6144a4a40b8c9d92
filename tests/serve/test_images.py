"""The services' images: built once, from what is installed and locked."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kluis.enclave.store.keys.custody import SIGNER_ARGUMENT
from kluis.errors import UsageError
from kluis.hashes import sha256
from kluis.serve import images
from kluis.serve.images import SERVICES, folder_of, image_of
from kluis.tee.image.archive import read_image
from kluis.tee.image.build import builder
from tests.meta.tree import ROOT, SRC


def test_an_image_is_built_once(tmp_path: Path) -> None:
    """The second start finds the image of the first; whom the store is sealed to is measured in it."""
    said: list[str] = []
    first = image_of("provisioning", tmp_path, "measurement", said.append)
    assert said[0] == "building the image of provisioning"
    said.clear()
    assert image_of("provisioning", tmp_path, "measurement", said.append) == first
    assert said == []
    upgradable = image_of("provisioning", tmp_path, "signer", said.append)
    assert upgradable.image_id != first.image_id
    assert upgradable.mrsigner == first.mrsigner
    with upgradable.path.open("rb") as file:
        assert read_image(file).manifest.argv == [SIGNER_ARGUMENT]
    assert (tmp_path / "author.pem").stat().st_mode & 0o777 == 0o600


def test_a_build_that_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unfinished image does not replace an earlier one, nor does an unfinished description."""
    source, cut = ["old"], [False]

    def build(work: Path, out: Path, key: Path, say: Any) -> Any:
        out.write_text(source[0])
        if cut[0]:
            raise KeyboardInterrupt
        return SimpleNamespace(image_id=sha256(source[0].encode()), mrsigner=None)

    monkeypatch.setattr(images, "_fingerprint", lambda folder: source[0])
    monkeypatch.setattr(builder, "build", build)
    first = image_of("keyvault", tmp_path, "measurement", print)
    source[0], cut[0] = "new", True
    with pytest.raises(KeyboardInterrupt):
        image_of("keyvault", tmp_path, "measurement", print)
    source[0], cut[0] = "old", False
    assert image_of("keyvault", tmp_path, "measurement", print) == first
    assert first.path.read_text() == "old"


@pytest.mark.parametrize("damaged", [b"", b"not JSON", b"\xff{}", b"{}"])
def test_damaged_words_about_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bytes
) -> None:
    """An unreadable description of an image is ignored: the image is built again."""
    first, builds = built(tmp_path, monkeypatch)
    (first.path.parent / "made.json").write_bytes(damaged)
    assert image_of("keyvault", tmp_path, "measurement", print) == first
    assert len(builds) == 2


def test_an_image_of_another_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a piece of an image, as a cut of the power leaves it, started for as long as it lies there."""
    first, builds = built(tmp_path, monkeypatch)
    first.path.write_text("im")
    assert image_of("keyvault", tmp_path, "measurement", print) == first
    assert (len(builds), first.path.read_text()) == (2, "image")


def built(state: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[images.ServiceImage, list[Path]]:
    """An image that stands for the key service's, built; and what is built, one by one."""
    builds: list[Path] = []

    def build(work: Path, out: Path, key: Path, say: Any) -> Any:
        builds.append(out)
        out.write_text("image")
        return SimpleNamespace(image_id=sha256(b"image"), mrsigner=None)

    monkeypatch.setattr(builder, "build", build)
    return image_of("keyvault", state, "measurement", print), builds


def test_what_is_no_service_has_no_image(tmp_path: Path) -> None:
    """Another name, or another way to seal, is refused."""
    with pytest.raises(
        UsageError, match="service: want one of attestation, keyvault, ledger, provisioning, got 'bank'"
    ):
        folder_of("bank")
    with pytest.raises(UsageError, match="--store-key: want one of measurement, signer, got 'nobody'"):
        image_of("keyvault", tmp_path, "nobody", print)


@pytest.mark.parametrize("service", SERVICES)
def test_a_wheel_has_all_that_an_image_is_built_from(service: str) -> None:
    """Every file of a service's folder is package data, and its requirements are locked for both Pythons."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["kluis"]
    held = {path for pattern in patterns for path in SRC.glob(pattern)}
    files = {path for path in folder_of(service).iterdir() if path.is_file()}
    assert {path.name for path in files} >= {
        "service.py",
        "kluis.toml",
        "requirements.cpython-311.lock",
        "requirements.cpython-313.lock",
    }
    assert {path.name for path in files} - {path.name for path in held} == set()
