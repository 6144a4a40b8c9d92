"""A vault's identity and rules: made once, kept, and bounded."""

from __future__ import annotations

import threading

import pytest

from kluis.errors import InternalError, PolicyError, UnavailableError, UsageError
from kluis.services.keyvault.vault import vault
from kluis.services.keyvault.vault.vault import Rules
from tests.services.keyvault.memory import MemoryStorage


def start(storage: MemoryStorage, authorities: bytes = b"[]", issuer: bytes = b"{}") -> vault.Vault:
    """Start a vault."""
    return vault.start(storage, Rules(), authorities, issuer, 5)


def test_an_identity_is_made_once() -> None:
    """A vault that starts again is the same, and another store is another vault."""
    storage = MemoryStorage()
    first, again, other = start(storage), start(storage), start(MemoryStorage())
    assert first.identity == again.identity
    assert first.derive_key("backup") == again.derive_key("backup")
    assert first.derive_key("backup") != first.derive_key("skip tokens")
    assert first.derive_key("backup") != other.derive_key("backup")
    assert repr(first.identity) == "Identity(5)"


def test_two_that_start_at_once_are_one_vault() -> None:
    """Of two first starts one makes the identity, and the other takes it."""
    storage = MemoryStorage()
    storage.twice = True
    made: list[vault.Vault] = []
    threads = [threading.Thread(target=lambda: made.append(start(storage))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(300)
    assert len({each.identity.secret for each in made}) == 1


ONE, OTHER = b'[{"type":"pinned","url":"https://a"}]', b'[{"type":"pinned","url":"https://b"}]'
ISSUER = b'{"url":"https://i"}'


def test_what_is_fixed() -> None:
    """Authorities and issuer are those of the first key; the refusal names what differs, and the way out."""
    storage = MemoryStorage()
    first = start(storage, ONE, ISSUER)
    first.storage.update(lambda writing: writing.put("keys", "k", b""))
    with pytest.raises(PolicyError) as refused:
        start(storage, OTHER, ISSUER)
    assert refused.value.message == 'authorities: want 0.url "https://a", got "https://b"'
    with pytest.raises(PolicyError) as refused:
        start(storage, ONE, b'"insecure_changing_issuer"')
    assert refused.value.message == (
        'issuer: want url "https://i", got none and it none, got "insecure_changing_issuer"'
    )
    assert start(storage, ONE, ISSUER).identity == first.identity


def test_a_vault_without_keys_is_made_anew() -> None:
    """Until it guards something a vault is started as one likes; one from before keeps nothing more."""
    storage = MemoryStorage()
    first, second = start(storage, ONE, ISSUER), start(storage, OTHER, ISSUER)
    assert first.derive_key("backup") != second.derive_key("backup")
    second.storage.update(lambda writing: writing.put("keys", "k", b""))
    with pytest.raises(UnavailableError) as refused:
        first.storage.update(lambda writing: writing.put("keys", "other", b""))
    assert refused.value.message == "vault: was started with other authorities or another issuer since"


@pytest.mark.parametrize("days", [6, 91, 0, -1])
def test_days(days: int) -> None:
    """Deleted keys can be recovered for 7 to 90 days."""
    with pytest.raises(UsageError) as refused:
        Rules(recoverable_days=days)
    assert refused.value.message == f"recoverable_days: want 7 to 90, got {days}"


def test_a_record_of_another_format() -> None:
    """Sealed data was written by us: another format is our bug, and discloses nothing to callers."""
    storage = MemoryStorage()
    start(storage)
    (place,) = storage.rows
    storage.rows[place] = (b"\xc0", "")
    with pytest.raises(InternalError) as refused:
        start(storage)
    assert refused.value.message == "stored vault identity: want a record of format 1, got another"
