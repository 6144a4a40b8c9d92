"""Start the local cloud for the second time, compared with starting the same enclaves and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import Harness, Row, timed
from kluis.tee.platform.client import Platform

CODE = "from kluis.cli.main import main; main()"
SERVICES = ("attestation", "keyvault", "ledger", "provisioning")
ALONE = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from kluis.host import load

def start(path):
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return load(path, sockets={"listen:web": listener})

with ExitStack() as stack:
    with ThreadPoolExecutor(len(sys.argv)) as threads:
        enclaves = list(threads.map(start, sys.argv[1:]))
    print("ready", flush=True)
    sys.stdin.read()
    for enclave in enclaves:
        enclave.close()
"""


def rows(take: Harness) -> list[Row]:
    """One row: two commands, until all four services serve."""
    platform = Platform.connect()
    with tempfile.TemporaryDirectory(prefix="kluis-bench-") as folder, platform.hold():
        environment = {**os.environ, "KLUIS_CLOUD": str(Path(folder) / "cloud")}

        def kluis(*words: str) -> None:
            subprocess.run(
                [sys.executable, "-c", CODE, *words],
                env=environment,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

        def up() -> None:
            kluis("up", "-d", "--port", "0")
            kluis("wait")

        def ours() -> float:
            seconds = timed(up)
            kluis("down")
            return seconds

        first = ours()
        images = [str(Path(folder) / "cloud/services/images" / name / f"{name}.kluis") for name in SERVICES]
        alone(images)
        return [
            take.compare(
                "kluis up -d && kluis wait, second time, all four services",
                "the same enclaves, started at once by one program",
                1.2,
                ours=ours,
                theirs=lambda: alone(images),
                also=lambda: {"first time, which builds the images": f"{first:.0f} s"},
            )
        ]


def alone(images: list[str]) -> float:
    """Start the images at once in a fresh process; the seconds until all have started."""
    with subprocess.Popen(
        [sys.executable, "-c", ALONE, *images], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        seconds = timed(process.stdout.readline)
        process.stdin.close()
        assert process.wait(120) == 0
    return seconds
