"""What the attestation service refuses, by the names that Azure Attestation's clients know.

The rest of the tree of :mod:`kluis.errors` is told as one of these at the service's edge.
"""

from __future__ import annotations

from kluis.errors import FormatError, UsageError


class InvalidParameter(FormatError):
    """Something in a request is not what it should be."""

    code = "invalid_parameter"


class InvalidEvidence(InvalidParameter):
    """Evidence that does not hold, or is not bound to what came with it."""

    code = "invalid_evidence"


class InvalidOperation(UsageError):
    """Something that the instance's trust model, or its state, does not allow."""

    code = "invalid_operation"


class PolicyMissing(InvalidOperation):
    """Nobody has set the policy that a kind of attestation needs."""

    code = "policy_missing"


class NameTaken(InvalidOperation):
    """The name of a new instance is another subscription's or resource group's."""

    http_status = 409


class Missing(UsageError):
    """There is nothing of this name."""

    code = "missing"
    http_status = 404


class ResourceMissing(Missing):
    """A resource group has no instance of this name."""
