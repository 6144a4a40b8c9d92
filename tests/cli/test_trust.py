"""``kluis trust``: what a person types, and what evidence is worth then."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from kluis.cleanroom.records.home import Home
from kluis.cli import main
from kluis.hashes import sha256
from kluis.views.rooms import trust_here
from tests.cli.quotes import ANCHOR, FORGE, NOW, Kluis, appraising, ends, write_policy
from tests.evidence.forge import NONCE, Forge

KEY = sha256(next(iter(FORGE.anchors)).spki).hex()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate store of the test."""
    monkeypatch.setenv("KLUIS_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config" / "trust"


def test_from_add_to_remove(kluis: Kluis, folder: Path) -> None:
    """A root is trusted without --root from the command that adds it to the one that removes it."""
    verify = ("verify", folder / "quote.bin", "--now", NOW)
    assert kluis("trust", "list").out == "none: only the vendors' roots are trusted\n"
    assert kluis(*verify).code == 4
    said = kluis("trust", "add", "lab", folder / "root.pem", "--level", "process")
    assert (said.code, said.out) == (0, f"trusted: lab process sha256:{KEY} {ANCHOR}\n"), said.err
    assert kluis("trust", "list").out == f"lab  process  sha256:{KEY}  {ANCHOR}\n"
    (listed,) = json.loads(kluis("trust", "list", "--json").out)
    assert (listed["name"], listed["level"], listed["key_sha256"]) == ("lab", "process", KEY)
    said = kluis(*verify)
    assert said.code == 0, said.err
    assert f"signed under {ANCHOR} (trusted as lab)\n" in said.out
    assert kluis("trust", "remove", "lab").out == "removed: lab\n"
    assert kluis(*verify).code == 4


def test_a_policy_without_roots_uses_the_store(kluis: Kluis, folder: Path) -> None:
    """A policy still states the levels that it accepts; its own roots are not needed then."""
    write_policy(folder / "policy.toml", roots=())
    assert kluis(*appraising(folder, "--nonce", NONCE.hex())).code == 4
    assert kluis("trust", "add", "lab", folder / "root.pem", "--level", "process").code == 0
    assert kluis(*appraising(folder, "--nonce", NONCE.hex())).code == 0
    other = folder / "policy.toml"
    other.write_text(other.read_text().replace('protection = ["process"]', 'protection = ["hardware-sgx"]'))
    assert kluis(*appraising(folder, "--nonce", NONCE.hex())).code == 6


def test_a_root_that_is_named_is_the_only_one(kluis: Kluis, folder: Path) -> None:
    """With --root only that root is trusted, whatever is in the store."""
    (folder / "other.pem").write_bytes(Forge().authority.root_pem())
    assert kluis("trust", "add", "lab", folder / "root.pem", "--level", "process").code == 0
    assert kluis("verify", folder / "quote.bin", "--now", NOW, "--root", folder / "other.pem").code == 4


def test_the_level_is_explicit(kluis: Kluis, folder: Path) -> None:
    """Without a level nothing is added, and the error names the one that the root states."""
    said = kluis("trust", "add", "lab", folder / "root.pem")
    assert (said.code, said.err) == (
        2,
        "kluis: error: --level: want the level that you trust this root for, got none: the root states"
        " process\n"
        f"kluis: hint: kluis trust add lab {folder / 'root.pem'} --level process\n" + ends("usage"),
    )
    said = kluis("trust", "add", "lab", folder / "root.pem", "--level", "proces")
    assert said.err.endswith(f"kluis: hint: did you mean process?\n{ends('usage')}")
    said = kluis("trust", "add", "lab", folder / "root.pem", "--level", "hardware-sgx")
    assert said.err.startswith("kluis: error: --level: want process, which the root has, got hardware-sgx\n")
    assert "\nkluis: hint: --level process\n" in said.err
    assert kluis("trust", "list", "--json").out == "[]\n"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("quote.bin", 3, "want a root (PEM), got SGX quote v3"),
        ("quote.bin.runtime.json", 3, "want a root (PEM), got Kluis runtime data"),
        ("quote.bin.collateral.json", 3, "want a root (PEM), got Intel collateral"),
        ("none.pem", 2, "cannot be read: No such file or directory"),
        (".", 2, "cannot be read: Is a directory"),
    ],
)
def test_a_root_that_is_something_else(
    kluis: Kluis, folder: Path, name: str, code: int, message: str
) -> None:
    """What is given for a root is named by what it is."""
    for words in (("trust", "add", "lab", folder / name, "--level", "process"),
                  ("verify", folder / "quote.bin", "--root", folder / name)):  # fmt: skip
        said = kluis(*words)
        assert (said.code, said.err.splitlines()[0]) == (code, f"kluis: error: {folder / name}: {message}")


