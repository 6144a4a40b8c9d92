"""Records over a byte stream: whole, in order, bounded; anything else ends the stream."""

from __future__ import annotations

import os
import pty
import socket
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.enclave.boundary import frames, memfile
from kluis.parcels import Place, Received, RefusedParcel
from kluis.streams import HEAD_BYTES, INLINE, BrokenStream, Stream

Pair = tuple[Stream, Stream]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a stream."""
    yield from _pair()


def _pair(patience: float = 60.0) -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one, other = Stream(ours, patience), Stream(theirs, patience)
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def raw() -> Iterator[tuple[Stream, socket.socket]]:
    """One end, and a socket that writes anything."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one = Stream(ours, 0.2)
    with theirs:
        yield one, theirs
    one.close()


def record(number: int, kind: int, body: bytes) -> bytes:
    return (number << 32 | kind << 24 | len(body)).to_bytes(8, "little") + body


def drain(one: Stream) -> None:
    while one.receive() is not None:
        pass


def content(received: Received | None) -> list[bytes]:
    assert received is not None
    found = [bytes(memfile.map_bytes(each, 1 << 30, "file")) for each in received.files]
    for descriptor in received.files:
        os.close(descriptor)
    return found


def test_frames(pair: Pair) -> None:
    """Frames arrive one by one, whatever reads they take."""
    one, other = pair
    for frame in (b"a", b"b" * INLINE, bytearray(b"c")):
        one.send(frame)
        assert other.recv(INLINE) == frame
    for size in range(1, 200):
        one.send(bytes([size]) * size)
    buffer = bytearray(INLINE)
    for size in range(1, 200):
        assert other.recv_into(buffer) == size
        assert buffer[:size] == bytes([size]) * size
    one.close()
    assert other.recv(INLINE) == b""
    assert other.receive() is None


def test_parcels(pair: Pair) -> None:
    """A parcel of 16 MiB and small files arrives as sealed memory files, and a frame after it."""
    one, other = pair
    other.most_bytes = 1 << 25
    bodies = [os.urandom(1 << 20) * 16, b"x", b"y" * INLINE]
    sender = threading.Thread(target=lambda: (one.send_parcel(7, bodies), one.send(b"after")))
    sender.start()
    received = other.receive()
    assert received is not None
    assert (received.frame, received.call) == (b"", 7)
    assert content(received) == bodies  # which also checks the seals
    sender.join(60)
    assert other.receive() == Received(b"after")


def test_a_place_for_the_last_file(pair: Pair) -> None:
    """It is written there, and to nowhere else; the files before it become memory files."""
    one, other = pair
    file = os.memfd_create("place")
    os.write(file, b"-" * 300_000)
    data = os.urandom(200_000)
    sender = threading.Thread(target=one.send_parcel, args=(1, [b"x", b"y", data]))
    sender.start()
    assert content(other.receive(place=Place(file, 50_000, len(data)))) == [b"x", b"y"]
    sender.join(60)
    assert os.pread(file, 300_001, 0) == b"-" * 50_000 + data + b"-" * 50_000
    before = len(os.listdir("/proc/self/fd"))
    one.send_parcel(2, [b"z"])
    assert content(other.receive(place=Place(file, 0, 1))) == []
    assert os.pread(file, 1, 0) == b"z"
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(file)


@pytest.mark.parametrize("size", [9, 11])
def test_a_file_that_does_not_fit_its_place(pair: Pair, size: int) -> None:
    """A file of another size is discarded, and the stream goes on."""
    one, other = pair
    file = os.memfd_create("place")
    one.send_parcel(3, [b"x", bytes(size)])
    one.send(b"after")
    with pytest.raises(RefusedParcel, match=rf"^want 10 bytes, got {size}$"):
        other.receive(place=Place(file, 0, 10))
    assert other.receive() == Received(b"after")
    assert os.fstat(file).st_size == 0
    os.close(file)


