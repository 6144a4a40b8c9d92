"""A fork of a process of one thread: what it keeps, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys, signal
from pathlib import Path
from kluis.tee.platform.forked import Forked
log = Path(sys.argv[1])
kept, other = os.pipe(), os.pipe()

def report():
    descriptors = sorted(map(int, os.listdir('/proc/self/fd')))
    os.write(kept[1], f"{os.getcwd()} {os.getsid(0) == os.getpid()} {descriptors}".encode())
    print("words of the child", flush=True)
    return 7

def fail():
    raise ValueError("no answer")

child = Forked(report, log=log, keep=frozenset({kept[1]}))
assert child.wait() == child.wait() == child.poll() == 7
child.kill()
print(os.read(kept[0], 1000).decode())
print(kept[1])
failing = Forked(fail, log=log, keep=frozenset())
assert failing.wait() == 1
waiting = Forked(signal.pause, log=log, keep=frozenset())
assert waiting.poll() is None
waiting.kill()
assert waiting.wait() == -signal.SIGKILL
"""


def test_a_fork(tmp_path: Path) -> None:
    """It has a session, a folder and descriptors of its own; its output and its error are in the log."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "log"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    found, kept = done.stdout.splitlines()
    folder, leads, descriptors = found.split(" ", 2)
    assert (folder, leads) == ("/", "True")
    # The last one is of the listing.
    assert {0, 1, 2, int(kept)} >= {*map(int, descriptors.strip("[]").split(", "))} - {3}
    log = (tmp_path / "log").read_text()
    assert log.startswith("words of the child\n")
    assert log.endswith("ValueError: no answer\n")
