"""Counters go up, and say that nobody witnesses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.enclave import Counter
from kluis.errors import RemoteError, UsageError
from kluis.host.proxy import EnclaveProxy


def test_goes_up_and_stays(enclave: Callable[..., EnclaveProxy], subject: Path) -> None:
    """A counter outlives the run that raised it; another name, and another signer's, are others."""
    first = enclave(subject)
    assert first.count("visits", False) == (0, "unwitnessed")
    assert first.count("visits", True) == (1, "unwitnessed")
    again = enclave(subject)
    assert again.count("visits", True) == (2, "unwitnessed")
    assert again.count("others", False) == (0, "unwitnessed")
    assert enclave(subject, signer=b"\2" * 32).count("visits", False) == (0, "unwitnessed")


def test_an_images_own_counter_is_no_signers(enclave: Callable[..., EnclaveProxy], subject: Path) -> None:
    """A counter of the measurement is the same for every signer, and is not the signer's."""
    assert enclave(subject).count_here("visits", True) == (1, "unwitnessed")
    again = enclave(subject, signer=b"\2" * 32)
    assert again.count_here("visits", True) == (2, "unwitnessed")
    assert again.count("visits", False) == (0, "unwitnessed")


def test_policy() -> None:
    """A counter is somebody's."""
    with pytest.raises(UsageError) as refused:
        Counter("n", policy="anyone")  # type: ignore[arg-type]
    assert refused.value.message == "counter policy: want measurement or signer, got anyone"


def test_advances(enclave: Callable[..., EnclaveProxy], subject: Path) -> None:
    """A counter jumps forward and keeps the first mark that it reached a value with."""
    inside = enclave(subject)
    assert inside.advance("epochs", 5, b"one") == ((5, "unwitnessed", b"one"),) * 2
    assert inside.advance("epochs", 5, b"other") == ((5, "unwitnessed", b"one"),) * 2
    assert inside.advance("epochs", 4, b"back") == ((5, "unwitnessed", b"one"),) * 2
    assert inside.count("epochs", False) == (5, "unwitnessed")
    with pytest.raises(RemoteError) as refused:
        inside.advance("epochs", 0, b"")
    assert refused.value.message == "UsageError: counter.to: want 1..9007199254740991, got 0"


@pytest.mark.parametrize("size", [0, 257])
def test_name(size: int) -> None:
    """A name has 1 to 256 characters."""
    with pytest.raises(UsageError) as refused:
        Counter("n" * size, policy="signer")
    assert refused.value.message == f"counter name: want 1 to 256 characters, got {size}"
