"""Ledger secrets as a ledger holds them: shares for members, and each secret under the next.

    wrapped secret   tag 16, IV 12, ciphertext 32 of AES-256-GCM
    share            x u32, then ten y u32, little-endian: a point on ten polynomials over 2^31-1

Spec: CCF, "Members Recovery", ``src/node/share_manager.h``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

PRIME: Final = (1 << 31) - 1
LIMBS: Final = 10
SHARE_SIZE: Final = 4 * (LIMBS + 1)
WRAPPED_SIZE: Final = 60
MAX_MEMBERS: Final = 1024
MAX_SHARE: Final = 2048
"""Bytes of an encrypted share: OpenSSL encrypts with keys of up to 16,384 bits."""


@frozen
class Share:
    """One share of a wrapping key, or, with x = 0, the key itself.

    Attributes:
        x: 0..2^31-2.
        y: ten numbers, 0..2^31-2 each.
    """

    x: int
    y: tuple[int, ...]

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read a share of 44 bytes.

        Raises:
            FormatError: another length, or a number past the prime.
        """
        if len(data) != SHARE_SIZE:
            raise FormatError(f"{what}: is {len(data)} bytes, must be {SHARE_SIZE}", code="bad_length")
        numbers = tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, SHARE_SIZE, 4))
        if any(number >= PRIME for number in numbers):
            raise FormatError(f"{what}: holds a number past the prime", code="bad_encoding")
        return cls(numbers[0], numbers[1:])

    def encode(self) -> bytes:
        """Write the share: the bytes it was read from."""
        return b"".join([number.to_bytes(4, "little") for number in (self.x, *self.y)])

    def __repr__(self) -> str:
        return f"Share(x={self.x})"


@frozen(kw_only=True)
class RecoveryShares:
    """The latest ledger secret, wrapped, and a share of the wrapping key for each member.

    Attributes:
        wrapped: 60 bytes.
        shares: by member, each encrypted with the member's RSA key.
        previous: seqno of the entry that holds the secret before; None if there is none.
    """

    wrapped: bytes
    shares: Mapping[str, bytes]
    previous: int | None = None

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read the value of ``public:ccf.internal.recovery_shares``.

        Raises:
            FormatError: not canonical JSON of that form.
        """
        members = Members(jcs.loads_canonical(data, what), what)
        shares = members.object("encrypted_shares")
        by_member = {}
        for name in shares.entries(most=MAX_MEMBERS):
            by_member[name] = _octets(shares, name)
        wrapped = _octets(members, "wrapped_latest_ledger_secret", WRAPPED_SIZE)
        previous = None
        if "previous_secret_stored_version" in members:
            previous = members.integer("previous_secret_stored_version", least=1)
        return cls(wrapped=wrapped, shares=MappingProxyType(by_member), previous=previous)

    def encode(self) -> bytes:
        """Write the value, canonical JSON."""
        previous = {} if self.previous is None else {"previous_secret_stored_version": self.previous}
        return jcs.dumps(
            {
                "encrypted_shares": {name: b64.encode(share) for name, share in self.shares.items()},
                "wrapped_latest_ledger_secret": b64.encode(self.wrapped),
                **previous,
            }
        )


@frozen(kw_only=True)
class PastSecret:
    """The secret before the latest, under the latest.

    Attributes:
        next_version: from which seqno the latest is valid; None where it is from the next entry on.
        encrypted: 60 bytes; None if there is no secret before.
        version: from which seqno the one before was valid; None if there is none.
        previous: seqno of the entry that holds the one before that; None if there is none.
    """

    next_version: int | None = None
    encrypted: bytes | None = None
    version: int | None = None
    previous: int | None = None

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read the value of ``public:ccf.internal.historical_encrypted_ledger_secret``.

        Raises:
            FormatError: not canonical JSON of that form.
        """
        members = Members(jcs.loads_canonical(data, what), what)
        following = members.integer("next_version", least=1) if "next_version" in members else None
        if "previous_ledger_secret" not in members or members.null("previous_ledger_secret"):
            return cls(next_version=following)
        before = members.object("previous_ledger_secret")
        stored = "previous_secret_stored_version"
        return cls(
            next_version=following,
            encrypted=_octets(before, "encrypted_data", WRAPPED_SIZE),
            version=before.integer("version", least=1),
            previous=before.integer(stored, least=1) if stored in before else None,
        )

    def encode(self) -> bytes:
        """Write the value, canonical JSON."""
        value: dict[str, jcs.Writable] = {}
        if self.next_version is not None:
            value["next_version"] = self.next_version
        if self.encrypted is not None and self.version is not None:
            before: dict[str, jcs.Writable] = {
                "encrypted_data": b64.encode(self.encrypted),
                "version": self.version,
            }
            if self.previous is not None:
                before["previous_secret_stored_version"] = self.previous
            value["previous_ledger_secret"] = before
        return jcs.dumps(value)


def _octets(members: Members, name: str, size: int | None = None) -> bytes:
    what = f"{members.what}.{name}"
    data = b64.decode(members.text(name, limit=2 * MAX_SHARE), what)
    if size is not None and len(data) != size:
        raise FormatError(f"{what}: is {len(data)} bytes, must be {size}", code="bad_length")
    return data
