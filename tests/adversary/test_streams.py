"""Hostile streams: into a running enclave, into a machine's agent, and out of either to a host.

The enclaves are rehearsals, and the agent's platform is the tests' own: what is attacked is the reading of
streams, which is the same in a machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis.enclave.boundary import frames
from kluis.errors import EnclaveDied, EnclaveError, KluisError, UnavailableError
from kluis.host import load
from kluis.host.link import Link
from kluis.host.proxy import EnclaveProxy
from kluis.host.starting import STREAM_BROKEN, await_ready, describe_end
from kluis.streams import INLINE, Stream
from kluis.tee.image import archive
from kluis.tee.platform.client import Platform
from kluis.tee.remote import RemotePlatform, messages
from kluis.testing.rehearsal import START_SECONDS, Process, RehearsalPlatform, interface_of
from tests import machines
from tests.images import built

__all__ = ["built"]

SUBJECT = Path(__file__).parents[1] / "enclave" / "subject" / "app.py"
Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def rehearsing(tmp_path_factory: pytest.TempPathFactory) -> RehearsalPlatform:
    """A platform whose enclaves have streams."""
    now = datetime.now(UTC)
    return RehearsalPlatform(tmp_path_factory.mktemp("streams"), now, streams=True)


@pytest.fixture
def process(rehearsing: RehearsalPlatform) -> Iterator[Process]:
    """A running enclave, ready."""
    interface = interface_of(SUBJECT)
    one = rehearsing.start(SUBJECT, interface)
    await_ready(one, interface[1], START_SECONDS)
    yield one
    one.kill()
    one.wait(60)


def record(number: int, kind: int, body: bytes) -> bytes:
    return (number << 32 | kind << 24 | len(body)).to_bytes(8, "little") + body


def write(end: Stream, data: bytes) -> None:
    """Write anything to an enclave, as long as it reads."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(end.fileno(), left) :]
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return


