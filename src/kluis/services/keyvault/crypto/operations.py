"""Use a key: encrypt, decrypt, wrap, unwrap, sign, verify."""

from __future__ import annotations

from typing import Any, Final

from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.services.keyvault.crypto import encryption, signing, usage
from kluis.services.keyvault.crypto.encryption import Sealed
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.names import check_name, check_version, identifier
from kluis.services.keyvault.octets import decode_base64
from kluis.services.keyvault.requests import Operate
from kluis.services.keyvault.vault import keys
from kluis.services.keyvault.vault.records import KeyVersion
from kluis.services.keyvault.vault.vault import Vault

# The path's last segment, and its key operation.
OPERATIONS: Final = {
    "encrypt": "encrypt", "decrypt": "decrypt", "wrapkey": "wrapKey", "unwrapkey": "unwrapKey",
    "sign": "sign", "verify": "verify",
}  # fmt: skip


@frozen
class Use:
    """Uses keys.

    Attributes:
        vault: that has them.
    """

    vault: Vault

    def apply(
        self, operation: str, name: str, version: str, request: Operate, now: int, url: str
    ) -> dict[str, Any]:
        """Use a key once.

        Args:
            operation: of :data:`OPERATIONS`.
            name: of the key.
            version: "" is the latest.
            request: algorithm and value.
            now: seconds since 1970.
            url: of the vault, for the answer's ``kid``.

        Raises:
            KeyNotFound: the key does not exist.
            Forbidden: the key does not allow the operation.
            BadParameter: an invalid algorithm or value for the key.
        """
        record = keys.demand(self.vault.storage, check_name(name), now)
        key = keys.version(self.vault.storage, record, check_version(version))
        usage.allow(key, OPERATIONS[operation], now)
        if request.alg is None:
            raise BadParameter("alg: want one, got none")
        made = _apply(operation, key, request.alg, request)
        return made if operation == "verify" else {"kid": identifier(url, record.name, key.id), **made}


def _apply(operation: str, key: KeyVersion, alg: str, request: Operate) -> dict[str, Any]:
    if operation == "verify":
        digest, signature = decode_base64(request.digest, "digest"), decode_base64(request.value, "value")
        return {"value": signing.verify(key, alg, digest, signature)}
    value = decode_base64(request.value, "value")
    if operation == "sign":
        return {"value": b64.encode_url(signing.sign(key, alg, value))}
    allowed = encryption.WRAPPING if operation in ("wrapkey", "unwrapkey") else encryption.CONTENT
    if alg not in allowed:
        raise BadParameter(f"alg: want one of {', '.join(allowed)}, got {alg[:32]!a}")
    iv, aad, tag = (_optional(request, each) for each in ("iv", "aad", "tag"))
    if operation in ("encrypt", "wrapkey"):
        if tag is not None:
            raise BadParameter("tag: want none, got one")
        return _members_of(encryption.encrypt(key, alg, value, iv=iv, aad=aad))
    return {"value": b64.encode_url(encryption.decrypt(key, alg, Sealed(value, iv, tag, aad)))}


def _optional(request: Operate, name: str) -> bytes | None:
    text = getattr(request, name)
    return None if text is None else decode_base64(text, name)


def _members_of(sealed: Sealed) -> dict[str, str]:
    return {name: b64.encode_url(value) for name, value in sealed._asdict().items() if value is not None}
