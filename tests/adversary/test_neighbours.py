"""Users of one platform: what one of them launches, ends, keeps or knows is no harm to the others."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gc
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import AuthenticityError, PolicyError, UnavailableError
from kluis.tee import image, places
from kluis.tee.image import layers
from kluis.tee.image.build.builder import build
from kluis.tee.platform import daemon, hosts, start
from kluis.tee.platform.client import Launched, Platform
from kluis.tee.platform.launching import charges, children, holding, launch, scratch, spawner
from kluis.tee.platform.launching.orders import Orders
from kluis.tee.platform.launching.policy import LaunchPolicy
from tests.tee.image import samples
from tests.tee.platform.launching.test_holding import layer_of

ANN, BOB = 1001, 1002
SECONDS = 120
PLATFORM_FD = 5
IDLE_THREADS = 5
"""Of a platform without hosts: two of the launcher, and those for orders, ends and layers."""
LEAVER = f'''"""Passes its end of its session to its host."""

import array
import os
import socket
import stat

from kluis.enclave import Enclave

app = Enclave("leaver")
try:
    inside = stat.S_ISSOCK(os.fstat(4).st_mode)
except OSError:  # where it is built
    inside = False
if inside:
    control = socket.socket(fileno=os.dup(4))
    passed = array.array("i", [{PLATFORM_FD}])
    control.sendmsg([b"take it"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])


@app.ecall
def alive() -> str:
    """Answer."""
    return "alive"
'''


def became(condition: Callable[[], bool]) -> bool:
    """Wait for a condition to hold, within the time that a test has."""
    end = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see another process's descriptors")
def test_a_session_ends_with_its_enclave(platform: Platform, allowed: frozenset[str], tmp_path: Path) -> None:
    """A host that keeps an enclave's end of its session keeps nothing of the platform's with it."""
    (tmp_path / "leaver").mkdir()
    (tmp_path / "leaver" / "app.py").write_text(LEAVER)
    build(tmp_path / "leaver", tmp_path / "leaver.kluis", tmp_path / "author.pem", debug=True)
    threads = Path(f"/proc/{platform.status()['pid']}/task")
    assert became(lambda: len(list(threads.iterdir())) <= IDLE_THREADS)
    launched: Launched = platform.launch(tmp_path / "leaver.kluis", allow_missing=allowed)
    assert launched.control is not None
    launched.control.settimeout(SECONDS)
    said, kept, _, _ = socket.recv_fds(launched.control, 64, 1)
    assert said == b"take it"
    assert len(list(threads.iterdir())) > IDLE_THREADS
    launched.kill()
    try:
        assert became(lambda: len(list(threads.iterdir())) <= IDLE_THREADS)
    finally:
        os.close(kept[0])


class Spawning:
    """The other end of a platform's orders: reports an enclave's end before each answer."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """Answer until the platform closes."""
        while data := socket.recv_fds(self.end, 1 << 16, 1)[0]:
            report = {"event": "exited", "id": json.loads(data)["op"], "status": 0, "words": ""}
            for each in (report, {"event": "answer"}):
                self.end.send(json.dumps(each).encode())


@pytest.fixture
def launcher() -> Iterator[launch.Launcher]:
    """A launcher with a spawner at which an enclave ends whenever an order comes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    unused: Any = None
    with ours, theirs:
        Spawning(theirs)
        yield launch.Launcher(unused, Orders(ours, lambda: None), LaunchPolicy(), frozenset(), None)
        ours.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("order", ["hold", "drop"])
def test_an_end_in_the_midst_of_an_order(launcher: launch.Launcher, tmp_path: Path, order: str) -> None:
    """One user's enclave ends while another's layer is unpacked or dropped: the platform does not stop."""
    first = layer_of(tmp_path / "a", "first", b"a" * 10)
    second = layer_of(tmp_path / "b", "second", b"b" * 10)

    def hold(path: Path, layer: image.layers.Layer, user: int) -> None:
        with path.open("rb") as file:
            launcher.holding.hold(file.fileno(), layer, user)

    hold(tmp_path / "a", first, ANN)
    released = threading.Event()

    def end(status: int, words: str) -> None:
        launcher.holding.release([first.digest], ANN)
        released.set()

    launcher._orders.on_end(order, end)
    if order == "drop":
        launcher.holding.release([first.digest], ANN)
        work = threading.Thread(target=launcher.holding.tidy, args=(0.0,), daemon=True)
    else:
        work = threading.Thread(target=hold, args=(tmp_path / "b", second, BOB), daemon=True)
    work.start()
    work.join(SECONDS)

    assert not work.is_alive()
    assert released.wait(SECONDS)


