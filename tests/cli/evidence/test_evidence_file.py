"""``kluis verify``, ``appraise``, ``inspect`` and ``policy init`` with one file that has everything."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from kluis.formats.kluis.evidence_file import EvidenceFile
from tests.cli.quotes import FORGE, NOW, Kluis, ends
from tests.evidence.forge import NONCE

FILE = EvidenceFile(
    evidence=FORGE.quote(),
    runtime_data=FORGE.runtime,
    launch_configuration=FORGE.launch,
    collateral=FORGE.collateral().to_json(),
    image="hello",
)


@pytest.fixture
def one(folder: Path) -> Path:
    """The folder with one file of evidence, the root and a policy; no loose document is left."""
    for name in ("", ".runtime.json", ".launch.json", ".collateral.json"):
        (folder / f"quote.bin{name}").unlink()
    (folder / "x.evidence").write_bytes(FILE.encode())
    return folder / "x.evidence"


def test_one_file_is_enough(kluis: Kluis, one: Path) -> None:
    """Only the trust in a root comes from elsewhere; the policy has it for an appraisal."""
    said = kluis("verify", one, "--root", one.parent / "root.pem", "--now", NOW)
    assert said.code == 0, said.err
    assert "ok    came in               evidence file, which binds runtime data" in said.out
    said = kluis(
        "appraise",
        one,
        "--policy",
        one.parent / "policy.toml",
        "--nonce",
        NONCE.hex(),
        "--now",
        NOW,
        "--json",
    )
    assert said.code == 0, said.err
    verdict = json.loads(said.out)
    assert (verdict["verdict"], verdict["runtime_data"]["nonce"]) == ("affirming", NONCE.hex())


def test_a_draft_has_the_purpose_of_the_file(kluis: Kluis, one: Path) -> None:
    """A policy that is drafted from a file requires a nonce and the purpose of its runtime data."""
    drafted = one.parent / "draft.toml"
    root = one.parent / "root.pem"
    said = kluis("policy", "init", one, "-o", drafted, "--root", root, "--now", NOW)
    assert said.code == 0, said.err
    assert 'purpose = "cli"' in drafted.read_text()
    given = ("appraise", one, "--policy", drafted, "--now", NOW)
    assert kluis(*given, "--nonce", NONCE.hex()).code == 0
    assert kluis(*given, "--nonce", "00").code == 5


def test_inspect_shows_every_part(kluis: Kluis, one: Path) -> None:
    """The parts are shown under their names, and the image's name as what nobody proved."""
    said = kluis("inspect", one)
    assert said.code == 0
    assert said.out.startswith("kind   Kluis evidence file\n")
    assert "image  hello\nnote   the evidence does not prove the name of the image\n" in said.out
    for part in ("evidence:", "runtime_data:", "launch_configuration:", "collateral:"):
        assert f"\n{part}\n" in said.out


def test_what_is_given_comes_before_what_is_in_the_file(kluis: Kluis, one: Path) -> None:
    """Collateral that is named is used instead of the file's, also if the file's has run out."""
    later = "2026-08-01T12:00:00Z"
    given = ("verify", one, "--root", one.parent / "root.pem", "--now", later)
    said = kluis(*given)
    assert said.code == 5
    assert "hint: kluis platform collateral -o FILE, on the machine of the platform" in said.err
    newer = one.parent / "newer.json"
    newer.write_bytes(json.dumps(FORGE.authority.collateral(FORGE.now.replace(month=8))).encode())
    assert kluis(*given, "--collateral", newer).code == 0


def test_a_file_without_collateral(kluis: Kluis, one: Path) -> None:
    """Collateral that is not in the file is looked for in its folder, as for loose files."""
    one.write_bytes(dataclasses.replace(FILE, collateral=None).encode())
    given = ("verify", one, "--root", one.parent / "root.pem", "--now", NOW)
    said = kluis(*given)
    assert said.code == 7
    assert said.err.startswith(f"kluis: error: {one}: no collateral given, and no file next to it\n")
    (one.parent / "x.evidence.collateral.json").write_bytes(FORGE.collateral().to_json())
    assert kluis(*given).code == 0


def test_a_document_next_to_the_file_is_not_read(kluis: Kluis, one: Path) -> None:
    """The documents of a file are the ones in it: a loose one in its folder changes nothing."""
    (one.parent / "x.evidence.runtime.json").write_bytes(b"{}")
    said = kluis(
        "appraise", one, "--policy", one.parent / "policy.toml", "--nonce", NONCE.hex(), "--now", NOW
    )
    assert said.code == 0, said.err


def test_a_changed_document_is_not_authentic(kluis: Kluis, one: Path) -> None:
    """A file whose runtime data were exchanged is refused before any policy sees it."""
    other = FORGE.runtime.replace(b'"purpose":"cli"', b'"purpose":"app"')
    one.write_bytes(dataclasses.replace(FILE, runtime_data=other).encode())
    said = kluis("verify", one, "--root", one.parent / "root.pem", "--now", NOW)
    assert said.code == 4
    assert said.err.startswith("kluis: error: evidence file: the evidence within binds another runtime data")
    assert said.err.endswith(ends("runtime_data"))
