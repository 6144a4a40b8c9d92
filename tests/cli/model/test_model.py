"""``kluis model``: seal and show, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kluis.enclave.models import open_model
from kluis.host import models
from tests.cli.quotes import Kluis


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with one file."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.onnx").write_bytes(b"planted weights")
    return tmp_path / "weights"


def test_seal_and_show(weights: Path, kluis: Kluis) -> None:
    """Sealing generates the key once, uses it again, and shows what ``show`` shows."""
    out, key = weights.parent / "a.sealed", weights.parent / "a.jwk"
    said = kluis("model", "seal", weights, "-o", out, "--key", key, "--json")
    assert said.code == 0
    assert "generated the model's key" in said.err
    value = json.loads(said.out)
    assert value["files"] == [{"name": "model.onnx", "size": 15}]
    with open_model(out, models.read_key(key), model_id=bytes.fromhex(value["model_id"])) as model:
        assert bytes(model.files["model.onnx"]) == b"planted weights"

    shown = kluis("model", "show", out, "--json")
    assert json.loads(shown.out)["model_id"] == value["model_id"]
    again = kluis("model", "seal", weights, "-o", weights.parent / "b.sealed", "--key", key)
    assert (again.code, again.err) == (0, "")


def test_refusals(weights: Path, kluis: Kluis, tmp_path: Path) -> None:
    """Each error states what was wrong, and no key file is left or changed."""
    bad = tmp_path / "bad.jwk"
    bad.write_text("no key")
    said = kluis("model", "seal", weights, "-o", tmp_path / "x", "--key", bad)
    assert said.code == 3
    assert f"{bad}: want a JWK of type oct with 32 bytes, got another" in said.err
    inside = kluis("model", "seal", weights, "-o", weights / "x", "--key", tmp_path / "new.jwk")
    assert inside.code == 2
    assert "want a file outside" in inside.err
    assert not (tmp_path / "new.jwk").exists()
    other = kluis("model", "show", bad)
    assert other.code == 3
    assert "sealed model: does not begin as one" in other.err
    unlock = ("model", "unlock", "https://127.0.0.1:1", "--policy", tmp_path / "p.toml")
    assert "want --key FILE or --sealed-key FILE, one of the two" in kluis(*unlock).err
    assert kluis(*unlock, "--key", bad).code == 3


def test_a_folder_that_cannot_be_sealed(kluis: Kluis, tmp_path: Path) -> None:
    """A missing folder generates no key."""
    said = kluis("model", "seal", tmp_path / "none", "-o", tmp_path / "x", "--key", tmp_path / "k.jwk")
    assert said.code == 2
    assert not (tmp_path / "k.jwk").exists()
