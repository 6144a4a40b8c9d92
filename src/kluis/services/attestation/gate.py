"""Authorization of the attestation service: who may call which operation, and the refusals.

Spec: Microsoft Azure Attestation, "Azure RBAC": roles Attestation Reader and Attestation Contributor. A
caller without the role gets 401, like a caller without a token. The control plane uses Azure Resource
Manager's errors, and distinguishes the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kluis.errors import AuthenticityError
from kluis.services.clock import Clock
from kluis.services.web import Bearer, Caller, Gate, Operation, Refusal

READ: Final = "attestation/read"
WRITE: Final = "attestation/write"
VIEW: Final = "attestationProviders/read"
MANAGE: Final = "attestationProviders/write"
# Open to any valid token, whatever its roles: a caller without read access gets an empty list.
KNOWN: Final = "subscriptions/read"
# A token requested for one plane is not valid for the other. Every other accepted audience, such as the
# service's own address, is valid for both.
PLANES: Final = {
    "data": frozenset({"https://attest.azure.net"}),
    "control": frozenset({"https://management.azure.com", "https://management.core.windows.net"}),
}
CONTROL: Final = ("/subscriptions", "/providers/")
# Required with a TPM's evidence, unless the instance is configured not to.
TPM: Final = "attestation/tpm"

_READER: Final = frozenset({READ, TPM})
_CONTRIBUTOR: Final = frozenset({READ, WRITE, TPM})
ROLES: Final[Mapping[str, frozenset[str]]] = {
    "Attestation Reader": _READER,
    "Attestation Contributor": _CONTRIBUTOR,
    "Reader": frozenset({VIEW}),
    "Contributor": frozenset({VIEW, MANAGE}),
    "Owner": frozenset({VIEW, MANAGE}),
}


class AttestationGate(Gate):
    """Authorizes callers.

    Args:
        bearer: checks tokens; None: no token is valid.
        clock: returns the time.
        tpm_open: whether the instance of a path accepts a TPM's evidence from anyone.
    """

    def __init__(self, bearer: Bearer | None, clock: Clock, tpm_open: Callable[[str], bool]) -> None:
        super().__init__(bearer, ROLES, clock)
        self._tpm_open = tpm_open

    def admit(self, operation: Operation, target: str, headers: Mapping[str, str]) -> Caller | None:
        """Authorize one request, like :meth:`Gate.admit`."""
        if self.waits(operation) and self._tpm_open(target):
            return None
        if operation.access == KNOWN:
            return self.identify(target, headers)
        return super().admit(operation, target, headers)

    def waits(self, operation: Operation) -> bool:
        """Whether the instance must be looked up."""
        return operation.access == TPM

    def examine(self, caller: Caller, target: str, headers: Mapping[str, str]) -> None:
        """Require a token for the requested plane.

        Raises:
            Refusal: 401, it is only for the other plane.
        """
        here, there = ("control", "data") if _is_control(target) else ("data", "control")
        if caller.audiences and caller.audiences <= PLANES[there]:
            want, got = (" or ".join(sorted(names)) for names in (PLANES[here], caller.audiences))
            error = AuthenticityError(f"bearer token aud: want {want}, got {got}", code="bearer")
            raise self.unknown(target, error)

    def unknown(self, target: str, error: Exception | None) -> Refusal:
        """The refusal of a caller without a valid token: no challenge, because no client expects one."""
        why = getattr(error, "message", None)
        if _is_control(target):
            if why is None:
                missing = "Authentication failed. The 'Authorization' header is missing."
                return Refusal(401, "AuthenticationFailed", missing)
            return Refusal(401, "InvalidAuthenticationToken", f"The access token is invalid: {why}")
        message = f"Access to {target} requires a valid JWT bearer token"
        return Refusal(401, "Unauthorized", message if why is None else f"{message}: {why}")

    def forbidden(self, operation: Operation, target: str, caller: Caller) -> Refusal:
        """The refusal of a caller whose roles do not allow the operation."""
        roles = ", ".join(sorted(caller.roles)) or "none"
        if operation.access in (VIEW, MANAGE):
            return Refusal(
                403,
                "AuthorizationFailed",
                f"The client '{caller.subject}' does not have authorization to perform action "
                f"'Microsoft.Attestation/{operation.access}' over scope '{target}': "
                f"want a role that allows it, got {roles}",
            )
        return Refusal(
            401,
            "Unauthorized",
            f"Access to {target} requires a valid JWT bearer token: want a role that allows "
            f"{operation.access}, got {roles}",
        )


def _is_control(target: str) -> bool:
    return target.lower().startswith(CONTROL)