def test_a_file_of_a_layer_that_a_host_keeps(tmp_path: Path) -> None:
    """An enclave passed a file of its layer to its host: the layer's memory is free once it is dropped."""
    data = os.urandom(1 << 20)
    layer = layer_of(tmp_path / "data", "app", data)
    index = image.canonical.encode(list(layer.files))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    digest = hashlib.sha256(index).hexdigest()
    with ours, theirs, tempfile.TemporaryDirectory(dir="/dev/shm") as layers:
        spawning = spawner.Spawner(ours, Path(layers), own_uids=False)
        blob = os.memfd_create("layer")
        os.write(blob, data + index)
        order = {"digest": digest, "data_at": 0, "index_at": len(data), "index_size": len(index)}
        spawning._hold(order, [blob])
        os.close(blob)
        with (Path(layers) / digest / "file").open("rb") as kept:
            assert os.fstat(kept.fileno()).st_blocks * 512 == len(data)
            spawning._drop({"digest": digest}, [])

            assert os.listdir(layers) == []
            assert os.fstat(kept.fileno()).st_blocks == 0


def test_a_layer_by_its_digest(tmp_path: Path) -> None:
    """A user who knows only the digest of another's cached layer does not get its files."""
    layer = layer_of(tmp_path / "anns", "app", b"the source of Ann's application")
    (tmp_path / "eves").write_bytes(bytes(len(b"the source of Ann's application")))
    unpacked: list[bytes] = []
    holds = holding.Holding(lambda layer, *_: unpacked.append(layer.digest), lambda _: None)

    def hold(name: str, user: int) -> None:
        with (tmp_path / name).open("rb") as file:
            holds.hold(file.fileno(), layer, user)

    hold("anns", ANN)
    with pytest.raises(AuthenticityError, match=r"^layer app: 'file': want SHA-256"):
        hold("eves", BOB)
    assert holds.files(BOB) == {}
    for _ in range(2):
        hold("anns", BOB)
    assert unpacked == [layer.digest]
    assert holds.files(BOB) == {layer.digest: layer.files}


SEALS = {"write": fcntl.F_SEAL_WRITE, "shrink": fcntl.F_SEAL_SHRINK}


@pytest.mark.parametrize("missing", [*SEALS, "all"])
def test_an_image_that_changes_once_it_is_measured(tmp_path: Path, missing: str) -> None:
    """A user's memory file lacks a seal, and changes between measuring and unpacking: a copy is unpacked."""
    good, bad = b"print('good')", b"print('evil')"
    plain = layer_of(tmp_path / "data", "app", good)
    index = image.canonical.encode(list(plain.files))
    memory = os.memfd_create("image", os.MFD_ALLOW_SEALING)
    lengths = [len(each).to_bytes(8, "little") for each in (index, good)]
    os.write(memory, lengths[0] + index + lengths[1] + good)
    layer = dataclasses.replace(plain, data_offset=16 + len(index))
    for seal in () if missing == "all" else [SEALS[each] for each in SEALS if each != missing]:
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seal)
    unpacked: list[bytes] = []

    def unpack(_layer: layers.Layer, part: holding.Part) -> None:
        with contextlib.suppress(OSError):  # it may be sealed against this one
            os.pwrite(memory, bad, layer.data_offset)
        with contextlib.suppress(OSError):
            os.ftruncate(memory, 0)
        assert part.data_at is not None
        unpacked.append(os.pread(part.file, len(good), part.data_at))

    holding.Holding(unpack, lambda _: None).hold(memory, layer, ANN)
    os.close(memory)
    assert unpacked == [good]