CALL = bytes(frames.encode((1, 1, 3, 2)))
PARCEL = bytes(8) + (100).to_bytes(8, "little")
BROKEN = {
    "replayed": record(0, 0, CALL) * 2,
    "reordered": record(1, 0, CALL) + record(0, 0, CALL),
    "dropped": record(0, 0, CALL) + record(2, 0, CALL),
    "too long": record(0, 0, bytes(INLINE + 1)),
    "unknown": record(0, 7, CALL),
    "noise": bytes(range(1, 255)),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("which", ["calls", "control"])
def test_broken_streams_end_the_enclave(process: Process, which: str, name: str) -> None:
    """Replayed, reordered and cut records end an enclave, and its status says why."""
    write(process.calls if which == "calls" else process.control, BROKEN[name])  # type: ignore[arg-type]
    end = process.wait(120)
    assert end is not None
    assert end[0] == STREAM_BROKEN
    assert describe_end(end[0]).endswith("as of one whose stream was cut, repeated, out of order or stalled")


@pytest.mark.parametrize("data", [record(0, 0, CALL)[:-1], record(0, 1, PARCEL) + record(1, 2, b"x")[:-1]])
def test_cut_streams_end_the_enclave(process: Process, data: bytes) -> None:
    """A stream that ends within a record or a parcel ends the enclave."""
    write(process.control, data)  # type: ignore[arg-type]
    process.control.shutdown(socket.SHUT_WR)
    end = process.wait(120)
    assert end is not None
    assert end[0] == STREAM_BROKEN


def test_large_claims(process: Process) -> None:
    """A parcel that claims to be larger than the limits is refused, without taking memory."""
    before = resident(process.pid)
    head = (9).to_bytes(8, "little") + b"".join([(1 << 40).to_bytes(8, "little")] * 17)
    write(process.control, record(0, 1, head) + record(1, 2, bytes(INLINE)))  # type: ignore[arg-type]
    answer = process.calls.recv(INLINE)
    while not answer:
        answer = process.calls.recv(INLINE)
    assert b"LostFrame" in answer
    assert b"want at most" in answer
    assert resident(process.pid) - before < 16 << 20


def test_flood(process: Process) -> None:
    """A host that floods both streams, and reads nothing, blocks only its own enclave, in bounded memory."""
    calls, control = process.calls, process.control
    flood = b"".join(record(number, 0, b"\xc0") for number in range(200_000))
    threads = [threading.Thread(target=write, args=(end, flood), daemon=True) for end in (calls, control)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    before = resident(process.pid)
    time.sleep(0.5)
    assert resident(process.pid) - before < 16 << 20
    process.kill()
    assert process.wait(120) is not None
    for thread in threads:
        thread.join(120)


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


HOSTILE: dict[str, tuple[bytes, str]] = {
    "replayed": (record(0, 0, b"\x93\x00\x01\x07") * 2, "want record 1, got 0"),
    "long": (record(0, 0, bytes(INLINE + 1)), "a record of 65537 bytes"),
    "cut": (record(0, 0, b"\x93\x00\x01\x07")[:-1], "ended within a record"),
    "noise": (b"\xff" * 100, "a record of 16777215 bytes"),
    "announces and sends nothing": (record(0, 0, b"\xc1"), "the rest is missing for 0.5 s"),
    "stalls": (record(0, 0, b"\x93\x00\x01\x07")[:-1], "the rest is missing for 0.5 s"),
}


def call_on(link: Link) -> None:
    while True:
        number = next(link.ids)
        link.exchange(number, frames.encode((0, number)), (), None, "call")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_enclave(name: str) -> None:
    """An enclave that violates the format is disconnected, with the reason, in every later call too."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
    calls, control = (Stream(ours, 0.5) for ours, _ in pairs)
    link = Link(calls, control, 1 << 20, lambda _: None, lambda: "")
    data, problem = HOSTILE[name]
    pairs[0][1].sendall(data)
    if name == "cut":
        pairs[0][1].shutdown(socket.SHUT_WR)
    for _ in range(2):
        with pytest.raises(EnclaveError, match=f"the enclave broke the protocol: .*{problem}") as refused:
            call_on(link)
        assert refused.value.code == "protocol"
    for end in (calls, control, pairs[0][1], pairs[1][1]):
        end.close()


@pytest.fixture(scope="module")
def agent(platform: Platform) -> Iterator[Connect]:
    """An agent of the tests' platform, which waits for hosts only two seconds."""
    with platform.hold(), machines.agent("--patience", "2") as path:
        yield machines.connecting(path)


def test_noise_for_an_agent(agent: Connect) -> None:
    """Whatever an agent is sent, that stream ends, and other hosts are served."""
    noise = random.Random(7)
    for length in (1, 8, 9, 100, 5000):
        with agent() as end:
            end.settimeout(120)
            end.sendall(noise.randbytes(length))
            end.shutdown(socket.SHUT_WR)
            while end.recv(4096):
                pass
    RemotePlatform(agent).status()


REQUESTS: dict[str, tuple[messages.Message, str]] = {
    "no op": ({}, "request: want hello"),
    "another op": ({"op": "stop"}, "request: want hello"),
    "an order of upkeep": ({"op": "order", "name": "revoke", "order": {}}, "request: want hello"),
    "joins nothing": ({"op": "join", "launch": "x" * 32, "as": "calls"}, "no such launch"),
    "a launch without a file": ({"op": "launch", "launch": "x" * 32}, "want one file"),
    "a launch without a name": ({"op": "launch"}, "message.launch: want a string"),
    "a short name": ({"op": "launch", "launch": "x"}, "want a name of 16 to 64"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_bad_requests(agent: Connect, name: str) -> None:
    """Each invalid request is answered with an error that names what is wrong."""
    request, problem = REQUESTS[name]
    end = Stream(agent())
    messages.send(end, request)
    received = messages.receive(end, announced=True)
    assert received is not None
    with pytest.raises(KluisError, match=problem):
        messages.check(received[0])
    end.close()


def test_changed_bytes_of_an_image(agent: Connect, built: Callable[[Path], Path], tmp_path: Path) -> None:
    """Layers that a host changes on their way are refused, and the next launch has good ones."""
    (tmp_path / "app").mkdir()
    # A new image: a layer that the machine has would not be sent.
    made = "from kluis.enclave import Enclave\napp = Enclave('one', product_id=1, svn=1)\n"
    (tmp_path / "app" / "app.py").write_text(f"{made}HERE = '{tmp_path}'\n")
    image = built(tmp_path / "app")
    data = bytearray(image.read_bytes())
    with image.open("rb") as file:
        end = archive.read_head(file).end
        layer = archive.read_image(file).layers[-1]
    data[layer.data_offset] ^= 1
    changed = tmp_path / "changed.kluis"
    changed.write_bytes(data)
    machine = RemotePlatform(agent)
    assert layer.data_offset > end
    with pytest.raises(KluisError) as refused:
        machine.launch(changed, allow_missing=frozenset({"secret-memory"}))
    assert refused.value.exit_code == 4
    process = machine.launch(image, allow_missing=frozenset({"secret-memory"}))
    process.kill()
    assert process.wait(120) is not None


def test_a_host_that_stalls(agent: Connect, victim_image: Path) -> None:
    """A host that begins a launch and sends no more is dropped, with nothing left of the launch."""
    machine = RemotePlatform(agent)
    before = machine.status()["enclaves"]
    with victim_image.open("rb") as file:
        end = archive.read_head(file).end
        file.seek(0)
        head = file.read(end)
    stalled = Stream(agent())
    request: messages.Message = {
        "op": "launch",
        "launch": "y" * 32,
        "allow_missing": [],
        "sockets": [],
        "fresh": True,
    }
    messages.send(stalled, request, [head])
    wanted = messages.receive(stalled, announced=True)
    assert wanted is not None
    assert messages.texts(wanted[0], "want")
    assert messages.receive(stalled, announced=True) is None
    stalled.close()
    assert machine.status()["enclaves"] == before


def test_many_streams(agent: Connect) -> None:
    """Streams above the limit are closed, and there is room again once others end."""
    ends = [agent() for _ in range(200)]
    closed = 0
    for end in ends:
        end.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            closed += end.recv(1) == b""
    assert closed >= 200 - 128
    for end in ends:
        end.close()
    until = time.monotonic() + 120
    while True:
        try:
            RemotePlatform(agent).status()
            break
        except UnavailableError:
            assert time.monotonic() < until


def test_a_killed_agent(platform: Platform, victim_image: Path, allowed: frozenset[str]) -> None:
    """When the agent is killed its enclaves end, and a running call raises."""
    with platform.hold():
        before = platform.status()["enclaves"]
        with machines.agent() as path:
            remote = RemotePlatform(machines.connecting(path))
            one: EnclaveProxy = load(victim_image, platform=remote, insecure_allow_missing=allowed)
        with one, pytest.raises(EnclaveDied):
            one.evidence(bytes(32))
        until = time.monotonic() + 120
        while platform.status()["enclaves"] > before and time.monotonic() < until:
            time.sleep(0.02)
        assert platform.status()["enclaves"] == before
