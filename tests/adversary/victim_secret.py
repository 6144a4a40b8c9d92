"""The needle, made on the attacker's side as the victim makes it on its own."""

from __future__ import annotations

import hashlib


def secret_of(seed: str) -> bytes:
    """The planted secret of ``seed``."""
    return b"PLANTED-" + hashlib.sha256(seed.encode()).hexdigest().encode()