def test_scratch_that_a_host_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enclave passed its scratch to its host: it stays charged to its user for as long as it is open."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(scratch, "free_bytes", lambda: 4 << 20)
    with ours, theirs, tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        monkeypatch.chdir(state)
        spawning = spawner.Spawner(ours, Path(state), own_uids=False)
        charged = charges.Charges(
            LaunchPolicy(), lambda name: spawning._free({"id": name}, [])["free"] is True
        )
        charged.take(ANN, 0, 2 << 20)
        kept = scratch.backing("one", 2 << 20)
        reading, writing = os.pipe()
        os.close(writing)
        child = children.Child(os.posix_spawn("/bin/true", ["true"], {}), reading, 0)
        child.scratch = scratch.watch(kept)
        spawning.children["one"] = child
        assert not spawning._free({"id": "one"}, [])["free"]
        spawning._bury("one")
        charged.give_back("one", ANN, 0, 2 << 20)
        with pytest.raises(PolicyError, match="launch policy: scratch: want at most 3145728 for one user"):
            charged.take(ANN, 0, 2 << 20)

        os.close(kept)
        charged.take(ANN, 0, 2 << 20)
        assert spawning._scratches == {}
        monkeypatch.undo()  # or the folder could not be removed


def test_a_running_enclave_keeps_no_image_in_memory(
    launcher: launch.Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest of a megabyte takes a dozen of the platform's memory, which no user is charged for."""
    (tmp_path / "it").write_bytes(samples.image(samples.contents(), signer=samples.key()))
    started: list[Any] = []
    monkeypatch.setattr(launch, "check_launcher", lambda _: None)
    monkeypatch.setattr(launcher, "_start", lambda *arguments: started.append(arguments[5]))
    monkeypatch.setattr(launcher.holding, "hold", lambda *_: b"")
    monkeypatch.setattr(launcher, "_root", samples_root())
    with (tmp_path / "it").open("rb") as file:
        launcher.launch(file.fileno(), user=ANN, allow_missing=frozenset(), granted=[], ended=lambda *_: None)

    assert len(started) == 1  # which its end will call
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, image.Image)]


def samples_root() -> Any:
    """A root of which a launch reads only what it states."""
    from types import SimpleNamespace

    from kluis.formats.kluis.launch import UNWITNESSED

    return SimpleNamespace(level="process", version=bytes(32), counters=SimpleNamespace(witness=UNWITNESSED))


STARTER = """
import resource
from kluis.tee.platform import start
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(start.ask(start.start(), {"op": "status"})["pid"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to read another process's limits")
def test_descriptors_of_all_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All hosts together pass fewer descriptors than the platform may open, started under a usual limit."""
    with tempfile.TemporaryDirectory(prefix="kluis-", dir="/run") as home:
        Path(home).chmod(0o755)
        monkeypatch.setenv("KLUIS_HOME", home)
        try:
            started = subprocess.run([sys.executable, "-c", STARTER], capture_output=True, check=True)
            lines = Path(f"/proc/{int(started.stdout)}/limits").read_text().splitlines()
        finally:
            start.stop(places.mine())
    (files,) = (int(line.split()[3]) for line in lines if line.startswith("Max open files"))
    connections = daemon.MOST_CONNECTIONS + daemon.MOST_OPERATORS
    launching = 16  # sockets, documents, layers and scratch of one launch
    assert files > connections * (2 + hosts.MOST_DESCRIPTORS) + LaunchPolicy().max_enclaves * launching


def test_an_operator_waits_where_others_connect(tmp_path: Path) -> None:
    """A platform whose queue is full of users' connections is there all the same."""
    place = places.Places(False, tmp_path, tmp_path)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind(str(place.socket))
        listener.listen(0)
        first = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        first.connect(str(place.socket))
        second = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        second.setblocking(False)
        with pytest.raises(BlockingIOError):  # the queue is full
            second.connect(str(place.socket))
        asked = stack.enter_context(ThreadPoolExecutor(1)).submit(start.answers, place)
        for _ in range(2):
            end = stack.enter_context(listener.accept()[0])
            end.send(b'{"pid": 1}')

        assert asked.result(SECONDS)


def test_no_second_platform_with_one_state(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that does not answer in time has its state: another would count for itself."""
    before = platform.status()
    monkeypatch.setattr(places, "ENDING_SECONDS", 0.1)
    monkeypatch.setattr(start, "answers", lambda _: False)
    with pytest.raises(UnavailableError, match=r"^platform: runs already, and does not answer\n"):
        start.start()

    assert platform.status()["pid"] == before["pid"]
