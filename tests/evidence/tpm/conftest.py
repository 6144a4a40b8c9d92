"""One vendor and one TPM for all tests: making keys is slow."""

from __future__ import annotations

import pytest

from tests.evidence.tpm.forge import Maker, Tpm, rsa_key


@pytest.fixture(scope="session")
def maker() -> Maker:
    """A vendor, which tests share and do not change."""
    return Maker()


@pytest.fixture(scope="session")
def tpm() -> Tpm:
    """A TPM with an RSA key."""
    return Tpm(rsa_key())
