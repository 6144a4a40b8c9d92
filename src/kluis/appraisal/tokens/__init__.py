"""Attestation results as signed tokens: a JWT or a CWT that holds an EAR, and their verifiers.

A relying party needs :func:`verify_jwt` or :func:`verify_cwt`, the verifier's public key, and the time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kluis.appraisal.tokens.signing import jwk, key_id, sign_cwt, sign_jwt, verify_cwt, verify_jwt

__all__ = ["jwk", "key_id", "sign_cwt", "sign_jwt", "verify_cwt", "verify_jwt"]


_LATE = {
    "jwk": "kluis.appraisal.tokens.signing",
    "key_id": "kluis.appraisal.tokens.signing",
    "sign_cwt": "kluis.appraisal.tokens.signing",
    "sign_jwt": "kluis.appraisal.tokens.signing",
    "verify_cwt": "kluis.appraisal.tokens.signing",
    "verify_jwt": "kluis.appraisal.tokens.signing",
}


def __getattr__(name: str) -> Any:
    """Load the library of signed tokens on first use: other tokens do without it."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATE[name]), name)
