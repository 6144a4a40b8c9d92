"""CCF's own reader finds in our public domains what was written."""

from __future__ import annotations

import random

import pytest

from kluis.formats.ccf.domain import PublicDomain
from tests.clients.ccf import environments
from tests.clients.ccf.environments import VERSIONS

MANY = 300


def writes(rng: random.Random) -> dict[str, dict[bytes, bytes | None]]:
    """Random tables: none or several, empty keys and values, removals, bytes that are no text."""
    found: dict[str, dict[bytes, bytes | None]] = {}
    for _ in range(rng.randrange(4)):
        table = found.setdefault(f"public:{rng.choice(['a', 'é', 'x' * 300])}{rng.randrange(3)}", {})
        for _ in range(rng.randrange(5)):
            key = rng.randbytes(rng.choice((0, 1, 8, 200)))
            table[key] = None if rng.random() < 0.3 else rng.randbytes(rng.choice((0, 1, 100, 5000)))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_read_as_written(version: str) -> None:
    """Tables, keys, values and removals are the same; a removal is no value there, too."""
    rng = random.Random(1)
    given = [writes(rng) for _ in range(MANY)]
    raw = [
        PublicDomain(seqno=number, evidence_digest=bytes(32), writes=each).encode().hex()
        for number, each in enumerate(given, 1)
    ]
    assert environments.check(version, "domains", raw) == [
        {
            name: {key.hex(): None if value is None else value.hex() for key, value in table.items()}
            for name, table in each.items()
        }
        for each in given
    ]
