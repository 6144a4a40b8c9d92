"""Check what a key may be used for, and when: enabled, key_ops, not before, expiry.

In Azure an expired key can still decrypt, unwrap, verify and release, so that old data stays readable. A
disabled key refuses decrypt, sign and unwrapKey there, but allows encrypt, verify and wrapKey. The source is
a user's report (github.com/Azure/azure-sdk-for-python/issues/45342), not Microsoft's documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kluis.services.keyvault.faults import BadParameter, Forbidden
from kluis.services.keyvault.vault.records import KeyVersion

OPERATIONS: Final = (
    "encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "export",
)  # fmt: skip
_ALL: Final = ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey")
_DEFAULTS: Final = {
    "RSA": _ALL,
    "EC": ("sign", "verify"),
    "oct": ("encrypt", "decrypt", "wrapKey", "unwrapKey"),
}
_POSSIBLE: Final = {"RSA": OPERATIONS, "EC": ("sign", "verify", "import", "export"), "oct": OPERATIONS}
_WHILE_ENABLED: Final = frozenset({"decrypt", "sign", "unwrapKey"})
_IN_TIME: Final = frozenset({"encrypt", "sign", "wrapKey"})


def default_operations(family: str) -> tuple[str, ...]:
    """The default operations of a key of the family."""
    return _DEFAULTS[family]


def check_operations(family: str, operations: Iterable[str]) -> tuple[str, ...]:
    """The operations without duplicates.

    Raises:
        BadParameter: an unknown operation, or one that a key of the family does not support.
    """
    several = tuple(dict.fromkeys(operations))
    for each in several:
        if each not in _POSSIBLE[family]:
            raise BadParameter(
                f"key_ops: want some of {', '.join(_POSSIBLE[family])} for {family}, got {each[:32]!a}"
            )
    return several


def allow(version: KeyVersion, operation: str, now: int) -> None:
    """Raise unless the key may be used so now.

    Args:
        version: the key.
        operation: of :data:`OPERATIONS`.
        now: seconds since 1970.

    Raises:
        Forbidden: the key is disabled and would decrypt or sign, does not have this operation, is not yet
            valid, or is expired.
    """
    if not version.enabled and operation in _WHILE_ENABLED:
        raise Forbidden(f"Operation {operation} is not allowed on a disabled key.", "KeyDisabled")
    if operation not in version.key_ops:
        raise Forbidden(f"Operation {operation} is not permitted on this key.", "KeyOperationForbidden")
    if operation not in _IN_TIME:
        return
    if version.nbf is not None and now < version.nbf:
        raise Forbidden(
            f"Operation {operation} is not allowed on a key before its time: want {version.nbf}, got {now}",
            "KeyNotYetValid",
        )
    if version.exp is not None and now >= version.exp:
        raise Forbidden(
            f"Operation {operation} is not allowed on an expired key: want before {version.exp}, got {now}",
            "KeyExpired",
        )
