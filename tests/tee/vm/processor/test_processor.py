"""The emulated processor on a character device: what a guest asks, and what hosts and guests may not say."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import threading
import tty
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis.errors import FormatError, UnavailableError
from kluis.evidence import SnpEndorsements, TrustAnchors, verify
from kluis.formats import x509
from kluis.tee.drivers.emulated import Emulated, find
from kluis.tee.vm.processor import answer, kept, load_or_create
from tests.authority.amd.chips import GUEST, chip, launch

DATA = bytes(range(64))
PROCESSOR = chip(now=datetime.now(UTC))


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A character device whose other end is an emulated processor; with a parameter, its answers."""
    host, guest = pty.openpty()
    tty.setraw(host)
    tty.setraw(guest)
    ours, theirs = socket.socketpair()
    said: bytes | None = getattr(request, "param", None)

    def carry_in() -> None:
        while data := os.read(host, 4096):
            ours.sendall(data)
            if said is not None:
                os.write(host, said)

    def carry_out() -> None:
        while data := ours.recv(4096):
            os.write(host, data)

    def quiet(carry: object) -> None:
        try:
            carry()  # type: ignore[operator]
        except OSError:
            return

    threads = [threading.Thread(target=quiet, args=(carry,), daemon=True) for carry in (carry_in, carry_out)]
    if said is None:
        threads.append(threading.Thread(target=answer, args=(theirs, PROCESSOR, launch()), daemon=True))
    for thread in threads:
        thread.start()
    yield Path(os.ttyname(guest))
    ours.shutdown(socket.SHUT_RDWR)
    os.close(guest)
    for thread in threads:
        thread.join()
    os.close(host)
    ours.close()
    theirs.close()


def test_its_report_verifies(port: Path) -> None:
    """The parts are what the verifier of SEV-SNP reads, under the processor's root alone."""
    driver = Emulated(port)
    assert driver.available() is None
    parts = driver.endorse(DATA)
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates", most=3)
    endorsements = SnpEndorsements(vek=vek, ask=ask, ark=ark, crl=parts["crl"])
    claims = verify(
        parts["report"],
        anchors=TrustAnchors.from_pem(PROCESSOR.root_pem()),
        collateral=endorsements,
        now=datetime.now(UTC),
    ).value
    assert (claims.report_data, claims.measurement.value, str(claims.level)) == (DATA, GUEST, "vm")


def test_its_user_signs_anything(tmp_path: Path) -> None:
    """Anyone who reads its files has evidence of any machine, and no machine runs."""
    kept.save(PROCESSOR, tmp_path / "processor")
    stolen = load_or_create(tmp_path / "processor", datetime.now(UTC))
    vek, ask, ark = x509.split_pem(stolen.certificates(), "certificates", most=3)
    claims = verify(
        stolen.report(launch(), DATA),
        anchors=TrustAnchors.from_pem(PROCESSOR.root_pem()),
        collateral=SnpEndorsements(vek=vek, ask=ask, ark=ark, crl=stolen.crl(datetime.now(UTC))),
        now=datetime.now(UTC),
    ).value
    assert (claims.report_data, claims.measurement.value, str(claims.level)) == (DATA, GUEST, "vm")


def test_its_key_is_this_guests(port: Path) -> None:
    """The same at each request; another guest's processor gives another."""
    key = Emulated(port).seal_secret()
    assert len(key) == 32
    assert Emulated(port).seal_secret() == key
    other = chip().answer_key(launch(measurement=bytes(48)), bytes(8) + (9).to_bytes(8, "little") + bytes(16))
    assert other[32:] != key


@pytest.mark.parametrize("port", [bytes(4000), b"\xff" * 4100], indirect=True)
def test_an_answer_that_is_none(port: Path) -> None:
    """A host that answers something else is refused, with the driver's name."""
    with pytest.raises(UnavailableError, match=r"^emulated: "):
        Emulated(port, seconds=5).endorse(DATA)


@pytest.mark.parametrize("port", [b"\0" * 10], indirect=True)
def test_an_answer_that_is_cut(port: Path) -> None:
    """A host that stalls ends the request, and does not hold the guest for ever."""
    with pytest.raises(UnavailableError, match="want an answer of 4000 bytes, got 10") as caught:
        Emulated(port, seconds=0.2).endorse(DATA)
    assert caught.value.exit_code == 7


def test_an_answer_that_trickles() -> None:
    """A host that keeps sending a little does not hold the guest for ever."""
    reader, writer = os.pipe()
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.05):
            os.write(writer, b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with pytest.raises(UnavailableError, match="want an answer of 4000 bytes, got "):
            Emulated(seconds=0.5)._read(reader, 4000)
    finally:
        ended.set()
        thread.join()
        os.close(reader)
        os.close(writer)


def test_no_port(tmp_path: Path) -> None:
    """A machine without the port, and one whose port has another name."""
    assert find(tmp_path / "none") is None
    (tmp_path / "vport1p1").mkdir()
    (tmp_path / "vport1p1" / "name").write_text("kluis.0\n")
    assert find(tmp_path) is None
    (tmp_path / "vport1p2").mkdir()
    (tmp_path / "vport1p2" / "name").write_text("kluis.psp\n")
    assert find(tmp_path, Path("/dev")) == Path("/dev/vport1p2")
    assert "No such file" in str(Emulated(tmp_path / "none").available())


@pytest.mark.parametrize("sent", [b"\0", b"\4", b"\1" + bytes(95)])
def test_a_guest_that_asks_nothing(sent: bytes) -> None:
    """The processor hangs up at the first byte that begins no request, and at the end of one cut short."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(sent)
        ours.shutdown(socket.SHUT_WR)
        answer(theirs, chip(), launch())
        assert ours.recv(1) == b""


def test_it_is_kept(tmp_path: Path) -> None:
    """The same chip and root after a start; others may not read its files."""
    folder = tmp_path / "processor"
    kept.save(PROCESSOR, folder)
    again = load_or_create(folder, datetime.now(UTC))
    assert (again.chip_id, again.state) == (PROCESSOR.chip_id, PROCESSOR.state)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    (folder / "chip.key").chmod(0o644)
    with pytest.raises(UnavailableError, match="want mode 0600, got 0644"):
        load_or_create(folder, datetime.now(UTC))
    (folder / "chip.key").chmod(0o600)
    (folder / "chip.key").write_bytes(b"short")
    with pytest.raises(FormatError, match="want 32 bytes, got 5"):
        load_or_create(folder, datetime.now(UTC))
    kept.save(PROCESSOR, folder)
    (folder / "ask.key").write_bytes(b"no key")
    with pytest.raises(FormatError, match="want an RSA private key"):
        load_or_create(folder, datetime.now(UTC))


def test_two_that_create_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands that start at once get one processor: no file of one is next to a file of the other."""
    folder, made = tmp_path / "processor", []
    both, now = threading.Barrier(2), datetime.now(UTC)
    ready = [chip(secret=bytes([each]) * 32, now=now) for each in (1, 2)]

    def create(now: datetime, *, secret: bytes) -> object:
        made.append(secret)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1)  # until the other one creates it, too, if it can
        return ready[len(made) - 1]

    monkeypatch.setattr(kept.Processor, "create", create)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: load_or_create(folder, now), range(2)))
    assert len(made) == 1
    assert found[0].chip_id == found[1].chip_id == ready[0].chip_id
