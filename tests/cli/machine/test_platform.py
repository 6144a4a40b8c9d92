"""`kluis platform`: started, queried and stopped, in a separate home."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from cryptography import x509

from kluis.cli import main


def test_started_asked_and_stopped(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A platform starts once for any number of requests, describes itself, and is gone when stopped."""
    assert main.run(["platform", "start", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main.run(["platform", "start", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == first["pid"]
    assert first["level"] == ("process" if os.geteuid() == 0 else "process-user")
    assert first["counter"] == "unwitnessed"

    assert main.run(["platform", "stop"]) == 0
    assert capsys.readouterr().out == "stopped\n"
    assert main.run(["platform", "status"]) == 7
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "kluis: error: platform: not running\nkluis: hint: kluis platform start\nkluis: code:"
        " no_platform (kluis explain no_platform)\n"
    )


def test_the_root_says_that_it_is_no_hardware(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The root certificate's name states that it is no hardware, and -o writes the same bytes."""
    assert main.run(["platform", "root"]) == 0
    pem = capsys.readouterr().out.encode()
    names = x509.load_pem_x509_certificate(pem).subject.rfc4514_string()
    assert "(no hardware)" in names
    assert main.run(["platform", "root", "-o", str(home / "root.pem")]) == 0
    assert (home / "root.pem").read_bytes() == pem


def test_collateral_has_the_shape_that_others_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The collateral has the members that the PyPI package dcap-qvl reads."""
    assert main.run(["platform", "collateral"]) == 0
    collateral = json.loads(capsys.readouterr().out)
    assert {"tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature"} <= set(collateral)


def _owner() -> int:
    """Whose the state is: the user kluis's where root set it up, else this user's."""
    return pwd.getpwnam("kluis").pw_uid if os.geteuid() == 0 else os.geteuid()


def test_its_state_is_closed_to_others(home: Path) -> None:
    """State is closed to group and others, and owned by the platform's user."""
    assert main.run(["platform", "start"]) == 0
    state = home / "state"
    for path in [state, *state.rglob("*")]:
        found = path.stat()
        assert found.st_mode & 0o077 == 0, path
        assert found.st_uid == _owner()


def test_state_that_others_could_read_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A platform does not start over a state directory that is open to others, and the hint closes it."""
    assert main.run(["platform", "start"]) == 0
    assert main.run(["platform", "stop"]) == 0
    state = home / "state"
    state.chmod(0o755)
    capsys.readouterr()
    assert main.run(["platform", "start"]) == 7
    assert capsys.readouterr().err == (
        f"kluis: error: {state}: mode: want 0700, got 0755\nkluis: hint: chmod 0700 {state}\n"
        "kluis: code: state_mode (kluis explain state_mode)\n"
    )
