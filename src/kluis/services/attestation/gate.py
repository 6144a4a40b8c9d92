"""Who may ask the attestation service for what, and in which words the others hear that they may not.

Spec: Microsoft Azure Attestation, "Azure RBAC": roles Attestation Reader and Attestation Contributor; who
lacks the role is told 401, as who has no token. The control plane has Azure Resource Manager's words, and
tells the two apart.
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
# Anybody's with a token that holds, whatever their roles: who may see nothing is shown an empty list.
KNOWN: Final = "subscriptions/read"
# A token that was asked for the one plane is none for the other. Whatever else a service takes, such as its
# own address, is for both.
PLANES: Final = {
    "data": frozenset({"https://attest.azure.net"}),
    "control": frozenset({"https://management.azure.com", "https://management.core.windows.net"}),
}
CONTROL: Final = ("/subscriptions", "/providers/")
# Asked for with a TPM's evidence, unless the instance says that it does not matter.
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
    """Lets callers in.

    Args:
        bearer: checks tokens; None: nobody has one that holds.
        clock: tells when.
        tpm_open: whether the instance behind a path takes a TPM's evidence from anybody.
    """

    def __init__(self, bearer: Bearer | None, clock: Clock, tpm_open: Callable[[str], bool]) -> None:
        super().__init__(bearer, ROLES, clock)
        self._tpm_open = tpm_open

    def admit(self, operation: Operation, target: str, headers: Mapping[str, str]) -> Caller | None:
        """Let one in, as :meth:`Gate.admit` does."""
        if self.waits(operation) and self._tpm_open(target):
            return None
        if operation.access == KNOWN:
            return self.identify(target, headers)
        return super().admit(operation, target, headers)

    def waits(self, operation: Operation) -> bool:
        """Whether the instance must be looked up."""
        return operation.access == TPM

    def examine(self, caller: Caller, target: str, headers: Mapping[str, str]) -> None:
        """Want a token that is for the plane that is asked.

        Raises:
            Refusal: 401, it is for the other one alone.
        """
        here, there = ("control", "data") if _is_control(target) else ("data", "control")
        if caller.audiences and caller.audiences <= PLANES[there]:
            want, got = (" or ".join(sorted(names)) for names in (PLANES[here], caller.audiences))
            error = AuthenticityError(f"bearer token aud: want {want}, got {got}", code="bearer")
            raise self.unknown(target, error)

    def unknown(self, target: str, error: Exception | None) -> Refusal:
        """What one hears who has no token, or none that holds: no challenge, which no client asks for."""
        why = getattr(error, "message", None)
        if _is_control(target):
            if why is None:
                missing = "Authentication failed. The 'Authorization' header is missing."
                return Refusal(401, "AuthenticationFailed", missing)
            return Refusal(401, "InvalidAuthenticationToken", f"The access token is invalid: {why}")
        message = f"Access to {target} requires a valid JWT bearer token"
        return Refusal(401, "Unauthorized", message if why is None else f"{message}: {why}")

    def forbidden(self, operation: Operation, target: str, caller: Caller) -> Refusal:
        """What one hears whose roles do not allow the operation."""
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
