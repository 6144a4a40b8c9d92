"""A machine's console: what is kept of it, and which lines an error quotes."""

from __future__ import annotations

import socket

import pytest

from kluis.tee.vm.machine.console import LOG_BYTES, Console

SECONDS = 60.0


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("", ""),
        ("one line\r\n", "one line"),
        (
            "kluis: it runs\r\nkluis: TPM: is locked\r\n\r\nkluis-init: the agent ended with status 7\n",
            "kluis: TPM: is locked; kluis-init: the agent ended with status 7",
        ),
        ("Kernel panic - not syncing: no init\n---[ end ]---\n\n", "Kernel panic - not syncing: no init"),
        ("\x1b[2J\nend\u202e\n", "?[2J; end?"),
    ],
)
def test_last_words(said: str, quoted: str) -> None:
    """The reason and how the guest ended, or the panic; on one line, without control characters."""
    ours, theirs = socket.socketpair()
    console = Console(ours)
    theirs.sendall(said.encode())
    theirs.close()
    console.join(SECONDS)
    assert console.last_words() == quoted


def test_only_the_end_is_kept() -> None:
    """A guest that floods its console fills no memory of its host."""
    ours, theirs = socket.socketpair()
    console = Console(ours)
    for _ in range(20):
        theirs.sendall(b"x" * (LOG_BYTES // 8))
    theirs.sendall(b"\nend\n")
    theirs.close()
    console.join(SECONDS)
    assert len(console.text()) == LOG_BYTES
    assert console.text().endswith("\nend\n")
