"""Digests with their algorithm, so that none is passed as a hex string."""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, Self

Algorithm = Literal["sha256", "sha384", "sha512"]
SIZES: dict[str, int] = {"sha256": 32, "sha384": 48, "sha512": 64}


class Digest:
    """A digest: its algorithm and its bytes, compared in constant time.

    Args:
        algorithm: ``sha256``, ``sha384`` or ``sha512``.
        value: 32, 48 or 64 bytes.

    Raises:
        ValueError: the length does not match the algorithm.
    """

    __slots__ = ("algorithm", "value")

    def __init__(self, algorithm: Algorithm, value: bytes) -> None:
        if len(value) != SIZES[algorithm]:
            raise ValueError(f"{algorithm} digest: want {SIZES[algorithm]} bytes, got {len(value)}")
        self.algorithm: Algorithm = algorithm
        self.value = bytes(value)

    @classmethod
    def of(cls, algorithm: Algorithm, data: bytes | memoryview) -> Self:
        """Hash ``data``, of any length."""
        return cls(algorithm, hashlib.new(algorithm, data).digest())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Digest):
            return NotImplemented
        return self.algorithm == other.algorithm and hmac.compare_digest(self.value, other.value)

    def __hash__(self) -> int:
        return hash((self.algorithm, self.value))

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value.hex()}"

    def __repr__(self) -> str:
        return f"Digest({self})"


def sha256(data: bytes | memoryview) -> bytes:
    """Hash ``data`` to 32 bytes."""
    return hashlib.sha256(data).digest()


def sha512(data: bytes | memoryview) -> bytes:
    """Hash ``data`` to 64 bytes."""
    return hashlib.sha512(data).digest()
