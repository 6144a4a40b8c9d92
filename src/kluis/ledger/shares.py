"""Recovery shares: a key that wraps the ledger secret, split among members.

The key's ten numbers are the constants of ten polynomials over 2^31-1, each of a degree one below the
threshold; a share is a point on each. The owner of the share at x = 0 has the key without others.

Spec: CCF, ``src/crypto/sharing.cpp``, ``src/node/share_manager.h``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis.errors import AuthenticityError, UsageError
from kluis.formats.ccf.shares import LIMBS, PRIME, RecoveryShares, Share
from kluis.ledger.secrets import LedgerSecret

_NO_IV: Final = bytes(12)  # each wrapping key wraps one secret, once
_OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_ATTEMPTS: Final = 1000


def split(threshold: int, count: int, random: Callable[[int], bytes]) -> tuple[Share, tuple[Share, ...]]:
    """Make a wrapping key, and shares of it.

    Args:
        threshold: how many shares give the key, 1..count.
        count: how many are made.
        random: gives so many unpredictable bytes.

    Returns:
        The full share, and the others, x = 1 and on.

    Raises:
        UsageError: such numbers cannot be.
    """
    if not 1 <= threshold <= count < PRIME:
        raise UsageError(f"shares: want a threshold from 1 to {count}, got {threshold}")
    polynomials = [[_number(random) for _ in range(threshold)] for _ in range(LIMBS)]

    def share(x: int) -> Share:
        return Share(x, tuple([_value(polynomial, x) for polynomial in polynomials]))

    return share(0), tuple([share(x) for x in range(1, count + 1)])


def combine(shares: Sequence[Share]) -> Share:
    """The full share that others give, once there are as many as the threshold; with fewer, another one.

    Raises:
        UsageError: none, or two with the same x.
    """
    points = {share.x: share for share in shares}
    if not shares or len(points) != len(shares):
        raise UsageError("shares: want at least one, and no two with the same x")
    if 0 in points:
        return points[0]
    y = [0] * LIMBS
    for x, share in points.items():
        factor = 1
        for other in points:
            if other != x:
                factor = factor * other * pow(other - x, -1, PRIME) % PRIME
        y = [(total + factor * value) % PRIME for total, value in zip(y, share.y, strict=True)]
    return Share(0, tuple(y))


def wrapping_key(full: Share) -> bytes:
    """The AES-256 key of a full share, 32 bytes."""
    material = full.encode()[4:]
    # CCF means a label here, and passes the key material itself: so does every ledger that it wrote.
    return HKDF(hashes.SHA256(), 32, salt=None, info=material).derive(material)


def wrap(secret: LedgerSecret, full: Share) -> bytes:
    """Encrypt a ledger secret for recovery: tag, IV of zeros, ciphertext; 60 bytes."""
    sealed = AESGCM(wrapping_key(full)).encrypt(_NO_IV, secret.reveal(), None)
    return sealed[-16:] + _NO_IV + sealed[:-16]


def unwrap(shares: RecoveryShares, full: Share, version: int, what: str) -> LedgerSecret:
    """Open the ledger secret that recovery shares wrap.

    Args:
        shares: of the ledger.
        full: from :func:`combine`.
        version: from which seqno the secret is valid.
        what: for messages.

    Raises:
        AuthenticityError: these shares do not open it.
    """
    wrapped = shares.wrapped
    try:
        key = AESGCM(wrapping_key(full)).decrypt(wrapped[16:28], wrapped[28:] + wrapped[:16], None)
    except InvalidTag:
        raise AuthenticityError(f"{what}: cannot be opened with these shares", code="ledger_tag") from None
    return LedgerSecret(key, version)


def encrypt_share(share: Share, key: rsa.RSAPublicKey) -> bytes:
    """Encrypt a share for a member."""
    return key.encrypt(share.encode(), _OAEP)


def decrypt_share(data: bytes, key: rsa.RSAPrivateKey, what: str) -> Share:
    """Open a member's share with the member's key.

    Raises:
        AuthenticityError: it was not encrypted with this key.
    """
    try:
        raw = key.decrypt(data, _OAEP)
    except ValueError:
        raise AuthenticityError(f"{what}: cannot be opened with this key", code="ledger_tag") from None
    return Share.parse(raw, what)


def share_secret(
    secret: LedgerSecret,
    participants: Mapping[str, rsa.RSAPublicKey],
    threshold: int,
    random: Callable[[int], bytes],
    *,
    owners: Mapping[str, rsa.RSAPublicKey] | None = None,
    previous: int | None = None,
) -> RecoveryShares:
    """Make the recovery shares of a ledger secret.

    Args:
        secret: the latest.
        participants: members of whom ``threshold`` together open it.
        threshold: 1..their number.
        random: gives so many unpredictable bytes.
        owners: members of whom each opens it without others.
        previous: seqno of the entry that holds the secret before; None if there is none.

    Raises:
        UsageError: such numbers cannot be.
    """
    full, shares = split(threshold, len(participants), random)
    sealed = {name: encrypt_share(full, key) for name, key in (owners or {}).items()}
    for share, (name, key) in zip(shares, sorted(participants.items()), strict=True):
        sealed[name] = encrypt_share(share, key)
    return RecoveryShares(wrapped=wrap(secret, full), shares=sealed, previous=previous)


def _number(random: Callable[[int], bytes]) -> int:
    for _ in range(_ATTEMPTS):
        number = int.from_bytes(random(4), "little") & PRIME
        if number != PRIME:
            return number
    raise UsageError("shares: the source of random bytes gives the same ones again and again")


def _value(polynomial: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value
