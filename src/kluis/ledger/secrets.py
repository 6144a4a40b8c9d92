"""A ledger's secrets: AES-256 keys, each valid from a seqno on, and what is derived from them.

A secret opens the one before it, so that who holds the latest reads the whole ledger.

Spec: CCF, "Ledger Secrets", ``src/node/ledger_secret.h``.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.errors import AuthenticityError, UsageError
from kluis.formats.ccf.txid import TxId

SIZE: Final = 32
# CCF's label is "Commit Secret Label"; it takes the size of a pointer to it, 8 bytes, and so is this.
COMMIT_LABEL: Final = b"Commit S"
_IV: Final = 12
_TAG: Final = 16


class LedgerSecret:
    """One key of a ledger. Neither its ``repr`` nor any message shows it.

    Args:
        key: 32 bytes.
        version: the seqno of the first entry that it encrypts.

    Raises:
        UsageError: another size, or a version below 1.
    """

    __slots__ = ("_key", "aead", "commit_secret", "version")

    def __init__(self, key: bytes, version: int) -> None:
        if len(key) != SIZE or version < 1:
            raise UsageError(f"ledger secret: want {SIZE} bytes valid from 1 or later, got something else")
        self._key = bytes(key)
        self.version = version
        self.aead = AESGCM(self._key)
        self.commit_secret = hmac.digest(self._key, COMMIT_LABEL, "sha256")

    def __repr__(self) -> str:
        return f"LedgerSecret(version={self.version})"

    def reveal(self) -> bytes:
        """The key itself, 32 bytes: for shares, sealing and the next node."""
        return self._key

    def evidence(self, txid: TxId) -> str:
        """The commit evidence of an entry: to be disclosed only once the entry is committed."""
        text = str(txid)
        return f"ce:{text}:{hmac.digest(self.commit_secret, text.encode(), 'sha256').hex()}"

    def open(self, tag: bytes, iv: bytes, public: bytes, private: bytes, what: str) -> bytes:
        """Decrypt an entry's private domain.

        Args:
            tag: 16 bytes.
            iv: 12 bytes.
            public: the public domain, which the tag covers, too.
            private: ciphertext.
            what: for messages.

        Raises:
            AuthenticityError: it was not encrypted with this key, or not with this public domain.
        """
        try:
            return self.aead.decrypt(iv, private + tag, public)
        except InvalidTag:
            raise AuthenticityError(f"{what}: cannot be opened with this secret", code="ledger_tag") from None

    def wrap(self, other: LedgerSecret, iv: bytes) -> bytes:
        """Encrypt an older secret under this one, as the table of past secrets has it: tag, IV, ciphertext.

        Args:
            other: the older one.
            iv: 12 bytes that were never used with this key.
        """
        sealed = self.aead.encrypt(iv, other._key, None)
        return sealed[-_TAG:] + iv + sealed[:-_TAG]

    def unwrap(self, wrapped: bytes, version: int, what: str) -> LedgerSecret:
        """Open an older secret that :meth:`wrap` encrypted.

        Raises:
            AuthenticityError: it was not encrypted under this one.
        """
        tag, iv, body = wrapped[:_TAG], wrapped[_TAG : _TAG + _IV], wrapped[_TAG + _IV :]
        if len(body) != SIZE:
            raise AuthenticityError(f"{what}: cannot be opened with this secret", code="ledger_tag")
        return LedgerSecret(self.open(tag, iv, b"", body, what), version)


class Secrets:
    """The secrets of a ledger, from the oldest that is known to the latest.

    Args:
        secrets: at least one, their versions rising.

    Raises:
        UsageError: none, or versions that do not rise.
    """

    __slots__ = ("_secrets", "_versions")

    def __init__(self, secrets: Sequence[LedgerSecret]) -> None:
        self._secrets: list[LedgerSecret] = []
        self._versions: list[int] = []
        for secret in secrets:
            self.add(secret)
        if not self._secrets:
            raise UsageError("ledger secrets: want at least one, got none")

    def add(self, secret: LedgerSecret) -> None:
        """Use another secret from its version on: a rekey.

        Raises:
            UsageError: its version is not after the latest.
        """
        if self._versions and secret.version <= self._versions[-1]:
            raise UsageError(
                f"ledger secret: want a version after {self._versions[-1]}, got {secret.version}"
            )
        self._secrets.append(secret)
        self._versions.append(secret.version)

    @property
    def latest(self) -> LedgerSecret:
        """The one that encrypts new entries."""
        return self._secrets[-1]

    @property
    def all(self) -> tuple[LedgerSecret, ...]:
        """From the oldest to the latest."""
        return tuple(self._secrets)

    def at(self, seqno: int) -> LedgerSecret:
        """The secret of an entry.

        Raises:
            UsageError: it is before the oldest secret.
        """
        index = bisect.bisect_right(self._versions, seqno)
        if not index:
            raise UsageError(f"ledger secret: want a seqno from {self._versions[0]} on, got {seqno}")
        return self._secrets[index - 1]

    def span(self, seqno: int) -> tuple[LedgerSecret, int]:
        """The secret of an entry, and the first later seqno that has another; 2^63 if none has.

        Raises:
            UsageError: it is before the oldest secret.
        """
        secret = self.at(seqno)
        index = bisect.bisect_right(self._versions, seqno)
        return secret, self._versions[index] if index < len(self._versions) else 1 << 63


def evidence_digest(evidence: str) -> bytes:
    """What an entry holds of its commit evidence: SHA-256, 32 bytes."""
    return hashlib.sha256(evidence.encode()).digest()
