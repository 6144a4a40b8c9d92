"""Images launched through a machine's agent, with every byte over streams."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis import appraisal
from kluis.errors import EnclaveDied, PolicyError, UnavailableError, UnsupportedError
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host import EnclaveProxy, load
from kluis.streams import Stream
from kluis.tee.platform.client import Platform
from kluis.tee.remote import RemotePlatform, messages
from tests import machines
from tests.images import ALLOWED, built

__all__ = ["built"]

EXAMPLES = Path(__file__).parents[3] / "examples"
BIG = 16 << 20
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def machine() -> Iterator[RemotePlatform]:
    """A warm machine."""
    with machines.warm() as found:
        yield found


@pytest.fixture(scope="module")
def big(built: Build) -> Path:
    """An image that takes 16 MiB."""
    return built(Path(__file__).parent / "big")


@pytest.fixture
def running(big: Path, machine: RemotePlatform) -> Iterator[EnclaveProxy]:
    """It runs in the machine."""
    with load(
        big, platform=machine, insecure_allow_missing=ALLOWED, ocalls={"reverse": lambda data: data[::-1]}
    ) as one:
        yield one


def test_hello(built: Build, machine: RemotePlatform) -> None:
    """The hello image runs in a machine, and its evidence meets a policy under the machine's root."""
    with load(built(EXAMPLES / "hello"), platform=machine, insecure_allow_missing=ALLOWED) as hello:
        assert hello.greet("world") == "hello, world, from inside"
        policy = appraisal.strict(
            appraisal.ByImage(image_ids=frozenset({hello.image_id})),
            protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
            purpose=Purpose.CLI,
            counters=frozenset({"unwitnessed"}),
            missing=ALLOWED,
            emulated_roots=("root.pem",),
        )
        result = hello.attest(policy, root=machine.root_pem(), collateral=machine.collateral())
        assert result.claims.measurement.value == hello.image_id
        assert hello.attest(policy).claims.measurement.value == hello.image_id


def test_large_arguments(running: EnclaveProxy) -> None:
    """16 MiB go in, out, and through an ocall, repeatedly, and leave no descriptors."""
    data, before = os.urandom(BIG), 0
    for turn in range(4):
        assert running.echo(data) == data
        assert running.reversed_outside(data) == data[::-1]
        before = before if turn else running.files()
    assert running.files() == before


