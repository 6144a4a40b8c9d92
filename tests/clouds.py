"""A local cloud for tests: a folder that has the services' images, and the commands in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kluis.errors import UnavailableError
from kluis.tee.process import linux, native
from tests.serve.served import bring_images

CODE = "import sys; from kluis.cli.main import main; main()"
SECONDS = 300.0
HEAP_BYTES = 512 << 20


class Done(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """Its output, as JSON."""
        return json.loads(self.out)


class Cloud:
    """A folder, and the commands of the local cloud in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {**os.environ, "KLUIS_CLOUD": str(path)}

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-c", CODE, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            **options,
        )

    def run(self, *words: str) -> Done:
        """Run a command to its end."""
        with self.popen(*words) as process:
            try:
                out, err = process.communicate(timeout=SECONDS)
            except BaseException:
                process.kill()
                raise
        return Done(process.returncode, out, err)

    def close(self) -> None:
        """Leave nothing running."""
        self.run("down")


def prepare(folder: Path) -> Path:
    """Give a folder the services' images; skip the test where enclaves do not run."""
    try:
        native.guardian()
    except UnavailableError as lack:
        pytest.skip(lack.message)
    if lacks := sorted(linux.missing(HEAP_BYTES)):
        pytest.skip(f"the services are for a machine that lacks nothing: {lacks[0]}")
    folder.chmod(0o700)
    (folder / "services").mkdir(mode=0o700)
    bring_images(folder / "services")
    return folder
