"""Convert the service's errors for Azure's clients: their codes, the phrases that they expect, and our
messages.

Nearly everything is 400, as on Azure, whose clients read the code. If a retry may succeed, it is 503.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import (
    AuthenticityError,
    EnclaveError,
    FormatError,
    FreshnessError,
    KluisError,
    PolicyError,
    UnavailableError,
    UsageError,
)
from kluis.services.attestation.faults import InvalidOperation, Missing, NameTaken, ResourceMissing
from kluis.services.attestation.language import PolicyParsingError
from kluis.services.web import Refusal
from kluis.services.web.refusal import STORES

_CLASSES: Final[tuple[tuple[type[KluisError], int, str], ...]] = (
    (PolicyParsingError, 400, "PolicyParsingError"),
    (ResourceMissing, 404, "ResourceNotFound"),
    (Missing, 404, "NotFound"),
    (NameTaken, 409, "Conflict"),
    (InvalidOperation, 400, "InvalidOperation"),
    (PolicyError, 400, "PolicyEvaluationError"),
    (UnavailableError, 503, "ServiceUnavailable"),
    (EnclaveError, 503, "ServiceUnavailable"),
    (FormatError, 400, "InvalidParameter"),
    (AuthenticityError, 400, "InvalidParameter"),
    (FreshnessError, 400, "InvalidParameter"),
    (UsageError, 400, "InvalidParameter"),
)


def refusal_of(error: KluisError) -> Refusal:
    """The refusal for an error; for an internal error it has no details."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, AuthenticityError) and error.code.startswith(STORES):
        return Refusal(503, "ServiceUnavailable", error.message, inner=error.code, hint=error.hint)
    for kind, status, code in _CLASSES:
        if isinstance(error, kind):
            message = error.message
            if isinstance(error, PolicyParsingError):
                problem = message.removeprefix("policy: ")
                message = (
                    "Native operation failed with 74: Bad message    Msg:[Invalid policy was specified    "
                    f"Msg:[Policy Parser Exception Thrown: {problem}]]"
                )
            return Refusal(status, code, message, inner=error.code, hint=error.hint)
    return Refusal.unexpected()
