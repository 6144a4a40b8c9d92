"""Orders to a spawner: one that does not arrive leaves nothing behind."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kluis.errors import UnavailableError
from kluis.formats.kluis.launch import UNWITNESSED, LaunchConfiguration
from kluis.tee import image
from kluis.tee.image.build import builder
from kluis.tee.platform.launching import launch
from kluis.tee.platform.launching.orders import Orders
from kluis.tee.platform.launching.policy import LaunchPolicy
from kluis.tee.platform.root import session
from kluis.tee.platform.root.identity import Identity
from kluis.tee.platform.root.keys import CPUSVN, Secret

HERE = Path(__file__).parents[1]
MORE_THAN_ANY_DISK = 1 << 60


@pytest.fixture
def deaf() -> Iterator[Orders]:
    """Orders to a spawner that has hung up."""
    ours, spawner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lost = threading.Event()
    spawner.close()
    with ours:
        orders = Orders(ours, lost.set)
        assert lost.wait(60)
        orders._answers.get()  # of its end
        yield orders


def test_an_order_that_cannot_be_sent(deaf: Orders) -> None:
    """It is refused as any order that fails, and the next one too."""
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"^launch: the spawner got no order: Broken pipe\n"):
            deaf.send({"op": "kill", "id": "one"})


def test_reports_that_cannot_be_read_end_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may end as one is read. Without its reader the platform could start and end no enclave."""
    seen = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: seen.set())
    ours, spawner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lost = threading.Event()

    def fail(status: int, words: str) -> None:
        raise MemoryError

    with ours, spawner:
        orders = Orders(ours, lost.set)
        orders.on_end("one", fail)
        spawner.send(b'{"event": "exited", "id": "one", "status": 0, "words": ""}')
        assert lost.wait(60)
        assert orders._answers.get() == {"error": "the spawner ended"}
        assert seen.wait(60)


@pytest.mark.parametrize("scratch_bytes", [0, MORE_THAN_ANY_DISK], ids=["order", "scratch"])
def test_a_failed_launch_leaves_no_descriptor(
    deaf: Orders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch_bytes: int
) -> None:
    """The spawner gets no order, or the disk has no room for scratch: sockets and files are closed."""
    builder.build(HERE / "scratched", tmp_path / "it.kluis", tmp_path / "author.pem", debug=False)
    with (tmp_path / "it.kluis").open("rb") as file:
        read = image.read_image(file)
    manifest = msgspec.structs.replace(read.manifest, scratch_bytes=scratch_bytes)
    read = dataclasses.replace(read, manifest=manifest)
    unread: Any = None  # by what comes before the order
    root = session.Root("process", Secret(bytes(32)), unread, unread, unread, bytes(32))
    launcher = launch.Launcher(root, deaf, LaunchPolicy(), frozenset(), lockable=None)
    configuration = LaunchConfiguration(
        heap_bytes=manifest.heap_bytes,
        threads=8,
        grants=(),
        missing=(),
        counter=UNWITNESSED,
        level="process",
        platform=bytes(32),
    )
    who = Identity(
        mrenclave=bytes(32),
        mrsigner=bytes(32),
        product_id=1,
        svn=1,
        flags=0,
        cpusvn=CPUSVN,
        configuration=configuration,
    )
    monkeypatch.chdir(tmp_path)  # where scratch would be
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UnavailableError) as refused:
        launcher._start("one", read, {}, who, False, [], lambda *_: None, 0, ())

    assert refused.value.code == ("scratch_full" if scratch_bytes else "launch_failed")
    assert os.listdir("/proc/self/fd") == before