def test_two_roots_of_one_name(kluis: Kluis, folder: Path) -> None:
    """The second is refused with the command that would make room for it."""
    (folder / "other.pem").write_bytes(Forge().authority.root_pem())
    assert kluis("trust", "add", "lab", folder / "root.pem", "--level", "process").code == 0
    said = kluis("trust", "add", "lab", folder / "other.pem", "--level", "process")
    assert (said.code, said.err) == (
        2,
        "kluis: error: lab: want a new name, got one of a root in the trust store\n"
        "kluis: hint: choose another name, or first: kluis trust remove lab\n" + ends("usage"),
    )


def test_a_chain_is_no_root(kluis: Kluis, folder: Path) -> None:
    """Two certificates are refused: which of them is trusted would be a guess."""
    pem = (folder / "root.pem").read_bytes()
    (folder / "two.pem").write_bytes(pem * 2)
    said = kluis("trust", "add", "lab", folder / "two.pem", "--level", "process")
    assert said.code == 3
    assert "want 1 certificate, got 2" in said.err


def test_a_command_with_one_root_takes_the_store(kluis: Kluis, folder: Path) -> None:
    """``kluis vault meet`` uses the store's only root, or the one that --root names; never several."""
    meet = ("vault", "meet", "https://localhost:1", "--image-id", "00" * 32)
    empty = kluis(*meet, "--collateral", folder / "quote.bin.collateral.json")
    assert (empty.code, empty.err.splitlines()[:2]) == (
        2,
        [
            "kluis: error: --root: want one root, got 0 in the trust store",
            "kluis: hint: kluis trust add NAME ROOT.pem --level process",
        ],
    )
    assert kluis("trust", "add", "lab", folder / "root.pem", "--level", "process").code == 0
    for named in ((), ("--root", "lab"), ("--root", folder / "root.pem")):
        assert (
            kluis(*meet, *named, "--collateral", folder / "quote.bin.collateral.json").code == 7
        )  # nothing answers
    unknown = kluis(*meet, "--root", "other")
    assert unknown.code == 2
    assert unknown.err.startswith("kluis: error: --root: want a file or a trusted root, got 'other'")
    (folder / "other.pem").write_bytes(Forge().authority.root_pem())
    assert kluis("trust", "add", "other", folder / "other.pem", "--level", "process").code == 0
    both = kluis(*meet)
    assert both.err.startswith("kluis: error: --root: want one root, got 2 in the trust store\n")


def test_a_party_knows_the_roots_of_its_store(kluis: Kluis, folder: Path, tmp_path: Path) -> None:
    """A root of an agreement is known to a party that trusts it, without --root."""
    home = Home.create(tmp_path / "home", "clinic")
    pem = (folder / "root.pem").read_text()
    assert trust_here(home).root(pem)[1] == ""
    assert kluis("trust", "add", "lab", folder / "root.pem", "--level", "process").code == 0
    assert trust_here(home).root(pem)[1] == "given by you or by this machine's platform"


def test_a_terminal_has_room_for_a_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a screen of 80 columns no line is wider, and the fingerprint is whole."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (["add", "lab", str(folder / "root.pem"), "--level", "process"], ["list"]):
        screen = io.StringIO()
        monkeypatch.setattr(screen, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdout", screen)
        assert main.run(["trust", *words]) == 0
        assert max(map(len, screen.getvalue().splitlines())) <= 80
        assert f"sha256:{KEY}" in screen.getvalue().split()
