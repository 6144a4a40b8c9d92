"""Hosts that mean harm to other hosts: whatever one sends or withholds, the platform serves the rest."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.hashes import sha256
from kluis.host import EnclaveProxy, load
from kluis.tee import places
from kluis.tee.image import canonical, layers, manifest
from kluis.tee.image.build.builder import build
from kluis.tee.platform import start
from kluis.tee.platform.client import Launched, Platform
from kluis.tee.platform.launching import holding
from tests.adversary import attacks
from tests.tee.image import samples

FLOOD = 400
SECONDS = 300
KEEPER = '''"""Gives its host whatever descriptor its words go to."""

import array
import os
import socket
import stat

from kluis.enclave import Enclave

app = Enclave("keeper")
try:
    inside = stat.S_ISSOCK(os.fstat(4).st_mode)
except OSError:  # where it is built
    inside = False
if inside:
    control = socket.socket(fileno=os.dup(4))
    control.sendmsg([b"take it"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [2]))])


@app.ecall
def alive() -> str:
    """Answer."""
    return "alive"
'''
FLOODER = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]) + 64,) * 2)
ends = []
for _ in range(int(sys.argv[2])):
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.connect(sys.argv[1])
    except OSError:
        break
    ends.append(end)
time.sleep(1)
print(len(ends))
"""


@contextlib.contextmanager
def connected() -> Iterator[socket.socket]:
    """A host's bare connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.connect(str(places.mine().socket))
        end.settimeout(SECONDS)
        yield end


def targets(folder: Path) -> list[str]:
    """What a process's descriptors refer to."""
    found = []
    for each in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(each))
    return found


def status_once_free(platform: Platform) -> dict[str, Any]:
    """The platform's status once it has noticed that this user's other connections are closed."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            return platform.status()
        except (UnavailableError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def launched_by_another(image: Path, allowed: frozenset[str]) -> str:
    """Launch an enclave as a host that does nothing wrong; what it answers, within the time a test has."""

    def run() -> str:
        with load(image, insecure_allow_missing=allowed) as enclave:
            return str(enclave.alive())

    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(run).result(SECONDS)
    finally:
        pool.shutdown(wait=False)


def test_a_host_that_reads_no_answer(platform: Platform, victim_image: Path, allowed: frozenset[str]) -> None:
    """A host whose connection is full of answers it does not read: its enclave's end holds nobody up."""
    with connected() as end:
        with victim_image.open("rb") as image:
            request = {"op": "launch", "allow_missing": sorted(allowed)}
            socket.send_fds(end, [json.dumps(request).encode()], [image.fileno()])
        answer, ends, _, _ = socket.recv_fds(end, 64 * 1024, 2)
        end.setblocking(False)
        full = 0
        while full < 20:
            try:
                end.send(b'{"op": "collateral"}')
                full = 0
            except BlockingIOError:
                full += 1
                time.sleep(0.05)
        for descriptor in ends:
            os.close(descriptor)
        assert attacks.gone_within(json.loads(answer)["pid"], attacks.SOON)

        assert launched_by_another(victim_image, allowed) == "alive"


