"""``kluis units install``: what it writes, how systemd judges it, and what it does not replace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.cli import main
from kluis.cli.machine import unit_files
from kluis.errors import UsageError

NAMES = ["kluis-platform.service", "kluis-services.service"]


def install(*more: str) -> int:
    """Run the command."""
    return main.run(["units", "install", *more])


def test_both_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root's units lie below the root that was named; the next command is printed."""
    assert install("--system", "--root", str(tmp_path), "--", "attestation", "--port", "9000") == 0
    folder = tmp_path / "etc/systemd/system"
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    services = (folder / NAMES[1]).read_text()
    kluis = Path(sys.executable).with_name("kluis")
    assert (
        f"ExecStart={kluis} serve attestation --port 9000 --root %S/kluis-services/platform.pem" in services
    )
    assert "systemctl daemon-reload && systemctl enable --now kluis-platform" in capsys.readouterr().err


def test_a_users_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie in the user's configuration, and have nothing that only root may set."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert install("--user") == 0
    text = (tmp_path / "systemd/user" / NAMES[0]).read_text()
    assert "CapabilityBoundingSet" not in text
    assert "WantedBy=default.target" in text
    assert "systemctl --user enable --now" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what would be written."""
    assert install("--root", str(tmp_path), "--dry-run", "--json") == 0
    assert list(tmp_path.iterdir()) == []
    assert sorted(json.loads(capsys.readouterr().out)["units"]) == NAMES


def test_another_ones_unit_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A unit of the same name that this command did not write is not replaced, and neither is the other."""
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    (folder / NAMES[1]).write_text("[Unit]\n")
    assert install("--root", str(tmp_path)) == 2
    assert (folder / NAMES[1]).read_text() == "[Unit]\n"
    assert not (folder / NAMES[0]).exists()
    assert "want a unit that kluis units wrote, got another" in capsys.readouterr().err


def test_written_again(tmp_path: Path) -> None:
    """Its own units are replaced."""
    for port in ("9000", "9100"):
        assert install("--root", str(tmp_path), "--", "all", "--port", port) == 0
    assert "--port 9100" in (tmp_path / "etc/systemd/system" / NAMES[1]).read_text()


def test_both_managers_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """One must be chosen."""
    assert install("--user", "--system") == 2
    assert "want --user or --system, got both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/kluis", "/opt/kluis"),
        ("a b", '"a b"'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "x"\\', '"say \\"x\\"\\\\"'),
        (";", '";"'),
    ],
)
def test_a_word_for_systemd(word: str, written: str) -> None:
    """Systemd gets each argument as it was: no variable, specifier or second command."""
    assert unit_files.quote([word]) == written


@pytest.mark.parametrize("word", ["a\nExecStart=/bin/sh", "a\x00b", "\x1b"])
def test_a_word_with_a_control_character(word: str) -> None:
    """An argument adds no line to a unit."""
    with pytest.raises(UsageError, match="want printable characters"):
        unit_files.quote([word])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("manager", ["--system", "--user"])
def test_systemd_accepts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: str) -> None:
    """``systemd-analyze verify`` finds no unknown directive, no bad value and no missing program."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    where = ["--root", str(tmp_path)] if manager == "--system" else ["--user"]
    assert install(*where, "--", "all", "--name", 'a "b" $c %d') == 0
    folder = tmp_path / ("etc/systemd/system" if manager == "--system" else "config/systemd/user")
    # In the test's folder are no units of the machine: the target of the network has to be one that is there.
    line = ["systemd-analyze", "verify", "--man=no", manager, *(str(folder / name) for name in NAMES)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    said = [text for text in done.stderr.splitlines() if "kluis" in text]
    assert said == []
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_an_enclave_starts_with_the_units_capabilities(tmp_path: Path) -> None:
    """Without new privileges, and with no more capabilities than the unit leaves, an enclave has level
    process, and keeps root out.
    """
    kept = [name.removeprefix("CAP_").lower() for name in unit_files.PLATFORM_CAPABILITIES.split()]
    bounds = "-all," + ",".join(f"+{name}" for name in kept)
    line = ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", sys.executable, "-m", "kluis.cli.main"]
    code = "from kluis.cli.main import main; main()"
    line = [*line[:3], sys.executable, "-c", code, "doctor", "--boot-seconds", "1", "--json"]
    home = tmp_path / "home"
    environment = {**os.environ, "KLUIS_HOME": str(home)}
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=600, check=False, env=environment, cwd=tmp_path
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["an enclave"]["state"] == "ok", rows["an enclave"]
    assert "protection level process" in rows["an enclave"]["seen"]
