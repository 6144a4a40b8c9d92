"""A vTPM's state: read again with the same secret in the same folder, and opened by nothing else."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.tee.doctor import attempts
from kluis.tee.vm.machine import tpm as vtpm
from kluis.tee.vm.machine.tpm import Tpm

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="apt-get install swtpm")
SECRET = bytes(range(32))
CMD_INIT, CMD_SET_DATAFD = 2, 16
SECONDS = 300.0
PASSWORD = bytes.fromhex("00000009 40000009 0000 00 0000")
OWNER, INDEX = bytes.fromhex("40000001"), bytes.fromhex("01800001")
PLANTED = b"what a guest sealed"


class Closed(Exception):
    """The vTPM hung up, or refused to begin."""


class Guest:
    """QEMU's part: begins the vTPM, and sends commands. Spec: swtpm_ioctls(3); TCG, "TPM 2.0 Part 3"."""

    def __init__(self, tpm: Tpm) -> None:
        self.control = socket.socket(fileno=os.dup(tpm.control()))
        self.data, theirs = socket.socketpair()
        for end in (self.control, self.data):
            end.settimeout(SECONDS)
        socket.send_fds(self.control, [CMD_SET_DATAFD.to_bytes(4, "big")], [theirs.fileno()])
        theirs.close()
        self._began(self.control.recv(4))
        self.control.sendall(CMD_INIT.to_bytes(4, "big") + bytes(4))
        self._began(self.control.recv(4))
        self.send(0x144, b"\0\0", sessions=False)

    def _began(self, answer: bytes) -> None:
        if answer != bytes(4):
            self.close()
            raise Closed(answer.hex())

    def close(self) -> None:
        """Hang up."""
        self.control.close()
        self.data.close()

    def send(self, code: int, body: bytes, *, sessions: bool = True) -> bytes:
        """Send a command; its answer's parameters."""
        tag = 0x8002 if sessions else 0x8001
        command = (
            tag.to_bytes(2, "big") + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body
        )
        self.data.sendall(command)
        answer = self.data.recv(4096)
        if int.from_bytes(answer[6:10], "big"):
            raise Closed(answer[6:10].hex())
        return answer[10:]

    def plant(self) -> None:
        """Store the words in an NV index."""
        public = INDEX + bytes.fromhex("000b 02040004 0000") + len(PLANTED).to_bytes(2, "big")
        self.send(0x12A, OWNER + PASSWORD + b"\0\0" + len(public).to_bytes(2, "big") + public)
        self.send(0x137, INDEX + INDEX + PASSWORD + len(PLANTED).to_bytes(2, "big") + PLANTED + b"\0\0")

    def stored(self) -> bytes:
        """Read them."""
        answer = self.send(0x14E, INDEX + INDEX + PASSWORD + len(PLANTED).to_bytes(2, "big") + b"\0\0")
        return answer[6 : 6 + len(PLANTED)]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of a vTPM in which the words are stored."""
    tpm = Tpm.start(tmp_path / "state", SECRET)
    try:
        guest = Guest(tpm)
        guest.plant()
        assert guest.stored() == PLANTED
        guest.close()
    finally:
        tpm.stop()
    return tmp_path / "state"


def _stored(folder: Path, secret: bytes) -> bytes:
    tpm = Tpm.start(folder, secret)
    try:
        guest = Guest(tpm)
        try:
            return guest.stored()
        finally:
            guest.close()
    except (OSError, Closed):
        return b""
    finally:
        tpm.stop()


def test_the_same_folder_and_secret(state: Path) -> None:
    """The state is there at the next start, and in no file in plain."""
    assert all(PLANTED not in path.read_bytes() for path in state.iterdir())
    assert _stored(state, SECRET) == PLANTED


def test_on_another_machine(state: Path) -> None:
    """Another secret opens nothing."""
    assert _stored(state, SECRET[::-1]) == b""


def test_a_clone_next_to_it(state: Path, tmp_path: Path) -> None:
    """A copy of the folder, with the same secret, opens nothing; the original still opens."""
    shutil.copytree(state, tmp_path / "clone")

    assert _stored(tmp_path / "clone", SECRET) == b""
    assert _stored(state, SECRET) == PLANTED


def test_a_clone_with_the_originals_key(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the key that keeps a clone closed: with the original's, the copy opens."""
    shutil.copytree(state, tmp_path / "clone")
    key = vtpm.key_of(state, SECRET)
    monkeypatch.setattr(vtpm, "key_of", lambda *_: key)

    assert _stored(tmp_path / "clone", SECRET) == PLANTED


def test_two_at_once(state: Path) -> None:
    """A second vTPM on the same folder is refused while the first runs, and not after it."""
    first = Tpm.start(state, SECRET)
    try:
        with pytest.raises(UnavailableError, match="another machine uses it") as caught:
            Tpm.start(state, SECRET)
    finally:
        first.stop()

    assert caught.value.exit_code == 7
    assert _stored(state, SECRET) == PLANTED


def test_the_walls(tmp_path: Path) -> None:
    """It has the walls of QEMU, and its key is in no argument."""
    tpm = Tpm.start(tmp_path / "state", SECRET)
    try:
        process = Path(f"/proc/{tpm.pid}")
        key = vtpm.key_of(tmp_path / "state", SECRET)
        assert "TracerPid:\t0" not in (process / "status").read_text()
        if os.geteuid() == 0:
            assert os.listdir(process / "root/state") == os.listdir(tmp_path / "state")
            assert not (process / "root/etc/passwd").exists()
        for what in (key, key.hex().encode(), SECRET, SECRET.hex().encode()):
            assert what not in (process / "cmdline").read_bytes()
    finally:
        tpm.stop()
    assert not process.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root who searches")
def test_root_reads_swtpm(tmp_path: Path) -> None:
    """Its memory is not secret: root finds there what a guest stored."""
    tpm = Tpm.start(tmp_path / "state", SECRET)
    try:
        guest = Guest(tpm)
        guest.plant()
        assert attempts.by_memory_file(tpm.pid, PLANTED).copies > 0
        assert attempts.by_debugger(tpm.pid) == "operation not permitted"
        guest.close()
    finally:
        tpm.stop()


def test_no_swtpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that installs it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        Tpm.start(tmp_path / "state", SECRET)

    assert caught.value.message == "machine: swtpm is not on the PATH"
    assert caught.value.hint == "apt-get install swtpm"


def test_a_secret_of_another_length(tmp_path: Path) -> None:
    """It is refused before anything starts."""
    with pytest.raises(UsageError, match="vTPM secret: want 32 bytes, got 31"):
        Tpm.start(tmp_path / "state", bytes(31))


def test_its_files_are_rolled_back(state: Path, tmp_path: Path) -> None:
    """Not kept out: older files in the same folder are read, and what was removed since is there again."""
    shutil.copytree(state, tmp_path / "older")
    tpm = Tpm.start(state, SECRET)
    try:
        guest = Guest(tpm)
        guest.send(0x122, OWNER + INDEX + PASSWORD)  # TPM2_NV_UndefineSpace
        guest.close()
    finally:
        tpm.stop()
    assert _stored(state, SECRET) == b""

    for path in (tmp_path / "older").iterdir():
        shutil.copyfile(path, state / path.name)
    assert _stored(state, SECRET) == PLANTED