def test_large_and_small_at_once(running: EnclaveProxy) -> None:
    """Concurrent calls of every size each get their own answer."""
    wrong: list[int] = []

    def ask(size: int) -> None:
        data = os.urandom(size)
        wrong.extend(size for _ in range(5) if running.echo(data) != data)

    sizes = (1, 1000, 65_536, 100_000, 3_000_000)
    threads = [threading.Thread(target=ask, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not wrong


def test_how_it_ended(running: EnclaveProxy) -> None:
    """The exit status of an enclave in a machine reaches its host."""
    with pytest.raises(EnclaveDied, match=r"^the enclave ended: status 5"):
        running.end()


def test_kill(big: Path, machine: RemotePlatform) -> None:
    """A killed enclave leaves the machine's platform."""
    before = machine.status()["enclaves"]
    process = machine.launch(big, allow_missing=ALLOWED)
    assert machine.status()["enclaves"] == before + 1
    process.kill()
    assert process.wait(120) is not None
    assert machine.status()["enclaves"] == before


def test_debug(tmp_path: Path, machine: RemotePlatform, built: Build) -> None:
    """A debug image has level none, and tells its errors."""
    (tmp_path / "app.py").write_text(
        "from kluis.enclave import Enclave\napp = Enclave('d')\n\n\n@app.ecall\ndef fail() -> None:\n"
        '    """Fail."""\n    raise ValueError("told")\n'
    )
    image = built(tmp_path, debug=True)
    with load(image, platform=machine, insecure_allow_missing=ALLOWED) as debug:
        assert (debug.level, debug.debug) == ("none", True)
        with pytest.raises(Exception, match="ValueError: told"):
            debug.fail()


def test_same_platform(machine: RemotePlatform) -> None:
    """Root, status and collateral are those of the machine's platform."""
    if machines.given():
        pytest.skip("this machine's platform is another one")
    here = Platform.connect(start=False)
    assert machine.root_pem() == here.root_pem()
    assert machine.status()["version"] == here.status()["version"]
    assert machine.status()["only"] is None
    assert machine.collateral().startswith(b"{")


def test_granted_sockets(built: Build, machine: RemotePlatform) -> None:
    """Granted sockets are forwarded: several connections to a listening one, and a connected one."""
    image = built(Path(__file__).parent / "granted")
    here, store = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket.create_server(("127.0.0.1", 0)) as listener, here, store:
        sockets = {"listen:web": listener, "connect:store": here}
        with load(image, platform=machine, insecure_allow_missing=ALLOWED, sockets=sockets) as granted:
            asking = granted.fetch.submit(b"a name")
            store.settimeout(300)
            assert store.recv(100) == b"a name"
            store.sendall(b"its value")
            assert asking.result(300) == b"its value"
            here.close()
            assert store.recv(100) == b""
            serving = granted.serve.submit(4)
            threads = [threading.Thread(target=_ask, args=(listener, size)) for size in (1, 70_000, 1 << 20)]
            for thread in threads:
                thread.start()
            with _connected(listener) as last:
                for thread in threads:
                    thread.join(300)
                last.sendall(b"cut")
                last.shutdown(socket.SHUT_WR)
                assert last.recv(10) == b"CUT"
                serving.result(300)
        with _connected(listener) as later:  # nothing accepts there any more
            later.settimeout(0.2)
            with pytest.raises(TimeoutError):
                later.recv(1)


def _connected(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout=300)


def _ask(listener: socket.socket, size: int) -> None:
    data, answer = b"x" * size, b""
    with _connected(listener) as end:
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)
        while more := end.recv(1 << 16):
            answer += more
    assert answer == data.upper()


def test_sockets_without_a_grant(big: Path, machine: RemotePlatform) -> None:
    """A socket that the image has no grant for is refused before anything is sent."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(PolicyError, match="grants no such name"),
    ):
        load(big, platform=machine, sockets={"listen:web": listener})


def test_only(big: Path, built: Build) -> None:
    """A machine that is for one image launches that one, and no other."""
    hello = built(EXAMPLES / "hello")
    with Platform.connect().hold():
        with load(hello, insecure_allow_missing=ALLOWED) as here:
            image_id = here.image_id
        with machines.agent("--only", image_id.hex()) as path:
            only = RemotePlatform(machines.connecting(path))
            assert only.status()["only"] == image_id.hex()
            with load(hello, platform=only, insecure_allow_missing=ALLOWED) as one:
                assert one.image_id == image_id
            with pytest.raises(PolicyError, match="this machine's only one, got") as refused:
                load(big, platform=only, insecure_allow_missing=ALLOWED)
    assert refused.value.code == "only_image"


def _greet_on(one: EnclaveProxy) -> None:
    """Call it until that fails: the platform there may end a moment after the agent."""
    while True:
        one.greet("world")


def test_a_machine_that_ends(built: Build) -> None:
    """With its machine an enclave ends; calls raise, and so does the platform, with a hint."""
    hello = built(EXAMPLES / "hello")
    with Platform.connect().hold():
        with machines.agent() as path:
            platform = RemotePlatform(machines.connecting(path))
            one = load(hello, platform=platform, insecure_allow_missing=ALLOWED)
        with one, pytest.raises(EnclaveDied):
            _greet_on(one)
    with pytest.raises(UnavailableError) as gone:
        platform.root_pem()
    assert gone.value.code == "machine_gone"


def test_ports(big: Path) -> None:
    """Ports, here terminals, carry an enclave's calls without a hop, one host after another.

    A host that was killed within a record delays the next one, which is heard all the same.
    """
    with contextlib.ExitStack() as open_, Platform.connect().hold():
        found = [open_.enter_context(_port()) for _ in range(3)]
        arguments = [part for _, device in found for part in ("--device", str(device))]
        open_.enter_context(machines.running([*arguments, "--patience", "2"]))
        platform = RemotePlatform(Shared([end for end, _ in found]).connect, ports=True)
        ocalls = {"reverse": lambda data: data[::-1]}
        for _ in range(2):
            assert platform.status()["only"] is None
            with load(big, platform=platform, insecure_allow_missing=ALLOWED, ocalls=ocalls) as one:
                data = os.urandom(1 << 20)
                assert one.echo(b"small") == b"small"
                assert one.echo(data) == data
                assert one.reversed_outside(data) == data[::-1]
                with pytest.raises(UnavailableError, match="all 3 ports are in use"):
                    platform.status()
            found[0][0].send(b"\xe8\3\0\0\0\0\0\0what a host that was killed had begun to send")
        assert platform.status()["only"] is None


class Shared:
    """Ports of a machine, each for one host at a time."""

    def __init__(self, ends: list[socket.socket]) -> None:
        self._free = list(ends)

    def connect(self) -> socket.socket:
        """The first free one."""
        if not self._free:
            raise OSError(errno.EBUSY, "all 3 ports are in use")
        end = self._free.pop(0)
        return Taken(end, self._free)


class Taken(socket.socket):
    """A duplicate of a port's end, which is free again once this is closed."""

    def __init__(self, end: socket.socket, free: list[socket.socket]) -> None:
        super().__init__(fileno=end.dup().detach())
        self._port, self._all = end, free

    def shutdown(self, how: int) -> None:
        """A port cannot be shut down."""

    def close(self) -> None:
        """Free it."""
        if self.fileno() >= 0:
            super().close()
            self._all.insert(0, self._port)


@contextlib.contextmanager
def _port() -> Iterator[tuple[socket.socket, Path]]:
    """A terminal in place of a virtio-serial port: the host's end, and the device."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pump = threading.Thread(target=_pump, args=(theirs, master))
    pump.start()
    try:
        with ours:
            yield ours, Path(os.ttyname(slave))
    finally:
        pump.join(60)
        os.close(slave)
        os.close(master)


def _pump(end: socket.socket, master: int) -> None:
    """Carry bytes both ways until the host closes its end."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    poll.register(master, select.POLLIN)
    with end:
        while True:
            for descriptor, events in poll.poll():
                if descriptor == master:
                    if events & select.POLLIN:
                        end.sendall(os.read(master, 1 << 16))
                elif data := end.recv(1 << 16):
                    left = memoryview(data)
                    while left:
                        left = left[os.write(master, left) :]
                else:
                    return


def test_another_protocol() -> None:
    """A machine of another release is reported as such."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def answer() -> None:
        agent = Stream(theirs)
        messages.receive(agent)
        messages.send(agent, {"protocol": 2, "only": None, "nonce": ""})
        agent.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(UnsupportedError) as refused:
        RemotePlatform(lambda: ours).status()
    thread.join(60)
    assert refused.value.message == "machine: protocol: want 1, got 2"