def test_a_place_that_is_closed_meanwhile(tmp_path: Path) -> None:
    """What comes late is not written to the file that now has its descriptor."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    other = Stream(theirs, 0.2)
    file = os.memfd_create("place")
    ours.sendall(record(0, 1, b"".join(n.to_bytes(8, "little") for n in (1, 8))) + record(1, 2, b"abcd"))
    with pytest.raises(BrokenStream):
        other.receive(place=Place(file, 0, 8))
    os.close(file)
    (tmp_path / "victim").write_bytes(b"")
    victim = os.open(tmp_path / "victim", os.O_RDWR)
    assert victim == file
    other.problem = ""  # as if memory had been missing, after which it can be repeated
    ours.sendall(record(2, 2, b"efgh"))
    assert other.receive() == Received(b"", 1)
    assert (tmp_path / "victim").read_bytes() == b""
    for each in (other, ours):
        each.close()
    os.close(victim)


def test_announced(pair: Pair) -> None:
    """What announces a parcel is sent before it."""
    one, other = pair
    order: list[str] = []
    one.send_parcel(1, [b"x"], lambda: order.append("announced"))
    assert content(other.receive(announced=True)) == [b"x"]
    assert order == ["announced"]


def test_too_large(pair: Pair) -> None:
    """A parcel above the limit is discarded, and the stream goes on."""
    one, other = pair
    other.most_bytes = 100_000
    sender = threading.Thread(target=lambda: (one.send_parcel(5, [b"x", bytes(200_000)]), one.send(b"after")))
    sender.start()
    with pytest.raises(RefusedParcel, match=r"^want at most 100000 bytes, got 200000$") as refused:
        other.receive()
    assert refused.value.call == 5
    assert other.receive() == Received(b"after")
    sender.join(60)


def test_a_parcel_of_frames(pair: Pair) -> None:
    """Over frames, a parcel's frame is mapped from its memory file, with the call's id if it is refused."""
    one, other = pair
    table = memfile.of_bytes(b"table")
    frames.send_parcel(one, 3, b"frame", (table,))
    os.close(table)
    parcel = frames.receive_parcel(other, 100)
    assert parcel is not None
    assert (bytes(parcel.frame), len(parcel.files)) == (b"frame", 1)
    parcel.close()
    other.most_bytes = 4
    frames.send_parcel(one, 9, bytes(INLINE + 1))
    with pytest.raises(frames.LostFrame, match="want at most 4 bytes") as lost:
        frames.receive_parcel(other, 100)
    assert lost.value.call == 9


BAD = {
    "replayed": (record(0, 0, b"a") * 2, "want record 1, got 0: one is missing, repeated or out of order"),
    "missing": (record(1, 0, b"a"), "want record 0, got 1: one is missing, repeated or out of order"),
    "swapped": (
        record(0, 0, b"a") + record(2, 0, b"c") + record(1, 0, b"b"),
        "want record 1, got 2: one is missing, repeated or out of order",
    ),
    "long": (record(0, 0, bytes(INLINE + 1)), "a record of 65537 bytes, want at most 65536"),
    "kind": (record(0, 9, b"a"), "want a frame or a parcel, got kind 9"),
    "chunk of nothing": (record(0, 2, b"a"), "want a frame or a parcel, got kind 2"),
    "empty frame": (record(0, 0, b""), "a frame of no bytes"),
    "no sizes": (record(0, 1, bytes(8)), "a parcel with a head of 8 bytes: want 1 to 17 sizes above 0"),
    "empty file": (record(0, 1, bytes(16)), "a parcel with a head of 16 bytes: want 1 to 17 sizes above 0"),
    "odd sizes": (record(0, 1, b"\1" * 20), "a parcel with a head of 20 bytes: want 1 to 17 sizes above 0"),
    "18 files": (record(0, 1, b"\1" * 152), "a parcel with a head of 152 bytes: want 1 to 17 sizes above 0"),
    "too much": (
        record(0, 1, bytes(8) + (3).to_bytes(8, "little")) + record(1, 2, b"four"),
        "a chunk of 4 bytes, which its file has no room for",
    ),
    "empty chunk": (
        record(0, 1, bytes(8) + (3).to_bytes(8, "little")) + record(1, 2, b""),
        "a chunk of 0 bytes, which its file has no room for",
    ),
    "frame in a parcel": (
        record(0, 1, bytes(8) + (3).to_bytes(8, "little")) + record(1, 0, b"a"),
        "want a chunk, got kind 0",
    ),
    "cut record": (record(0, 0, b"abc")[:-1], "ended within a record"),
    "cut head": (record(0, 0, b"abc")[:5], "ended within a record"),
    "cut parcel": (record(0, 1, bytes(8) + (3).to_bytes(8, "little")), "ended within a parcel"),
}


@pytest.mark.parametrize("name", BAD)
def test_broken(raw: tuple[Stream, socket.socket], name: str) -> None:
    """What violates the format ends the stream, for reading and for sending."""
    one, theirs = raw
    data, problem = BAD[name]
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenStream) as broken:
        drain(one)
    assert broken.value.strerror == f"stream: {problem}"
    assert one.problem == problem
    for use in (one.receive, lambda: one.recv(10), lambda: one.send(b"x")):
        with pytest.raises(BrokenStream):
            use()


def test_stalled(raw: tuple[Stream, socket.socket]) -> None:
    """The rest of a record, of a parcel, or of what was announced, is not awaited indefinitely."""
    one, theirs = raw
    with pytest.raises(BrokenStream, match=r"the rest is missing for 0\.2 s"):
        one.receive(announced=True)
    for data in (record(0, 0, b"abc")[:-1], record(0, 1, bytes(8) + (3).to_bytes(8, "little"))):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        stalled = Stream(ours, 0.2)
        theirs.sendall(data)
        with pytest.raises(BrokenStream, match=r"the rest is missing for 0\.2 s"):
            stalled.receive()
        stalled.close()
        theirs.close()


def test_nothing_is_read(raw: tuple[Stream, socket.socket]) -> None:
    """Sending to an end that reads nothing fails, instead of blocking the sender."""
    one, _ = raw
    with pytest.raises(BrokenStream, match=r"nothing was read for 0\.2 s"):
        one.send_parcel(1, [bytes(1 << 25)])


def test_device() -> None:
    """A character device, here a terminal, carries records both ways, and a large parcel."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    one, other = Stream(master), Stream(slave)
    one.most_bytes = 1 << 20
    one.send(b"in")
    assert other.recv(10) == b"in"
    data = os.urandom(300_000)
    sender = threading.Thread(target=other.send_parcel, args=(4, [data]))
    sender.start()
    assert content(one.receive()) == [data]
    sender.join(60)
    other.close()
    one.close()


