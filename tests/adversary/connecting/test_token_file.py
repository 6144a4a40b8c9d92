"""A file with the proxy's token that others can access, or put there, is not used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kluis.cli import main
from kluis.cli.connect.connect import _token
from kluis.errors import UnavailableError

TOKEN = "a-token-of-this-users-own"
NOBODY = 65534


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A file that only this user can access."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602, 0o660, 0o666])
def test_a_file_that_others_access(token: Path, mode: int) -> None:
    """Anyone who reads it may use the enclave, and anyone who writes it chooses who may."""
    assert _token(token) == TOKEN
    token.chmod(mode)
    with pytest.raises(UnavailableError) as caught:
        _token(token)
    assert caught.value.message == f"{token}: want mode 0600, got {mode:04o}"
    assert caught.value.hint == f"chmod 600 {token}"


def test_a_link_to_a_file(token: Path) -> None:
    """Its target could be exchanged."""
    link = token.with_name("link")
    link.symlink_to(token)
    with pytest.raises(UnavailableError, match="want a regular file, got a link"):
        _token(link)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_a_file_of_another_user(token: Path) -> None:
    """Its owner knows the token, and may change it."""
    os.chown(token, NOBODY, NOBODY)
    with pytest.raises(UnavailableError) as caught:
        _token(token)
    assert caught.value.message == f"{token}: want owner 0, got {NOBODY}"


def test_the_command_refuses_it(token: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``kluis connect`` ends before it connects, and its message does not contain the token."""
    policy = tmp_path / "policy.toml"
    words = ["policy", "init", "--purpose", "channel", "--image-id", "ab" * 32, "-o", str(policy)]
    assert main.run(words) == 0
    token.chmod(0o644)
    capsys.readouterr()
    words = ["connect", "https://127.0.0.1:1", "--policy", str(policy), "--token", str(token)]
    assert main.run([*words, "--listen", "127.0.0.1:0"]) == 7
    said = capsys.readouterr().err
    assert f"kluis: hint: chmod 600 {token}" in said.replace("\n  ", " ")
    assert TOKEN not in said
