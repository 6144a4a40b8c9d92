"""Code inside tries to get out: sockets, processes, files, devices, calls that are not on the list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import EnclaveDied, RemoteError
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from tests.adversary.victim.app import ESCAPES


@pytest.fixture(scope="module")
def prisoner(victim_image: Path, allowed: frozenset[str]) -> Iterator[EnclaveProxy]:
    """One enclave, which tries every way out, one after the other."""
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        yield enclave


@pytest.mark.parametrize("how", sorted(ESCAPES))
def test_escape(prisoner: EnclaveProxy, how: str) -> None:
    """Every way out is closed, and the enclave lives on."""
    outcome = prisoner.escape(how)

    assert not outcome.startswith("got out"), outcome
    assert prisoner.alive() == "alive"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to look at an enclave's descriptors")
def test_what_is_printed_goes_nowhere(victim: EnclaveProxy) -> None:
    """The standard streams are /dev/null: no socket takes their numbers, and is sent what is printed."""
    assert [os.readlink(f"/proc/{victim.pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3


def test_exhausting_the_heap(victim: EnclaveProxy) -> None:
    """No memory left is a MemoryError: an error outside, no hang, and the enclave lives on."""
    with pytest.raises(RemoteError, match="MemoryError"):
        victim.exhaust()

    assert victim.alive() == "alive"


def test_exhausting_the_heap_to_the_last_small_block(victim: EnclaveProxy) -> None:
    """Where even the interpreter's own small blocks are gone, the error still comes out, and no hang."""
    with pytest.raises(RemoteError, match="MemoryError"):
        victim.exhaust_small()

    assert victim.alive() == "alive"


def test_a_crash_inside_is_an_error_outside(victim: EnclaveProxy) -> None:
    """A bad pointer inside ends the enclave, and the call reports it."""
    with pytest.raises(EnclaveDied):
        victim.crash()


def test_environment(victim: EnclaveProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the host's environment comes in."""
    inside = victim.environment()

    assert not {"PATH", "PYTHONPATH", "LD_PRELOAD", "KLUIS_HOME", "USER", "HOSTNAME"} & set(inside)
    assert inside["HOME"] == "/"
