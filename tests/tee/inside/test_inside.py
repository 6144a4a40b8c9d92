"""The agent's own parts: its options, its ports, and an image's file put together."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import pty
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kluis.errors import FormatError, UnavailableError
from kluis.parcels import Place
from kluis.streams import Stream
from kluis.tee.image import archive
from kluis.tee.inside import images, ports
from kluis.tee.inside.__main__ import main, parse_only
from kluis.tee.process import native
from kluis.tee.vm import words
from tests.images import built

__all__ = ["built"]

Build = Callable[..., Path]
CONTAINED = Path(__file__).parents[2] / "host" / "contained"


def test_only_of_the_command_line() -> None:
    """The image id of a machine is on the kernel's command line once, or not at all."""
    image_id = hashlib.sha256(b"image").hexdigest()
    assert words.find(words.ONLY, "quiet root=/dev/vda ro") is None
    assert words.find(words.ONLY, f"quiet kluis.only={image_id} ro") == image_id
    with pytest.raises(UnavailableError, match=r"want it once on the kernel's command line, got 2 times"):
        words.find(words.ONLY, f"kluis.only={image_id} kluis.only={image_id}")
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


def test_a_torn_record(tmp_path: Path) -> None:
    """Bytes that one host left do not make a port deaf: it is opened again, and the next host is heard."""
    with _port(tmp_path) as (host, device):
        served: list[str] = []

        def serve(stream: Stream) -> None:
            stream.patience_seconds = 0.5
            with contextlib.closing(stream):
                try:
                    served.append(stream.recv(100).decode())
                    stream.send(b"heard")
                except OSError as error:
                    served.append(str(error.strerror))

        threading.Thread(target=ports.serve_port, args=(device, serve, ports.Arrivals()), daemon=True).start()
        os.write(host, b"\xe8\3\0\0\0\0\0\0" + b"100 bytes of 1,000")
        while not served:
            time.sleep(0.01)
        assert served == ["stream: the rest is missing for 0.5 s"]
        for _ in range(20):  # the host before is only seen to have gone once its bytes are read
            ours = Stream(os.dup(host), patience_seconds=1)
            with contextlib.closing(ours), contextlib.suppress(OSError):
                ours.send(b"hello")
                if ours.readable(1) and ours.recv(100) == b"heard":
                    break
        assert served[-1] == "hello"


def test_a_host_is_reported_by_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No port is looked at again and again: a host that comes is a signal, which goes to one thread."""
    monkeypatch.setattr(ports, "LOOK_SECONDS", 3600.0)
    arrivals = ports.Arrivals()
    for _ in range(3):
        with _port(tmp_path) as (host, device):
            end = os.open(device, os.O_RDWR | os.O_NOCTTY)
            before = fcntl.fcntl(end, fcntl.F_GETFL)
            thread = threading.Thread(target=arrivals.wait, args=(end,))
            thread.start()
            while not fcntl.fcntl(end, fcntl.F_GETFL) & os.O_ASYNC:
                time.sleep(0.01)
            os.write(host, b"hello")
            thread.join(60)
            assert not thread.is_alive()
            assert fcntl.fcntl(end, fcntl.F_GETFL) == before  # an enclave that gets it sends no signals here
            arrivals.wait(end)  # it has sent already
            os.close(end)


def test_a_port_without_a_host() -> None:
    """It reports that it can be read, and is left alone: a guest that waits takes no processor."""
    host, guest = pty.openpty()
    os.close(host)
    poll = select.poll()
    poll.register(guest, select.POLLIN)
    ((_, events),) = poll.poll(0)
    assert events & select.POLLIN
    assert events & select.POLLHUP
    assert ports.readable([guest]) == []
    os.close(guest)


@contextlib.contextmanager
def _port(folder: Path) -> Iterator[tuple[int, Path]]:
    """A terminal in place of a port: the host's descriptor, and the device.

    The device has a name in ``folder`` until the end. Its server never ends, and by the terminal's own name
    it would later open the terminal of another test.
    """
    host, guest = pty.openpty()
    device = folder / "port"
    device.symlink_to(os.ttyname(guest))
    try:
        tty.setraw(guest)
        yield host, device
    finally:
        device.unlink()
        os.close(guest)
        os.close(host)


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
    """A file of the head and every layer is the image; a layer that is held is a hole of its size. Only the
    index of the layer on which the platform runs is copied.
    """
    image = built(CONTAINED)
    whole = image.read_bytes()
    data, head = images.read_head(memory_file(whole[: head_size(image)]))
    assert hashlib.sha256(head.manifest_bytes).digest() == images.image_id(head)
    at, sent = len(data), dict[str, Callable[[Place], None]]()
    for layer in head.manifest.layers:
        size = images.block_size(layer)
        sent[layer.digest] = functools.partial(write, whole[at : at + size])
        at += size
    assert at == len(whole)
    made = images.assemble(data, head, sent, {}, None)
    assert os.pread(made, len(whole) + 1, 0) == whole
    own = {digest: path for digest, path in images.own_layers().items() if digest in sent}
    assert own, "the image's interpreter is this machine's own"
    mixed = images.assemble(data, head, {k: v for k, v in sent.items() if k not in own}, own, None)
    assert os.pread(mixed, len(whole) + 1, 0) == whole
    holes = images.assemble(data, head, {}, {}, None)
    assert os.fstat(holes).st_size == len(whole)
    assert os.fstat(holes).st_blocks * 512 < 1 << 20
    laid = native.runtime().digest
    (layer,) = [layer for layer in head.manifest.layers if layer.digest == laid]
    indexed = images.assemble(data, head, {}, own, laid)
    assert os.fstat(indexed).st_size == len(whole)
    assert os.fstat(indexed).st_blocks * 512 < os.fstat(mixed).st_blocks * 512 - layer.data_size + (1 << 20)
    for descriptor in (made, mixed, holes, indexed):
        os.close(descriptor)


def test_one_layer_under_two_names() -> None:
    """The host sends it once, and it is in both places."""
    layer = SimpleNamespace(digest="ab" * 32, index_size=4, data_size=8)
    head = SimpleNamespace(manifest=SimpleNamespace(layers=[layer, layer]))
    asked: list[Place] = []

    def send(place: Place) -> None:
        asked.append(place)
        write(b"0123456789abcdef" + b"indxdatadata", place)

    made = images.assemble(b"head", head, {layer.digest: send}, {}, None)  # type: ignore[arg-type]
    assert [each.at for each in asked] == [4]
    assert os.pread(made, 100, 0) == b"head" + 2 * (b"0123456789abcdef" + b"indxdatadata")
    os.close(made)


def write(data: bytes, place: Place) -> None:
    assert os.pwrite(place.file, data, place.at) == place.size


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


def test_a_guests_first_program_loads_no_cryptography() -> None:
    """The platform needs the processor for its own imports: what the agent does without comes later."""
    code = "import sys; from kluis.tee.inside import agent, boot, endorsing, ports; "
    code += "print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
