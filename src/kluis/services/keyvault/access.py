"""Authorization of the key service: Azure's built-in roles for keys, and the refusals.

A refusal comes before the body is read or a key is looked up, so it does not reveal which keys exist.

Spec: Azure Key Vault, "Azure built-in roles for Key Vault data plane operations"; Managed HSM, "Local RBAC
built-in roles"; Microsoft Entra, "Claims challenges" (continuous access evaluation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kluis.errors import KluisError
from kluis.formats.encoding import b64
from kluis.services.clock import Clock
from kluis.services.keyvault.hosts import Hosts
from kluis.services.web import Bearer, Caller, Gate, Operation, Refusal, WrongAudience

PERMISSIONS: Final = frozenset({
    "keys/create", "keys/import", "keys/read", "keys/update", "keys/delete", "keys/recover", "keys/purge",
    "keys/backup", "keys/restore", "keys/rotate", "keys/rotationpolicy/read", "keys/rotationpolicy/write",
    "keys/encrypt", "keys/decrypt", "keys/wrap", "keys/unwrap", "keys/sign", "keys/verify", "keys/release",
    "keys/releasepolicy/write", "deletedkeys/read", "rng", "audit/read", "trust/write",
})  # fmt: skip
_USE: Final = {"keys/encrypt", "keys/decrypt", "keys/wrap", "keys/unwrap", "keys/sign", "keys/verify"}
_OFFICER: Final = PERMISSIONS - {"audit/read", "trust/write"}
ROLES: Final[Mapping[str, frozenset[str]]] = {
    "Key Vault Administrator": PERMISSIONS,
    "Key Vault Crypto Officer": _OFFICER,
    "Key Vault Crypto User": frozenset({"keys/read", "keys/update", "keys/backup", *_USE}),
    "Key Vault Crypto Service Encryption User": frozenset({"keys/read", "keys/wrap", "keys/unwrap"}),
    "Key Vault Crypto Service Release User": frozenset({"keys/release"}),
    "Key Vault Reader": frozenset({"keys/read", "keys/rotationpolicy/read", "deletedkeys/read"}),
    "Managed HSM Administrator": PERMISSIONS,
    "Managed HSM Crypto Officer": frozenset({"deletedkeys/read", "keys/recover", "keys/purge"}),
    "Managed HSM Crypto User": _OFFICER - {"keys/purge", "keys/release", "deletedkeys/read", "keys/recover"},
    "Managed HSM Crypto Service Encryption User": frozenset({"keys/read", "keys/wrap", "keys/unwrap"}),
    "Managed HSM Crypto Service Release User": frozenset({"keys/release"}),
    "Managed HSM Crypto Auditor": frozenset({"keys/read", "deletedkeys/read"}),
    "Managed HSM Backup": frozenset({"keys/backup"}),
    "Kluis Auditor": frozenset({"audit/read"}),
}
# A claim that lists the claims a newer token must have: the issuer wants the bearer to authenticate again.
CLAIMS_WANTED: Final = "x-kluis-claims-wanted"
MOST_CLAIMS: Final = 2048
CHALLENGE: Final = "WWW-Authenticate"
# By the claim that differs; the words and numbers are Azure's.
_MISDIRECTED: Final = {
    "aud": "AKV10022: Invalid audience. Expected {}, found: {}.",
    "iss": "AKV10032: Invalid issuer. Expected one of {}, found {}.",
}


def allows(caller: Caller | None, permission: str) -> bool:
    """Whether a caller's roles allow an action that is finer than an operation."""
    return caller is not None and any(permission in ROLES.get(role, frozenset()) for role in caller.roles)


class VaultGate(Gate):
    """Authorizes callers of the key service.

    Args:
        bearer: checks tokens.
        clock: returns the time.
        authorization: where clients get tokens.
        resource: the audience that they request tokens for.
        others: audiences for clients that use the vault under a host of one of these.
        hosts: the names of the vault for clients.
    """

    def __init__(
        self,
        bearer: Bearer | None,
        clock: Clock,
        authorization: str,
        resource: str,
        others: tuple[str, ...],
        hosts: Hosts,
    ) -> None:
        super().__init__(bearer, ROLES, clock)
        self._authorization = authorization
        self._hosts = hosts
        self._challenge = self._challenge_for(resource)
        self._others = {each.partition("://")[2].lower(): self._challenge_for(each) for each in others}

    def _challenge_for(self, resource: str) -> str:
        return f'Bearer authorization="{self._authorization}", resource="{resource}"'

    def admit(self, operation: Operation, target: str, headers: Mapping[str, str]) -> Caller | None:
        """Authorize a request, like :meth:`Gate.admit`; a challenge is for the requested host.

        Raises:
            Refusal: as for :meth:`Gate.admit` and :meth:`Hosts.url`, before anything is done or signed.
        """
        if operation.access is not None:
            self._hosts.url(headers)
        try:
            return super().admit(operation, target, headers)
        except Refusal as refusal:
            challenge = refusal.headers.get(CHALLENGE)
            other = self._others.get(headers.get("host", "").lower().partition(".")[2])
            if challenge is not None and other is not None:
                refusal.headers[CHALLENGE] = challenge.replace(self._challenge, other)
            raise

    def examine(self, caller: Caller, target: str, headers: Mapping[str, str]) -> None:
        """Send a caller back for a newer token, if the issuer marked this one so.

        Raises:
            Refusal: a claims challenge.
        """
        wanted = caller.claims.get(CLAIMS_WANTED)
        if wanted is None:
            return
        claims = b64.encode(str(wanted)[:MOST_CLAIMS].encode("utf-8", "replace"))
        challenge = f'{self._challenge}, error="insufficient_claims", claims="{claims}"'
        raise Refusal(
            401,
            "Unauthorized",
            "AKV10035: The token's issuer wants its bearer to get a newer one.",
            headers={CHALLENGE: challenge},
        )

    def unknown(self, target: str, error: KluisError | None) -> Refusal:
        """The challenge that states where to get a token."""
        message = "AKV10000: Request is missing a Bearer or PoP token."
        if isinstance(error, WrongAudience):
            message = _MISDIRECTED[error.claim].format(" or ".join(error.wanted), error.got)
        elif error is not None:
            message = f"AKV10000: Request is missing a Bearer or PoP token that holds: {error.message}"
        return Refusal(401, "Unauthorized", message, headers={CHALLENGE: self._challenge})

    def forbidden(self, operation: Operation, target: str, caller: Caller) -> Refusal:
        """The refusal of a caller whose roles do not allow the operation: the same whether the key exists or
        not.
        """
        wanted = sorted(role for role, allows in ROLES.items() if operation.access in allows)
        return Refusal(
            403,
            "Forbidden",
            f"Caller is not authorized to perform action on resource: {operation.name} wants one of "
            f"{', '.join(wanted)}; got {', '.join(sorted(caller.roles)[:8]) or 'none'}.",
            inner="ForbiddenByRbac",
        )
