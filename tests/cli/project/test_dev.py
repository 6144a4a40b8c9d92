"""``kluis dev``: shows each start, waits for the fix of an error, and leaves nothing running."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kluis.projects import template, write

SECONDS = 300.0  # only ends hangs
PROGRAM = "from kluis.cli.main import main; main()"


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes], errors: Path) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() < until, errors.read_text()
        time.sleep(0.1)


def test_an_ecall_is_called_after_each_change(tmp_path: Path) -> None:
    """The result follows each change; an error is shown with its code; SIGTERM ends all."""
    app = write("cohort", template("ecall"), tmp_path).folder / "app.py"
    right = app.read_text()
    out, errors = tmp_path / "out", tmp_path / "errors"
    line = [sys.executable, "-c", PROGRAM, "dev", "cohort", "mean_age", "[61, 58, 70, 66, 49]"]
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(line, cwd=tmp_path, stdout=stdout, stderr=stderr)
    try:
        wait_for(lambda: out.read_text() == "60.8\n", process, errors)
        assert "level none: it protects nothing" in errors.read_text()
        app.write_text(right + "x = (\n")
        wait_for(lambda: "SyntaxError" in errors.read_text(), process, errors)
        app.write_text(right.replace("return sum", "return 1 + sum"))
        wait_for(lambda: out.read_text() == "60.8\n61.8\n", process, errors)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0, errors.read_text()
        assert [pid for pid in children if Path(f"/proc/{pid}/exe").exists()] == []
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(SECONDS)


def test_a_port_in_use(tmp_path: Path) -> None:
    """A port that another program has ends the command, with the option that chooses another."""
    write("shop", template("api"), tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = [sys.executable, "-c", PROGRAM, "dev", "shop", "--listen", address, "--json"]
        done = subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    assert done.returncode == 7, done.stderr
    error = json.loads(done.stderr.strip().splitlines()[-1])
    assert error["error"] == f"--listen: cannot listen on {address}: Address already in use"
    assert error["code"] == "port"