def test_a_host_that_keeps_the_words_open(
    platform: Platform, victim_image: Path, allowed: frozenset[str], tmp_path: Path
) -> None:
    """An enclave that passes its standard error to its host: the spawner does not wait for that end of it."""
    (tmp_path / "keeper").mkdir()
    (tmp_path / "keeper" / "app.py").write_text(KEEPER)
    build(tmp_path / "keeper", tmp_path / "keeper.kluis", tmp_path / "author.pem", debug=True)
    launched: Launched = platform.launch(tmp_path / "keeper.kluis", allow_missing=allowed)
    launched.control.settimeout(SECONDS)
    said, kept, _, _ = socket.recv_fds(launched.control, 64, 1)
    assert said == b"take it"
    launched.kill()

    try:
        assert launched_by_another(victim_image, allowed) == "alive"
    finally:
        os.close(kept[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_flood_of_connections(platform: Platform, victim_image: Path, allowed: frozenset[str]) -> None:
    """Another user opens hundreds of connections: the platform outlives it, and so do its enclaves."""
    daemon = platform.status()["pid"]
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        holder = attacks.as_user(attacks.NOBODY, FLOODER, str(places.mine().socket), str(FLOOD))
        assert holder.strip().isdigit(), holder

        assert enclave.alive() == "alive"
        assert platform.status()["pid"] == daemon


def test_a_flood_of_one_host_that_stays(
    platform: Platform, victim_image: Path, allowed: frozenset[str]
) -> None:
    """One user's connections that stay open: those past the bound are hung up on, nobody's enclave ends."""
    daemon = platform.status()["pid"]
    with load(victim_image, insecure_allow_missing=allowed) as enclave, contextlib.ExitStack() as stack:
        ends = [stack.enter_context(connected()) for _ in range(FLOOD)]
        assert ends[-1].recv(1) == b""

        assert enclave.alive() == "alive"
    assert status_once_free(platform)["pid"] == daemon


@pytest.mark.parametrize(
    "data",
    [b"[]", b"7", b"null", b"[" * 16000, b'{"op": "launch", "allow_missing": {}}', b'{"op": []}', b"\xff{"],
    ids=["list", "number", "null", "deep", "object", "op", "no text"],
)
def test_requests_of_other_shapes(platform: Platform, data: bytes) -> None:
    """A malformed request is refused or disconnected, without a failure in the platform's log."""
    log = places.mine().runtime / "platform.log"
    before = log.read_bytes().count(b"Traceback")
    with connected() as end:
        end.send(data)
        answer = end.recv(4096)
    assert not answer or json.loads(answer)["error"] in {"UsageError", "FormatError"}
    assert log.read_bytes().count(b"Traceback") == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see another process's descriptors")
@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\0"], ids=["empty", "list", "object", "zero"])
def test_descriptors_that_no_request_has(platform: Platform, data: bytes) -> None:
    """Whatever comes with descriptors, none of them stays in the platform: their number has a bound."""
    held = Path(f"/proc/{platform.status()['pid']}/fd")
    reading, writing = os.pipe()
    pipe = os.readlink(f"/proc/self/fd/{reading}")
    try:
        with connected() as end:
            socket.send_fds(end, [data], [reading] * 9)
            end.recv(4096)
        until = time.monotonic() + SECONDS
        while pipe in targets(held) and time.monotonic() < until:  # it answers first, and closes them then
            time.sleep(0.01)
        assert pipe not in targets(held)
    finally:
        os.close(reading)
        os.close(writing)


def test_an_image_that_is_no_file(platform: Platform) -> None:
    """A pipe given as the image is refused, and no thread of the platform waits for its bytes."""
    reading, writing = os.pipe()
    try:
        with connected() as end:
            socket.send_fds(end, [b'{"op": "launch"}'], [reading])
            answer = json.loads(end.recv(4096))
    finally:
        os.close(reading)
        os.close(writing)
    assert answer["error"] == UsageError.__name__
    assert answer["message"] == "image: want a regular file"


def test_images_of_very_many_files(platform: Platform, victim: EnclaveProxy, tmp_path: Path) -> None:
    """Indexes that would fill the platform's memory, several at once: they are refused, and others go on."""
    empty = sha256(b"").hex()
    entries = [layers.Entry(0o444, 0, f"{number:06}{'x' * 190}", empty, 0) for number in range(199_000)]
    index = canonical.encode(entries)
    reference = manifest.LayerReference(0, layers.digest(index).hex(), len(index), "/k/app", "app")
    head = samples.image({"app": []}, layers=[reference]).removesuffix(b"[]" + bytes(8))[:-8]
    (tmp_path / "image").write_bytes(head + len(index).to_bytes(8, "little") + index + bytes(8))

    def launch(_: int) -> dict[str, Any]:
        with connected() as end, (tmp_path / "image").open("rb") as image:
            socket.send_fds(end, [b'{"op": "launch"}'], [image.fileno()])
            return dict(json.loads(end.recv(64 * 1024)))

    before = platform.status()["pid"]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(launch, range(6)))
    assert {each["message"].partition(",")[0] for each in answers} == {
        f"image: want indexes of at most {holding.MOST_INDEX_BYTES} bytes"
    }
    assert victim.evidence(bytes(32)).quote
    assert platform.status()["pid"] == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to see another process's descriptors")
def test_an_enclave_finds_the_four_descriptors_it_is_meant_to(
    platform: Platform, victim_image: Path, allowed: frozenset[str]
) -> None:
    """No descriptor of the platform's or the spawner's comes along into an enclave."""
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        assert enclave.alive() == "alive"
        held = {int(name) for name in os.listdir(f"/proc/{enclave.pid}/fd")}
    assert held <= set(range(7)), held


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_cannot_hold_the_start_up(platform: Platform) -> None:
    """The lock that starts take is not another user's to take."""
    said = attacks.as_user(
        attacks.NOBODY, "import sys;open(sys.argv[1])", str(places.mine().runtime / "start.lock")
    )
    assert "PermissionError" in said
    assert start.answers(places.mine())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_does_not_list_the_enclaves(platform: Platform, victim: EnclaveProxy) -> None:
    """A user gets only the enclaves that they started; root gets all."""
    ask = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect(sys.argv[1])\n"
        's.send(b\'{"op": "enclaves"}\')\n'
        "print(s.recv(1 << 18).decode())\n"
    )
    said = json.loads(attacks.as_user(attacks.NOBODY, ask, str(platform.places.socket)))
    assert said["enclaves"] == []
    assert victim.pid in [each["pid"] for each in platform.enclaves()]
