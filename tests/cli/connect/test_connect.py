"""The command ``kluis connect``: its options, its one line, its end, and a body of a gibibyte."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from kluis.appraisal import BySigner, dumps
from kluis.cli import main
from kluis.testing.plugin import rehearsal_platform
from kluis.testing.rehearsal import RehearsalPlatform
from tests.connect.conftest import judge, served
from tests.connect.running import SECONDS
from tests.enclave.hosted.policies import rehearsed
from tests.enclave.hosted.serving import Served

__all__ = ["judge", "rehearsal_platform", "served"]
TOKEN = "a-token-of-this-users-own"


def policy(product_id: int) -> str:
    """A policy for a rehearsal, as a file has it."""
    who = BySigner(signers=frozenset({bytes(32)}), product_id=product_id, min_svn=1)
    return dumps(dataclasses.replace(rehearsed(who), advisories=frozenset()))


@pytest.fixture
def options(tmp_path: Path, rehearsal_platform: RehearsalPlatform) -> list[str]:
    """What the command needs to verify a rehearsed enclave."""
    (tmp_path / "policy.toml").write_text(policy(product_id=5))
    (tmp_path / "root.pem").write_bytes(rehearsal_platform.authority.root_pem())
    collateral = rehearsal_platform.authority.collateral(datetime.now(UTC))
    (tmp_path / "collateral.json").write_text(json.dumps(collateral))
    names = (("--policy", "policy.toml"), ("--root", "root.pem"), ("--collateral", "collateral.json"))
    return [word for option, name in names for word in (option, str(tmp_path / name))]


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process, and its first line."""
    command = [sys.executable, "-c", "from kluis.cli.main import main; main()", "connect", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, child.stdout.readline()
        finally:
            child.kill()


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code after SIGTERM, and what it noted."""
    child.send_signal(signal.SIGTERM)
    _, noted = child.communicate(timeout=SECONDS)
    return child.returncode, noted


def test_one_line_of_json_and_a_clean_end(served: Served, options: list[str], tmp_path: Path) -> None:
    """It states level and age of the evidence, forwards, wants its token, and ends with 0 under a stream."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o600)
    more = ("--listen", "127.0.0.1:0", "--token", str(tmp_path / "token"), "--json")
    with started(served.url, *options, *more) as (child, line):
        said = json.loads(line)
        assert said["enclave"] == served.url
        assert said["level"] == "none"
        assert said["pid"] == child.pid
        assert 0 <= said["evidence_age_seconds"] < said["evidence_expires_seconds"] == 300
        assert httpx.get(said["listen"], timeout=SECONDS).status_code == 401
        key = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(said["listen"], headers=key, timeout=SECONDS).text == "hello from inside"
        with httpx.stream("GET", f"{said['listen']}/forever", headers=key, timeout=SECONDS) as held:
            assert held.status_code == 200
            assert ended(child) == (0, "kluis: stopped\n")


def test_a_line_for_people(served: Served, options: list[str]) -> None:
    """Without --json, the line states the same in words."""
    with started(served.url, *options, "--listen", "127.0.0.1:0") as (child, line):
        here, _, rest = line.partition(" ")
        assert here.startswith("http://127.0.0.1:")
        words = rf"forwards to {re.escape(served.url)}: level none, evidence \d+ s old, at most 300 s\n"
        assert re.fullmatch(words, rest)
        assert ended(child)[0] == 0


def test_a_port_in_use(served: Served, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the address, and how to choose a free one; nothing was verified."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main.run(["connect", served.url, *options, "--listen", here]) == 2
    said = capsys.readouterr().err
    assert f"kluis: error: --listen {here}: Address already in use" in said
    assert "kluis: hint: --listen 127.0.0.1:0 chooses a free port" in said


def test_another_enclave_is_refused(
    served: Served, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is the policy's, nothing listens, and the refusal is printed once."""
    (tmp_path / "policy.toml").write_text(policy(product_id=6))
    assert main.run(["connect", served.url, *options, "--listen", "127.0.0.1:0"]) == 6
    said = capsys.readouterr().err
    assert said.startswith("kluis: error: ")
    assert said.count("want 6, got 5") == 1


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["http://127.0.0.1:1"], "connect: want https://host[:port], got 'http://127.0.0.1:1'"),
        (["http://127.0.0.1:1"], "kluis: hint: use https: TLS ends inside the enclave"),
        (["https://127.0.0.1:1/path"], "connect: want https://host[:port], got 'https://127.0.0.1:1/path'"),
        (["https://127.0.0.1:99999"], "connect: want https://host[:port], got 'https://127.0.0.1:99999'"),
        (["https://a@127.0.0.1"], "connect: want https://host[:port], got 'https://a@127.0.0.1'"),
        (
            ["https://127.0.0.1:1", "--listen", "0.0.0.0:8080"],
            "--listen: want an address of loopback and a port",
        ),
        (
            ["https://127.0.0.1:1", "--listen", "127.0.0.1"],
            "--listen: want ADDRESS:PORT, got '127.0.0.1'",
        ),
        (
            ["https://127.0.0.1:1", "--listen", "example.org:1"],
            "--listen: want an address of loopback and a port, got 'example.org:1'",
        ),
        (["https://127.0.0.1:1"], "connect: want --policy FILE, got none"),
        (["https://127.0.0.1:1", "POLICY", "--host", "a:1"], "--host: want a name without a port, got 'a:1'"),
        (["https://127.0.0.1:1", "POLICY", "--origin", "localhost"], "--origin: want an origin"),
        (
            ["https://127.0.0.1:1", "POLICY", "--token", "SHORT"],
            "--token: want one token of at least 16 characters",
        ),
    ],
)
def test_options_that_are_wrong(
    words: list[str], wanted: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is refused before anything is opened, and a token is in no message."""
    (tmp_path / "short").write_text("secret-word")
    (tmp_path / "short").chmod(0o600)
    given = [str(tmp_path / "short") if word == "SHORT" else word for word in words if word != "POLICY"]
    assert main.run(["connect", *given, *(options if "POLICY" in words else [])]) == 2
    said = capsys.readouterr().err.replace("\n  ", " ")
    assert wanted in said
    assert "secret-word" not in said


@pytest.mark.slow
def test_a_gibibyte(served: Served, options: list[str]) -> None:
    """A body of a gibibyte goes in whole, and the proxy's memory does not grow with it."""
    piece = bytes(range(256)) * 4096
    wanted = hashlib.sha256()
    for _ in range(1024):
        wanted.update(piece)
    with started(served.url, *options, "--listen", "127.0.0.1:0", "--json") as (child, line):
        url = json.loads(line)["listen"]
        answer = httpx.post(f"{url}/digest", content=(piece for _ in range(1024)), timeout=SECONDS).json()
        assert answer == {"sha256": wanted.hexdigest(), "bytes": 1 << 30}
        status = Path(f"/proc/{child.pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0])
        assert peak < 400 << 10
        assert ended(child)[0] == 0
