"""Fixtures of drivers: software TPMs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tee.tpm import tpms
from tests.tee.tpm.tpms import Software


@pytest.fixture
def software(tmp_path: Path) -> Iterator[Software]:
    """A running software TPM."""
    if tpms.MISSING:
        pytest.skip(f"not installed: {', '.join(tpms.MISSING)}")
    with tpms.running(tmp_path / "swtpm") as started:
        yield started
