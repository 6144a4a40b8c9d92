"""What a verifier remembers: by exact bytes, successes only, never more than it may hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.errors import AuthenticityError, UsageError
from kluis.evidence import TrustAnchors
from kluis.evidence.context import Context, Memory
from kluis.evidence.engine import Key
from kluis.formats.x509 import Scheme
from tests.evidence.forge import key


def test_memory_is_by_kind_and_bytes() -> None:
    """The same bytes of another kind are another entry."""
    memory = Memory()
    memory.put("chain", b"a", 1)
    assert memory.get("chain", b"a") == 1
    assert memory.get("chain", b"b") is None
    assert memory.get("key", b"a") is None


def test_memory_forgets_the_oldest() -> None:
    """A full memory makes room, and never grows."""
    memory = Memory(2)
    for index in range(5):
        memory.put("n", bytes([index]), index)
    assert len(memory) == 2
    assert memory.get("n", b"\2") is None
    assert memory.get("n", b"\4") == 4


def test_memory_of_long_bytes() -> None:
    """Entries are as many as there may be, and each is of bytes that are few."""
    memory = Memory()
    memory.put("chain", bytes(32 << 10), 1)
    memory.put("chain", bytes((32 << 10) + 1), 2)
    assert len(memory) == 1
    assert memory.get("chain", bytes((32 << 10) + 1)) is None


def test_a_memory_of_nothing() -> None:
    """A memory that can hold nothing is a mistake."""
    with pytest.raises(UsageError, match=r"^memory: want a capacity of at least 1, got 0$"):
        Memory(0)


def test_many_threads() -> None:
    """Threads that fill one memory at once neither fail nor outgrow it by more than themselves."""
    memory = Memory(8)

    def fill(start: int) -> None:
        for index in range(3000):
            memory.put("n", index.to_bytes(4, "big") + bytes([start]), index)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))
    assert len(memory) <= 8 + 4


@pytest.mark.parametrize("error", [KeyError, RuntimeError, StopIteration])
def test_another_thread_was_faster(error: type[Exception]) -> None:
    """An oldest entry that another thread has just forgotten, or put in, is no reason to fail."""

    class Raced(dict[tuple[str, bytes], object]):
        """Entries of which the first is gone when it is forgotten."""

        def __delitem__(self, name: tuple[str, bytes]) -> None:
            super().__delitem__(name)
            raise error(name)

    memory = Memory(1)
    memory._entries = Raced()
    memory.put("n", b"a", 1)
    memory.put("n", b"b", 2)
    assert (memory.get("n", b"a"), memory.get("n", b"b")) == (None, 2)


def test_keys_are_loaded_once() -> None:
    """The same bytes give the same key; malformed bytes are refused each time, and not cached."""
    context = Context(TrustAnchors.shipped())
    spki = key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    first = context.key(spki, Scheme.ES256, "it", code="sig")
    assert context.key(spki, Scheme.ES256, "it", code="sig") is first
    for _ in range(2):
        with pytest.raises(AuthenticityError) as caught:
            context.key(b"noise", Scheme.ES256, "it", code="sig_quote")
        assert caught.value.code == "sig_quote"
    assert len(context.memory) == 1


@pytest.mark.parametrize(
    ("said", "told"), [("", "ValueError"), ("one\ntwo", "one"), ("a" * 100, "a" * 80)], ids=len
)
def test_what_an_engine_says_of_a_key_is_told_in_one_line(said: str, told: str) -> None:
    """An engine's message about a malformed key is part of our error, on one line and cut short."""

    class Refusing:
        name = "refusing"

        def key(self, spki: bytes, scheme: Scheme) -> Key:
            raise ValueError(said)

    with pytest.raises(AuthenticityError) as caught:
        Context(TrustAnchors.shipped(), engine=Refusing()).key(b"key", Scheme.ES256, "it", code="sig")
    assert str(caught.value) == f"it: want a key for {Scheme.ES256.value}, got an unusable one: {told}"
