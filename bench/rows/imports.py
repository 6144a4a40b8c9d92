"""Import the verifier, compared with the library's own certificate reader; verify one file with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import Harness, Row, timed
from kluis.formats.kluis.evidence_file import EvidenceFile
from tests.evidence.forge import Forge

OURS = "import kluis.evidence; kluis.evidence.verify"
THEIRS = "from cryptography import x509"
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def rows(take: Harness) -> list[Row]:
    """Two rows: the waiting time of a program before it can verify, and of a person who verifies one file."""
    return [
        _verify(take),
        take.compare(
            "import kluis.evidence",
            "from cryptography import x509",
            1.3,
            ours=lambda: _seconds(OURS),
            theirs=lambda: _seconds(THEIRS),
        ),
    ]


def _verify(take: Harness) -> Row:
    forge = Forge()
    with tempfile.TemporaryDirectory() as folder:
        evidence, root = Path(folder) / "x.evidence", Path(folder) / "root.pem"
        evidence.write_bytes(
            EvidenceFile(
                evidence=forge.quote(),
                runtime_data=forge.runtime,
                launch_configuration=forge.launch,
                collateral=forge.collateral().to_json(),
            ).encode()
        )
        root.write_bytes(forge.authority.root_pem())
        program = [sys.executable, "-I", "-c", "from kluis.cli.main import main; main()"]
        ours = [*program, "verify", str(evidence), "--root", str(root), "--now", forge.now.isoformat()]
        theirs = [sys.executable, "-I", "-c", "import kluis.evidence"]
        return take.compare(
            "kluis verify x.evidence, whole process",
            "import kluis.evidence, whole process",
            2.0,
            ours=lambda: timed(lambda: _run(ours)),
            theirs=lambda: timed(lambda: _run(theirs)),
        )


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, env={**os.environ, "KLUIS_CONFIG": "/nonexistent"})


def _seconds(what: str) -> float:
    # The interpreter's own start is in neither.
    argv = [sys.executable, "-I", "-c", TIMED.format(what)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
