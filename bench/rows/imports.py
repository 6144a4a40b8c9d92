"""Import the verifier, compared with importing the library's own certificate reader."""

from __future__ import annotations

import subprocess
import sys

from bench.harness import Harness, Row

OURS = "import kluis.evidence; kluis.evidence.verify"
THEIRS = "from cryptography import x509"
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def rows(take: Harness) -> list[Row]:
    """One row: the waiting time of a program before it can verify."""
    return [
        take.compare(
            "import kluis.evidence",
            "from cryptography import x509",
            1.3,
            ours=lambda: _seconds(OURS),
            theirs=lambda: _seconds(THEIRS),
        )
    ]


def _seconds(what: str) -> float:
    # The interpreter's own start is in neither.
    argv = [sys.executable, "-I", "-c", TIMED.format(what)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
