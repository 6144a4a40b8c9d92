"""A service's parts over a store in memory, under the roots of forgers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from kluis.enclave.store.model import Writing
from kluis.evidence import ProtectionLevel
from kluis.services.attestation.settings import AttestationSettings, Root
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.forge import Forge

T = TypeVar("T")
URL = "https://localhost:8443"


class MemoryStorage:
    """Tables in memory: changes are kept whole, or not at all."""

    rollback = "undetected"

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], tuple[bytes, str]] = {}

    def get(self, table: str, key: str) -> bytes | None:
        """One value."""
        found = self.tables.get((table, key))
        return None if found is None else found[0]

    def scan(self, table: str, index: str = "") -> Iterator[tuple[str, bytes]]:
        """Values in order of key."""
        for (held, key), (value, named) in sorted(self.tables.items()):
            if held == table and (not index or named == index):
                yield key, value

    def put(self, table: str, key: str, value: bytes, *, index: str = "") -> None:
        """Keep a value."""
        assert 1 <= len(table) <= 64
        assert 1 <= len(key) <= 512
        self.tables[table, key] = (value, index)

    def delete(self, table: str, key: str) -> None:
        """Forget one."""
        self.tables.pop((table, key), None)

    def update(self, work: Callable[[Writing], T]) -> T:
        """Run ``work``; twice, as it may be."""
        before = dict(self.tables)
        try:
            work(self)
            self.tables = dict(before)
            return work(self)
        except BaseException:
            self.tables = before
            raise


@pytest.fixture
def storage() -> MemoryStorage:
    """A store that holds nothing."""
    return MemoryStorage()


@pytest.fixture(scope="session")
def amd() -> AmdForge:
    """A chip of AMD's, forged under an emulated root."""
    return AmdForge(emulated=True)


@pytest.fixture(scope="session")
def intel() -> Forge:
    """A platform of Intel's kind, at level ``process``."""
    return Forge()


def settings_of(intel: Forge, amd: AmdForge, **changes: Any) -> AttestationSettings:
    """Settings that trust both forgers."""
    from cryptography.hazmat.primitives.serialization import Encoding

    given: dict[str, Any] = {
        "url": URL,
        "roots": (
            Root(intel.authority.root_pem()),
            Root(amd.ark.public_bytes(Encoding.PEM)),
        ),
        "collateral": (intel.collateral().to_json(),),
        **changes,
    }
    return AttestationSettings(**given)


@pytest.fixture
def settings(intel: Forge, amd: AmdForge) -> AttestationSettings:
    """Settings that trust both forgers."""
    return settings_of(intel, amd)


LEVELS = ProtectionLevel
