"""The agent's own parts: its options, its ports, and an image's file put together."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.errors import FormatError, UnavailableError
from kluis.streams import Stream
from kluis.tee.image import archive
from kluis.tee.vm.inside import images, ports
from kluis.tee.vm.inside.__main__ import main, only_of, parse_only
from kluis.testing.images import built

__all__ = ["built"]

Build = Callable[..., Path]
CONTAINED = Path(__file__).parents[3] / "host" / "contained"


def test_only_of_the_command_line() -> None:
    """The image id of a machine is on the kernel's command line once, or not at all."""
    image_id = hashlib.sha256(b"image").hexdigest()
    assert only_of("quiet root=/dev/vda ro") is None
    assert only_of(f"quiet kluis.only={image_id} ro") == image_id
    with pytest.raises(UnavailableError, match=r"want it once on the kernel's command line, got 2 times"):
        only_of(f"kluis.only={image_id} kluis.only={image_id}")
    assert parse_only(image_id) == hashlib.sha256(b"image").digest()
    for bad in ("", image_id[:-2], image_id.upper(), "x" * 64, image_id + "00"):
        with pytest.raises(UnavailableError, match="want an image id of 64 hex digits"):
            parse_only(bad)


def test_a_bad_only_starts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent with an invalid image id does not serve any image instead."""
    monkeypatch.setattr("kluis.tee.platform.client.Platform.connect", lambda **_: None)
    assert main(["--unix", "/nonexistent/agent", "--only", "all"]) == 7
    assert "want an image id of 64 hex digits, got 'all'" in capsys.readouterr().err


def test_ports(tmp_path: Path) -> None:
    """The ports for hosts are those with our names, in the order of their numbers."""
    names = {"vport1p1": "kluis.10", "vport1p2": "kluis.2", "vport2p1": "kluis.psp", "vport2p2": "other.0"}
    for device, name in names.items():
        (tmp_path / device).mkdir()
        (tmp_path / device / "name").write_text(f"{name}\n")
    assert ports.find(tmp_path, Path("/dev")) == [Path("/dev/vport1p2"), Path("/dev/vport1p1")]
    assert ports.find(tmp_path / "none") == []


MARK = ports.MARK + b"n" * 16
OTHER = ports.MARK + b"m" * 16
BEGINNINGS = {
    "at once": (MARK + b"\1\0\0", MARK),
    "after noise": (b"noise" * 1000 + MARK + b"\1\0\0", MARK),
    "after a part of a mark": (ports.MARK[:9] + MARK + b"\1\0\0", MARK),
    "repeated": (MARK * 3 + b"\1\0\0", MARK),
    "of another host": (MARK + OTHER + b"\1\0\0", MARK + OTHER),
    "a record of 255 bytes": (MARK + b"\xff\0\0", MARK),
}


@pytest.mark.parametrize("name", BEGINNINGS)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_marks(name: str, step: int) -> None:
    """A use of a port begins after its mark, which is returned once; what was before is discarded."""
    sent, returned = BEGINNINGS[name]
    agent, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def drip() -> None:
        for at in range(0, len(sent), step):
            host.sendall(sent[at : at + step])

    with agent, host:
        thread = threading.Thread(target=drip)
        thread.start()
        data = ports.await_mark(agent.fileno())
        thread.join(60)
        while len(data) < 3:
            data += agent.recv(100)
        assert data == sent[-3:]
        assert host.recv(100) == returned


def test_a_mark_that_was_read_before() -> None:
    """What ended the use before may be the mark of the next."""
    agent, host = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with agent, host:
        host.sendall(b"\1\0\0")
        assert ports.await_mark(agent.fileno(), b"end" + MARK) == b"\1\0\0"
        assert host.recv(100) == MARK


def test_connections(tmp_path: Path) -> None:
    """Each connection to a socket is served in its own thread, until the socket is closed."""
    served: list[bytes] = []
    listener = ports.listener_of(tmp_path / "agent", None)

    def serve(stream: Stream) -> None:
        served.append(stream.recv(10))
        stream.send(b"done")
        stream.close()

    threading.Thread(target=ports.listen, args=(listener, serve), daemon=True).start()
    for said in (b"one", b"two"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.connect(str(tmp_path / "agent"))
            host = Stream(end)
            host.send(said)
            assert host.recv(10) == b"done"
    assert served == [b"one", b"two"]
    listener.close()


def test_image_of_parts(built: Build, tmp_path: Path) -> None:
    """A file of the head and every layer is the image; a layer that is held is a hole of its size."""
    image = built(CONTAINED)
    whole = image.read_bytes()
    data, head = images.read_head(memory_file(whole[: head_size(image)]))
    assert hashlib.sha256(head.manifest_bytes).digest() == images.image_id(head)
    at, sent = len(data), {}
    for layer in head.manifest.layers:
        size = images.block_size(layer)
        sent[layer.digest] = memory_file(whole[at : at + size])
        at += size
    assert at == len(whole)
    made = images.assemble(data, head, sent, {})
    assert os.pread(made, len(whole) + 1, 0) == whole
    own = {digest: path for digest, path in images.own_layers().items() if digest in sent}
    assert own, "the image's interpreter is this machine's own"
    mixed = images.assemble(data, head, {k: v for k, v in sent.items() if k not in own}, own)
    assert os.pread(mixed, len(whole) + 1, 0) == whole
    holes = images.assemble(data, head, {}, {})
    assert os.fstat(holes).st_size == len(whole)
    assert os.fstat(holes).st_blocks * 512 < 1 << 20
    for descriptor in (made, mixed, holes, *sent.values()):
        os.close(descriptor)


def head_size(image: Path) -> int:
    with image.open("rb") as file:
        return archive.read_head(file).end


def memory_file(data: bytes) -> int:
    made = os.memfd_create("test")
    left = memoryview(data)
    while left:
        left = left[os.write(made, left) :]
    return made


def test_bad_heads(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is cut, has more after it, or is of an image too large for the machine is refused."""
    image = built(CONTAINED)
    size = head_size(image)
    head = image.read_bytes()[:size]
    with pytest.raises(FormatError, match="image: 1 bytes after its head"):
        images.read_head(memory_file(head + b"x"))
    with pytest.raises(FormatError, match="needs"):
        images.read_head(memory_file(head[:-1]))
    with pytest.raises(FormatError, match="want at most 8388608 bytes"):
        images.read_head(memory_file(bytes(images.MAX_HEAD_BYTES + 1)))
    monkeypatch.setattr("kluis.tee.platform.launching.holding.half_of_memory", lambda: 1000)
    with pytest.raises(UnavailableError, match="want at most 1000 bytes, half of the machine") as refused:
        images.read_head(memory_file(head))
    assert refused.value.code == "machine_memory"
