"""Recovery shares: any threshold of them gives the secret, fewer give another; known answers."""

from __future__ import annotations

import base64
import itertools
import json
import os
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import PublicDomain
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.shares import PRIME, RecoveryShares, Share
from kluis.ledger import shares
from kluis.ledger.secrets import LedgerSecret
from tests.formats.ccf import real
from tests.keys import rsa_key
from tests.strategies import PROPERTY


@real.needed
def test_known_answers() -> None:
    """A member of a real ledger opens its share, the wrapping key and the ledger secret."""
    known = real.answers()
    raw = list(real.entries("flipflop"))[12]
    writes = PublicDomain.parse(Entry.parse(raw, "entry").public, "entry").writes
    value = writes[tables.RECOVERY_SHARES][tables.ONLY]
    read = RecoveryShares.parse(value or b"", "shares")
    assert read.wrapped.hex() == known["wrapped_latest_ledger_secret_hex"]
    published = json.loads(
        (real.FOLDERS["flipflop"].parent / "common" / "published_test_keys.json").read_text()
    )
    keys = [base64.b64decode(each) for each in _texts(published)]
    opened = set()
    for der in keys:
        try:
            key = load_der_private_key(der, None)
        except (ValueError, TypeError):
            continue
        if isinstance(key, rsa.RSAPrivateKey):
            for share in read.shares.values():
                full = shares.decrypt_share(share, key, "share")
                opened.add(full.encode().hex())
                assert full.x == known["share_x"]
                whole = shares.combine([full])  # a threshold of one: the share is the secret
                assert shares.wrapping_key(whole).hex() == known["wrapping_key_hex"]
                secret = shares.unwrap(read, whole, 1, "secret")
                assert secret.reveal().hex() == known["ledger_secret_hex"]
    assert opened == {known["decrypted_share_hex"]}


def _texts(value: object) -> list[str]:
    match value:
        case str() if len(value) > 100:
            return [value]
        case dict():
            return [text for each in value.values() for text in _texts(each)]
        case list():
            return [text for each in value for text in _texts(each)]
    return []


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 1 << 32))
@PROPERTY
def test_any_threshold_of_them(threshold: int, more: int, seed: int) -> None:
    """Each choice of so many shares gives the full one; one fewer gives another."""
    full, parts = shares.split(threshold, threshold + more, random.Random(seed).randbytes)
    assert full.x == 0
    assert [part.x for part in parts] == list(range(1, threshold + more + 1))
    for chosen in itertools.islice(itertools.combinations(parts, threshold), 6):
        assert shares.combine(chosen) == full
    if threshold > 1:
        assert shares.combine(parts[: threshold - 1]) != full
    assert shares.combine([full, *parts]) == full


def test_shared_among_members() -> None:
    """Members together, or a single owner, open the secret; others do not."""
    keys = {name: rsa_key(number) for number, name in enumerate(("a", "b", "c"))}
    owner, secret = rsa_key(3), LedgerSecret(os.urandom(32), 7)
    made = shares.share_secret(
        secret,
        {name: key.public_key() for name, key in keys.items()},
        2,
        os.urandom,
        owners={"o": owner.public_key()},
        previous=5,
    )
    assert (set(made.shares), made.previous) == ({"a", "b", "c", "o"}, 5)
    opened = {name: shares.decrypt_share(made.shares[name], key, name) for name, key in keys.items()}
    for pair in itertools.combinations(opened.values(), 2):
        again = shares.unwrap(made, shares.combine(pair), 7, "secret")
        assert (again.reveal(), again.version) == (secret.reveal(), 7)
    with pytest.raises(AuthenticityError):
        shares.unwrap(made, shares.combine([opened["a"]]), 7, "secret")
    whole = shares.decrypt_share(made.shares["o"], owner, "o")
    assert (whole.x, shares.unwrap(made, whole, 7, "secret").reveal()) == (0, secret.reveal())
    with pytest.raises((AuthenticityError, FormatError)):
        shares.decrypt_share(made.shares["a"], owner, "a")


def test_refused() -> None:
    """Numbers that cannot be, and a source that is not random, are refused."""
    for work in (
        lambda: shares.split(0, 3, os.urandom),
        lambda: shares.split(4, 3, os.urandom),
        lambda: shares.combine([]),
        lambda: shares.combine([Share(1, (0,) * 10)] * 2),
        lambda: shares.split(1, 1, lambda size: (PRIME).to_bytes(size, "little")),
    ):
        with pytest.raises(UsageError):
            work()
