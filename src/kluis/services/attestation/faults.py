"""The attestation service's errors, by the names that Azure Attestation's clients expect.

The service's edge converts all other errors of :mod:`kluis.errors` into these.
"""

from __future__ import annotations

from kluis.errors import FormatError, UsageError


class InvalidParameter(FormatError):
    """A part of a request is invalid."""

    code = "invalid_parameter"


class InvalidEvidence(InvalidParameter):
    """Evidence that fails verification, or is not bound to the data sent with it."""

    code = "invalid_evidence"


class InvalidOperation(UsageError):
    """The instance's trust model or state does not allow the operation."""

    code = "invalid_operation"


class PolicyMissing(InvalidOperation):
    """No policy is set for a kind of attestation that needs one."""

    code = "policy_missing"


class NameTaken(InvalidOperation):
    """Another subscription or resource group already has the name of a new instance."""

    http_status = 409


class Missing(UsageError):
    """Nothing has this name."""

    code = "not_found"
    http_status = 404


class ResourceMissing(Missing):
    """No instance in the resource group has this name."""
