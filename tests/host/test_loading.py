"""Images started in the process TEE: what holds for a rehearsal holds for the real thing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kluis import appraisal
from kluis.enclave import LocalReport
from kluis.errors import (
    CallCancelled,
    CallTimeout,
    EnclaveDied,
    FormatError,
    KluisError,
    PolicyError,
    RemoteError,
    UsageError,
)
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host import Ecall, EnclaveProxy, load
from kluis.host.loading import interface_of
from kluis.tee.backend import Backend
from kluis.tee.image.archive import MAGIC
from tests.images import ALLOWED, built

__all__ = ["built"]

EXAMPLES = Path(__file__).parents[2] / "examples"
Build = Callable[..., Path]


@pytest.fixture
def image(built: Build) -> Path:
    """An image with a heap that is easily filled."""
    return built(Path(__file__).parent / "contained")


@pytest.fixture
def running(image: Path, backend: Backend) -> Iterator[EnclaveProxy]:
    """It runs."""
    ask = {"ask": lambda question: 3 * question}
    with load(image, ocalls=ask, insecure_allow_missing=ALLOWED, platform=backend) as one:
        yield one


def test_calls(running: EnclaveProxy) -> None:
    """Arguments, large ones too, results, ocalls, exceptions."""
    assert running.add(3) == 5
    assert running.echo(b"x" * 3_000_000) == b"x" * 3_000_000
    assert running.through(5) == 15
    with pytest.raises(RemoteError) as raised:
        running.leak()
    assert raised.value.message == "ValueError"


def test_memory_runs_out(running: EnclaveProxy) -> None:
    """Filling the heap is an error outside, within seconds, and the memory comes back."""
    for _ in range(3):
        fails_for_want_of_memory(running, running.fill)


@pytest.mark.slow
def test_memory_runs_out_in_small_pieces(running: EnclaveProxy) -> None:
    """So it is where the heap is filled by millions of small objects."""
    for _ in range(2):
        fails_for_want_of_memory(running, running.fill_with_small_things)


def fails_for_want_of_memory(running: EnclaveProxy, fill: Ecall) -> None:
    with pytest.raises(RemoteError) as raised:
        fill.within(300 * running._process.slowness)()
    assert raised.value.message == "MemoryError: the enclave's heap is full"
    assert running.echo(b"x" * 3_000_000) == b"x" * 3_000_000


def test_many_at_once(running: EnclaveProxy) -> None:
    """Concurrent calls with ocalls, each to its own answer."""
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(running.through, range(100))) == [3 * i for i in range(100)]


def test_stops_what_takes_too_long(running: EnclaveProxy) -> None:
    """Timeouts and cancellation reach into the process TEE."""
    with pytest.raises(CallTimeout):
        running.spin.within(0.2)(3600)
    call = running.spin.submit(3600)
    time.sleep(0.1)
    call.cancel()
    with pytest.raises(CallCancelled):
        call.result(300)
    for _ in range(10):
        assert running.add.within(300)(1) == 3


def test_sealing_and_counting(image: Path, running: EnclaveProxy, backend: Backend) -> None:
    """A second launch opens what the first sealed, and the counter goes on."""
    blob = running.keep(b"secret")
    before = running.count("runs", True)
    with load(image, insecure_allow_missing=ALLOWED, platform=backend) as second:
        assert second.take(blob) == b"secret"
        assert second.count("runs", True) == (before[0] + 1, "unwitnessed")


def test_ends_with_its_host(image: Path, backend: Backend) -> None:
    """Closing ends the process, a call that waits raises, and nothing is left."""
    one = load(image, insecure_allow_missing=ALLOWED, platform=backend)
    call = one.spin.submit(3600)
    time.sleep(0.1)
    one.close()
    with pytest.raises(EnclaveDied):
        call.result(300)
    end = time.monotonic() + 120
    while Path(f"/proc/{one.pid}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{one.pid}").exists()


def policy(enclave: EnclaveProxy, **changes: object) -> appraisal.Policy:
    levels = frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER})
    options: dict[str, object] = {
        "protection": levels,
        "purpose": Purpose.CLI,
        "counters": frozenset({"unwitnessed"}),
        "missing": ALLOWED,
        "emulated_roots": ("root.pem",),
    }
    identity = appraisal.ByImage(image_ids=frozenset({enclave.image_id}))
    return appraisal.strict(identity, **(options | changes))  # type: ignore[arg-type]


def test_attests(running: EnclaveProxy) -> None:
    """The enclave proves what it is; under another policy it raises, naming what failed."""
    result = running.attest(policy(running))
    assert result.claims.measurement.value == running.image_id
    with pytest.raises(PolicyError, match="protection: want hardware-sgx, got process"):
        running.attest(policy(running, protection=frozenset({ProtectionLevel.HARDWARE_SGX})))
    with pytest.raises(PolicyError, match="purpose: want release-key, got cli"):
        running.attest(policy(running, purpose=Purpose.RELEASE_KEY))


def test_local_attestation(built: Build, backend: Backend) -> None:
    """The example: B knows A by its report, once, and refuses one with a changed bit."""
    first_image = built(EXAMPLES / "local_attestation" / "first")
    second_image = built(EXAMPLES / "local_attestation" / "second")
    with (
        load(first_image, insecure_allow_missing=ALLOWED, platform=backend) as first,
        load(second_image, insecure_allow_missing=ALLOWED, platform=backend) as second,
    ):
        target, nonce = second.challenge()
        made = first.introduce(target, nonce)
        peer = second.meet(made, nonce)
        assert (peer.measurement, peer.payload) == (first.image_id, b"hello from the first")
        assert not peer.debug
        with pytest.raises(RemoteError, match=r"^PermissionError(?m:$)"):
            second.meet(made, nonce)
        target, nonce = second.challenge()
        good = first.introduce(target, nonce)
        bad = LocalReport(good.report[:-1] + bytes([good.report[-1] ^ 1]), good.runtime_data)
        with pytest.raises(RemoteError, match="not made on this platform for this enclave"):
            second.meet(bad, nonce)


def test_no_image(tmp_path: Path) -> None:
    """A missing file and a file that is not an image are reported as such."""
    with pytest.raises(UsageError, match="No such file") as refused:
        load(tmp_path / "none.kluis")
    assert refused.value.hint == "kluis build DIR -o FILE --key KEY makes one"
    (tmp_path / "text.kluis").write_text("not an image")
    for start in (load, interface_of):
        with pytest.raises(FormatError, match="is no image"):
            start(tmp_path / "text.kluis")


def test_the_head_of_an_image_is_read_as_a_launch_reads_it(tmp_path: Path) -> None:
    """A head that is cut short, or longer than a launch accepts, is refused with the name of its file."""
    image = tmp_path / "cut.kluis"
    for length, said in ((4, "needs 4 bytes, 0 left"), (1 << 21, "want at most 1048576 bytes, got 2097152")):
        image.write_bytes(MAGIC if length == 4 else MAGIC + length.to_bytes(4, "little") + bytes(length))
        with pytest.raises(FormatError, match=said) as refused:
            interface_of(image)
        assert refused.value.message.startswith(f"image {image}.manifest")


def test_changed_image(built: Build, tmp_path: Path, backend: Backend) -> None:
    """With any part of it changed or cut, an image does not start; whole, it does."""
    folder = tmp_path / "contained"
    shutil.copytree(Path(__file__).parent / "contained", folder)
    with (folder / "app.py").open("a") as file:
        file.write(f"# a layer that the platform holds no good copy of: {tmp_path}\n")
    image = built(folder)
    good = image.read_bytes()
    changed = tmp_path / "changed.kluis"
    for offset in (30, 1500, 4000, good.index(b"def add(a: int")):
        data = bytearray(good)
        data[offset] ^= 1
        changed.write_bytes(data)
        with pytest.raises(KluisError) as refused:
            load(changed, insecure_allow_missing=ALLOWED, platform=backend)
        assert refused.value.exit_code in {3, 4}
    changed.write_bytes(good[: len(good) // 2])
    with pytest.raises(FormatError):
        load(changed, insecure_allow_missing=ALLOWED, platform=backend)
    with load(image, insecure_allow_missing=ALLOWED, platform=backend) as whole:
        assert whole.add(1) == 3


IDLE = """
import resource, time
from kluis.enclave import Enclave

app = Enclave("idle")


def touched() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    time.sleep(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


AT_START = touched()


@app.ecall
def at_start() -> int:
    return AT_START


@app.ecall
def since() -> int:
    return touched()
"""


def test_pages_are_touched_ahead_once_it_is_ready(tmp_path: Path, built: Build, backend: Backend) -> None:
    """A start is not slowed: its pages of secret memory are touched ahead when it is over, and not before."""
    (tmp_path / "app.py").write_text(IDLE)
    with load(built(tmp_path), insecure_allow_missing=ALLOWED, platform=backend) as running:
        assert running.at_start() < 100
        while running.since() < 100:
            pass
