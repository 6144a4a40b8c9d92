"""RSA keys for tests that need some key, not a new one: each is made once in a run, for all its processes."""

from __future__ import annotations

import atexit
import fcntl
import functools
import itertools
import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.tee import author_keys

FOLDER = "KLUIS_TESTS_KEYS"
"""The environment's name for the folder: processes of ``-n`` inherit it, before they import any conftest."""
_unused = itertools.count(100)
TURNS = 64
"""So many keys of a size are given one after the other, before the first is given again."""
_turns: defaultdict[int, itertools.count[int]] = defaultdict(itertools.count)
_generate = rsa.generate_private_key  # which tests of services replace


def folder() -> Path:
    """Where this run's keys are; the first process makes it, and removes it when it ends."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="kluis-tests-keys-")
        atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)
    return Path(os.environ[FOLDER])


@functools.cache
def rsa_key(number: int = 0, bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """The same key for the same arguments; keys of different numbers differ."""
    with (folder() / f"{bits}-{exponent}-{number}.der").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if der := file.read():
            made = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
            assert isinstance(made, rsa.RSAPrivateKey)
            return made
        key = _generate(exponent, bits)
        file.write(
            key.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return key


def next_rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key that nothing else in this process has: its number is from 100, and counts up."""
    return rsa_key(next(_unused), bits)


def key_in_turn(public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
    """A key for a service that generates one: other than the last ``TURNS`` - 1 of its size."""
    return rsa_key(1000 + next(_turns[key_size]) % TURNS, key_size, public_exponent)


def author_key(number: int) -> rsa.RSAPrivateKey:
    """An author's key, as ``author_keys.generate`` makes it; the same for the same number."""
    return rsa_key(number, author_keys.KEY_BYTES * 8, author_keys.EXPONENT)
