"""Frames over real sockets: any size, with descriptors, and nothing left open."""

from __future__ import annotations

import array
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kluis.enclave.boundary import frames, memfile
from kluis.errors import FormatError


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a control socket."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("size", [1, frames.INLINE, frames.INLINE + 1, 5_000_000])
def test_any_size(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    """A frame arrives whole, in a datagram or in a memory file, with its descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    file = memfile.of_bytes(b"table")
    frames.send_parcel(pair[0], 7, b"x" * size, (file,))
    os.close(file)
    parcel = frames.receive_parcel(pair[1], 5_000_000)
    assert parcel is not None
    assert parcel.frame == b"x" * size
    assert memfile.map_bytes(parcel.files[0], 10, "file") == b"table"
    parcel.close()
    parcel.close()
    del parcel
    assert len(os.listdir("/proc/self/fd")) == before


def test_too_large(pair: tuple[socket.socket, socket.socket]) -> None:
    """A memory file past the bound is refused, and closed."""
    before = len(os.listdir("/proc/self/fd"))
    frames.send_parcel(pair[0], 7, b"x" * 100_000)
    with pytest.raises(frames.LostFrame, match=r"^frame: want 1 to 99999 bytes, got 100000$") as lost:
        frames.receive_parcel(pair[1], 99_999)
    assert lost.value.call == 7
    del lost
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    """Descriptors of a malformed message are closed, too."""
    before = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    pair[0].sendmsg([frames.LARGE], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [reader]))])
    os.close(reader)
    os.close(writer)
    with pytest.raises(FormatError, match=r"^frame: want a memory file, got another descriptor$"):
        frames.receive_parcel(pair[1], 100)
    assert len(os.listdir("/proc/self/fd")) == before


def test_hung_up(pair: tuple[socket.socket, socket.socket]) -> None:
    """A peer that closes gives None, not an error."""
    pair[0].close()
    assert frames.receive_parcel(pair[1], 100) is None


FULL = """
import resource, sys
from kluis.enclave.boundary import frames
data = b"x" * 20_000_000
have = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (have + (10 << 20), -1))
for _ in range(20):
    try:
        frames.encode((0, 1, data))
    except MemoryError:
        continue
    sys.exit("there was memory")
print("told")
"""


def test_encoding_without_memory() -> None:
    """A frame that finds no memory is a MemoryError, and the process goes on."""
    assert resource.RLIMIT_AS
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "told\n")
