"""The reference lists every wrapper that is read, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from tests.evidence.wrappers.test_envelope import GOOD as ENVELOPES
from tests.evidence.wrappers.test_unwrap import GOOD as WRAPPERS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "wrappers.md"
# Each has a separate test, in these folders.
ALONE = {"NVIDIA SDK evidence", "go-tpm-tools attestation", "dstack attestation"}
ALONE |= {"go-sev-guest attestation"}
ALONE |= {f"CoCo {name} evidence" for name in ("Azure", "CCA", "NVIDIA", "SEV-SNP", "TPM")}


def test_the_page_is_what_is_read() -> None:
    """Each row names a wrapper as verified claims do, each of which is a good case of a test."""
    listed = set(re.findall(r"^\| (?!wrapper|-)([^|]+?) \|", PAGE.read_text(), re.MULTILINE))
    layers = {layer for _, name in ENVELOPES.values() for layer in name.split(" in ")}
    assert listed == layers - {"a certificate"} | {name for _, _, name, _ in WRAPPERS.values()} | ALONE
