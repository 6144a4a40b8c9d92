"""Services of tests that generate RSA keys are given keys that the run has already: each costs 60 ms.

Services in their enclaves, which ``tests/clients`` and ``tests/serve`` run, generate their own.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.keys import key_in_turn


@pytest.fixture(autouse=True)
def rsa_keys_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the library's generator."""
    monkeypatch.setattr(rsa, "generate_private_key", key_in_turn)
