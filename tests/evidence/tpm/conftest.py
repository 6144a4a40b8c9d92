"""One maker and one TPM for all tests: making keys is dear."""

from __future__ import annotations

import pytest

from tests.evidence.tpm.forge import Maker, Tpm, rsa_key


@pytest.fixture(scope="session")
def maker() -> Maker:
    """A maker; tests take from it and change nothing in it."""
    return Maker()


@pytest.fixture(scope="session")
def tpm() -> Tpm:
    """A TPM with an RSA key."""
    return Tpm(rsa_key())
