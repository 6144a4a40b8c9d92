"""The keys that tests share."""

from __future__ import annotations

import subprocess
import sys

from tests.keys import TURNS, author_key, key_in_turn, next_rsa_key, rsa_key
from tests.meta.tree import ROOT

PRINT = "from tests.keys import rsa_key; print(rsa_key(3, 1024).public_key().public_numbers().n)"


def test_one_key_for_all_processes() -> None:
    """A process that this one starts has the same key of a number and a size."""
    line = [sys.executable, "-c", PRINT]
    said = subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert int(said) == rsa_key(3, 1024).public_key().public_numbers().n


def test_keys_differ() -> None:
    """Another number, another size or another turn is another key."""
    made = [rsa_key(), rsa_key(1), rsa_key(bits=1024), author_key(0), next_rsa_key(), next_rsa_key()]
    assert len({key.public_key().public_numbers().n for key in made}) == len(made)
    assert [key.key_size for key in made] == [2048, 2048, 1024, 3072, 2048, 2048]


def test_keys_in_turn() -> None:
    """A service is given as many different keys as no test's service generates, and then the first again."""
    given = [key_in_turn(65537, 1024) for _ in range(TURNS + 1)]
    assert given[-1] is given[0]
    assert len({key.public_key().public_numbers().n for key in given}) == TURNS
