"""The examples, run as their first lines say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.testing.images import ALLOWED, built

__all__ = ["built"]

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(bool(ALLOWED), reason="the examples allow no protection to be missing")


def said(script: Path, *images: Path) -> list[str]:
    run = subprocess.run(
        [sys.executable, str(script), *map(str, images)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return run.stdout.splitlines()


def test_hello(built: Callable[..., Path]) -> None:
    """The hello host greets, averages, seals, and is told how far the enclave is."""
    lines = said(EXAMPLES / "hello" / "host.py", built(EXAMPLES / "hello"))
    assert lines[:2] == ["hello, world, from inside", "5.0"]
    assert lines[3:] == [
        "length, told from inside: 17",
        *(f"progress: {done} of 5000" for done in (1000, 2000, 3000, 4000)),
        "primes below 5000: 669",
    ]


def test_local_attestation(built: Callable[..., Path]) -> None:
    """B meets A, and refuses every report that is not A's to it, now."""
    folder = EXAMPLES / "local_attestation"
    lines = said(folder / "host.py", built(folder / "first"), built(folder / "second"))
    assert lines[0].startswith("ok      B met ")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "refused a changed bit in the measurement",
        "refused a changed bit in the signer",
        "refused a changed bit in the report data",
        "refused a changed bit in the MAC",
        "refused a replay",
        "refused a report for another enclave",
    ]


@pytest.mark.slow
def test_web(built: Callable[..., Path]) -> None:
    """The client is answered by the image it wants, and sends nothing to another."""
    lines = said(EXAMPLES / "web" / "host.py", built(EXAMPLES / "web"))
    assert lines[0] == "answered by the image: {'mean': 60.8}"
    assert lines[1].startswith("nothing was sent: ")
