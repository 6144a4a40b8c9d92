"""Attestation results as signed tokens: a JWT or a CWT that holds an EAR, and their verifiers.

A relying party needs :func:`verify_jwt` or :func:`verify_cwt`, the verifier's public key, and the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kluis.appraisal.tokens.signing import jwk, key_id, sign_cwt, sign_jwt, verify_cwt, verify_jwt

__all__ = ["jwk", "key_id", "sign_cwt", "sign_jwt", "verify_cwt", "verify_jwt"]


def __getattr__(name: str) -> Any:
    """Load the library of signed tokens when a name is first used: other tokens do without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kluis.appraisal.tokens import signing

    return getattr(signing, name)