def test_no_memory_file(raw: tuple[Stream, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for a file the parcel is refused, and the stream goes on."""
    one, theirs = raw
    theirs.sendall(
        record(0, 1, bytes(8) + (3).to_bytes(8, "little")) + record(1, 2, b"abc") + record(2, 0, b"on")
    )

    def none(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none)
    with pytest.raises(RefusedParcel, match="no memory file can be made: Too many open files"):
        one.receive()
    assert one.receive() == Received(b"on")


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 64))
def test_any_cut_of_reads(bodies: list[bytes], step: int) -> None:
    """Records are the same however the bytes are cut into reads."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one = Stream(ours)
    sent = b"".join(record(number, 0, body) for number, body in enumerate(bodies))

    def drip() -> None:
        for at in range(0, len(sent), step):
            theirs.sendall(sent[at : at + step])
        theirs.close()

    sender = threading.Thread(target=drip)
    sender.start()
    found = []
    while frame := one.recv(INLINE):
        found.append(frame)
    sender.join(60)
    one.close()
    assert found == bodies


def test_head_is_what_is_documented() -> None:
    """A record's head: u24 length, u8 kind, u32 number."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one = Stream(ours)
    one.send(b"ab")
    one.send(b"c")
    assert theirs.recv(100) == b"\2\0\0\0\0\0\0\0ab" + b"\1\0\0\0\1\0\0\0c"
    assert HEAD_BYTES == 8
    one.close()
    theirs.close()
