"""The least that a commit of a ledger can take in Python: three plain processes do its work.

One process makes the batch: it encrypts the entry, extends the tree, and signs twice. Then it sends to two
others in turn, over a socket each: one appends the batch to a log, the other advances a counter. Both flush
to the disk before they answer. These are the functions of a ledger, its boundaries, its order and its
durability, without enclaves, an event loop and requests.

    python -m bench.floor FD log|counter PATH    one of the two others
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from kluis.formats.kluis.channel import Channel, Count, Counter
from kluis.ledger import certificates
from kluis.ledger.log_head import EMPTY, head_of
from kluis.ledger.merkle import Tree
from kluis.ledger.secrets import LedgerSecret, Secrets
from kluis.ledger.sequencer import Sequencer
from kluis.ledger.signer import Signer
from kluis.serve.ledger.log import LedgerLog
from kluis.tee.platform.root.counters import Counters

MOST: Final = 1 << 20
HEAD: Final = len(EMPTY)
ID: Final = bytes(32)


def commits(folder: Path, size: int, count: int) -> list[float]:
    """What each commit takes, seconds.

    Args:
        folder: of the log and the counter, which are removed at the end.
        size: of an entry's value, bytes.
        count: how many commits.
    """
    sequencer, value, seconds = _sequencer(), os.urandom(size), []
    with _other("log", folder / "floor-log") as log, _other("counter", folder / "floor-counter") as counter:
        keys = os.urandom(32), os.urandom(32)
        counter.send(b"".join(keys))
        channel, head = Channel(*keys), EMPTY
        for number in range(1, count + 1):
            begun = time.perf_counter()
            sequencer.add({"entries": {b"subledger:0": value}}, os.urandom(32))
            batch = sequencer.seal()
            log.send(head + batch.entries)
            _expect(log.recv(8), b"ok")
            head = head_of(batch.signature.seqno, batch.entries[-batch.sizes[-1] :])
            counter.send(channel.seal_request(Counter(ID, "advance", number, batch.root, "signer")))
            reply = channel.open_reply(counter.recv(MOST))
            _expect(reply.value if isinstance(reply, Count) else None, number)
            seconds.append(time.perf_counter() - begun)
    return seconds


def _sequencer() -> Sequencer:
    service, node, now = (
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP384R1()),
        datetime.now(UTC),
    )
    shown = certificates.service_certificate(service, now)
    return Sequencer(
        view=2,
        tree=Tree(),
        secrets=Secrets([LedgerSecret(os.urandom(32), 1)]),
        signer=Signer(node, certificates.node_certificate(node.public_key(), service, shown, now), service),
        clock=lambda: int(time.time()),
    )


def _expect(got: object, want: object) -> None:
    if got != want:
        raise RuntimeError(f"floor: want {want!r}, got {got!r}")


@contextlib.contextmanager
def _other(kind: str, path: Path) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        argv = [sys.executable, "-m", "bench.floor", str(theirs.fileno()), kind, str(path)]
        root = Path(__file__).resolve().parents[1]
        with subprocess.Popen(argv, pass_fds=[theirs.fileno()], cwd=root) as child:
            theirs.close()
            try:
                yield ours
            finally:
                ours.close()
                child.wait(60)
                for left in path.parent.glob(f"{path.name}*"):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def serve_log(end: socket.socket, path: Path) -> None:
    """Append what comes, until the other end closes."""
    with LedgerLog(path) as log:
        while data := end.recv(MOST):
            answer, then = log.append_first(data[:HEAD], data[HEAD:])
            end.send(answer.encode())
            then()


def serve_counter(end: socket.socket, path: Path) -> None:
    """Advance a counter by sealed requests, until the other end closes."""
    keys = end.recv(64)
    channel, counters = Channel(keys[32:], keys[:32]), Counters(path)
    while frame := end.recv(MOST):
        request = channel.open_request(frame)
        _expect(type(request), Counter)
        if isinstance(request, Counter):
            reply = Count(*counters.advance("floor", request.id, request.to, request.mark[:32]))
            end.send(channel.seal_reply(reply))


SERVE: Final[dict[str, Callable[[socket.socket, Path], None]]] = {"log": serve_log, "counter": serve_counter}

if __name__ == "__main__":
    descriptor, kind, name = sys.argv[1:]
    SERVE[kind](socket.socket(fileno=int(descriptor)), Path(name))
