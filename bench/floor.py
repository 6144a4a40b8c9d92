"""The least that a commit of a ledger can take in Python: three plain processes share its work.

One process signs twice. Then it sends to two others in turn, over a socket each: one writes the entries, the
other writes a counter. Both flush to the disk before they answer. These are the boundaries, the order and
the durability of a ledger in an enclave, without its entries, its tree, its checks and its encryption.

    python -m bench.floor FD FILE SIZE SLOTS    one of the two others
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from kluis.ledger.signer import signature_function

OF_DIGEST: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
COUNTER_BYTES: Final = 512
GROWN_BYTES: Final = 64 << 10
MOST: Final = 1 << 20


def commits(folder: Path, size: int, count: int) -> list[float]:
    """What each commit takes, seconds.

    Args:
        folder: of the two files.
        size: bytes that a commit appends.
        count: how many commits.
    """
    signing = [signature_function(ec.generate_private_key(ec.SECP384R1())) for _ in range(2)]
    data, seconds = os.urandom(size), []
    with (
        _other(folder / "floor-entries", size, 0) as append,
        _other(folder / "floor-counter", COUNTER_BYTES, 2) as advance,
    ):
        for _ in range(count):
            begun = time.perf_counter()
            for sign in signing:
                sign(data[:32], OF_DIGEST)
            append(data)
            advance(data[:COUNTER_BYTES])
            seconds.append(time.perf_counter() - begun)
    return seconds


@contextlib.contextmanager
def _other(file: Path, size: int, slots: int) -> Iterator[Callable[[bytes], None]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        argv = [sys.executable, "-m", "bench.floor", str(theirs.fileno()), str(file), str(size), str(slots)]
        root = Path(__file__).resolve().parents[1]
        with subprocess.Popen(argv, pass_fds=[theirs.fileno()], cwd=root) as child:
            theirs.close()

            def ask(data: bytes) -> None:
                ours.send(data)
                if ours.recv(1) != b"k":
                    raise RuntimeError(f"floor: {file.name}: its process has ended")

            try:
                yield ask
            finally:
                ours.close()
                child.wait(60)
                file.unlink(missing_ok=True)


def serve(end: socket.socket, path: Path, size: int, slots: int) -> None:
    """Write what comes, flushed before each answer, until the other end closes.

    Args:
        end: of the socket.
        path: of the file.
        size: bytes of each write.
        slots: how many places are written in turn; 0: each write is appended.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    if slots:  # as the platform's counters: an overwritten block needs no journal
        os.pwrite(file, bytes(GROWN_BYTES), 0)
        os.fsync(file)
    number = 0
    while data := end.recv(MOST):
        os.pwrite(file, data, (number % slots if slots else number) * size)
        os.fdatasync(file)
        end.send(b"k")
        number += 1


if __name__ == "__main__":
    descriptor, name, each, places = sys.argv[1:]
    serve(socket.socket(fileno=int(descriptor)), Path(name), int(each), int(places))
