"""``kluis trust``: what a person types, and what evidence is worth then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kluis.hashes import sha256
from tests.cli.quotes import ANCHOR, FORGE, NOW, Kluis, appraising, ends, write_policy
from tests.evidence.forge import NONCE

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
    from tests.evidence.forge import Forge

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
    from tests.evidence.forge import Forge

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
