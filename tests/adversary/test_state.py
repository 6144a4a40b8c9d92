"""The platform's state is written to, opened to others, or rolled back while the platform is stopped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import RemoteError, UnavailableError
from kluis.host import load
from kluis.tee import places
from kluis.tee.image.build.builder import build
from kluis.tee.platform import start
from kluis.tee.platform.client import Platform
from tests.adversary import attacks

HERE = Path(__file__).parent


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home for a platform of only this test."""
    directory = Path("/run" if os.geteuid() == 0 else tmp_path) / f"kluis-state-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    monkeypatch.setenv("KLUIS_HOME", str(directory))
    yield directory
    stop()
    shutil.rmtree(directory, ignore_errors=True)


def stop() -> None:
    """Stop the test's platform and see it gone."""
    pid = start.ask(places.mine(), {"op": "status"})["pid"] if start.answers(places.mine()) else 0
    start.stop(places.mine())
    if pid:
        assert attacks.gone_within(pid, attacks.SOON)


def test_restored_state_is_labelled(
    own: Path, victim_image: Path, allowed: frozenset[str], tmp_path: Path
) -> None:
    """A restored state directory sets a counter back: it is seen to work, and the label said so all along."""
    Platform(start.start())
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        assert enclave.count("money", True) == ["1", "unwitnessed"]
        stop_copy = tmp_path / "older"
        shutil.copytree(own / "state", stop_copy, symlinks=True)
        assert enclave.count("money", True) == ["2", "unwitnessed"]
    stop()
    owner = (own / "state").stat()
    shutil.rmtree(own / "state")
    shutil.copytree(stop_copy, own / "state")
    for path in [own / "state", *(own / "state").rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
    Platform(start.start())
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        assert enclave.count("money", False) == ["1", "unwitnessed"]


def test_counter_survives_a_restart(own: Path, victim_image: Path, allowed: frozenset[str]) -> None:
    """An increment that was answered is there after a restart, and what was sealed opens."""
    Platform(start.start())
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        enclave.count("visits", True)
        sealed = enclave.keep(b"for later", "measurement")
    stop()
    Platform(start.start())
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        assert enclave.count("visits", True)[0] == "2"
        assert enclave.give(sealed) == b"for later"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_another_user_raises_a_counter(
    home: Path, victim_image: Path, allowed: frozenset[str], platform: Platform
) -> None:
    """Whoever starts the image on its platform raises a counter whose name is known: it is the image's."""
    name = os.urandom(8).hex()
    copy = Path(shutil.copy(victim_image, home / "victim.kluis"))
    copy.chmod(0o644)
    with load(copy, insecure_allow_missing=allowed) as enclave:
        assert enclave.count(name, True)[0] == "1"
    os.seteuid(attacks.NOBODY)
    try:
        with load(copy, insecure_allow_missing=allowed) as enclave:
            assert enclave.count(name, True)[0] == "2"
    finally:
        os.seteuid(0)
    with load(copy, insecure_allow_missing=allowed) as enclave:
        assert enclave.count(name, False)[0] == "2"


def test_changed_sealed_blob(victim_image: Path, allowed: frozenset[str], platform: Platform) -> None:
    """A sealed blob with any byte changed does not open; the refusal always has the same text."""
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        sealed = enclave.keep(b"a secret", "measurement")
        said = set()
        for at in range(0, len(sealed), 7):
            flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            with pytest.raises(RemoteError) as refused:
                enclave.give(flipped)
            said.add(refused.value.type_name)
        assert enclave.give(sealed) == b"a secret"
    assert said <= {"AuthenticityError", "FormatError", "UnsupportedError", "PolicyError", "UsageError"}


def test_state_open_to_others_is_refused(own: Path) -> None:
    """A state directory that others can enter: no start, and the command that fixes it."""
    Platform(start.start())
    stop()
    (own / "state").chmod(0o755)

    with pytest.raises(UnavailableError, match="mode: want 0700, got 0755") as refused:
        start.start()
    assert refused.value.hint == f"chmod 0700 {own / 'state'}"
    (own / "state").chmod(0o700)


def test_secret_open_to_others_is_refused(own: Path) -> None:
    """A secret file that others can read: the platform does not start."""
    Platform(start.start())
    stop()
    (own / "state" / "platform.secret").chmod(0o644)

    with pytest.raises(UnavailableError, match=r"platform\.secret"):
        start.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_reads_no_state(own: Path) -> None:
    """Another user does not get into the state directory."""
    Platform(start.start())
    said = attacks.as_user(attacks.NOBODY, "import os,sys;os.listdir(sys.argv[1])", str(own / "state"))

    assert "PermissionError" in said


ASKS = """
import socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(sys.argv[1])
for op in ("revoke", "recover", "certify", "enrolment", "adopt"):
    connection.send(b'{"op":"%s","advisories":[],"new_keys":true}' % op.encode())
    print(connection.recv(65536).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_gives_no_orders(own: Path) -> None:
    """A user who may launch enclaves gives no orders about the platform's certificates."""
    platform = Platform(start.start())
    before = platform.status()
    said = attacks.as_user(attacks.NOBODY, ASKS, str(own / "run" / "platform.sock"))

    assert said.count('"code": "platform_user"') == 5, said
    assert [platform.status()[name] for name in ("tcb", "key")] == [before["tcb"], before["key"]]


def test_debug_build_does_not_unseal(
    platform: Platform, victim_image: Path, allowed: frozenset[str], tmp_path: Path
) -> None:
    """The same code as a debug build gets another key: what the protected one sealed stays closed."""
    shutil.copy(victim_image.parent / "author.pem", tmp_path / "author.pem")
    build(HERE / "victim", tmp_path / "debug.kluis", tmp_path / "author.pem", debug=True)
    with load(victim_image, insecure_allow_missing=allowed) as enclave:
        by_code, by_signer = enclave.keep(b"secret", "measurement"), enclave.keep(b"secret", "signer")
    with load(tmp_path / "debug.kluis", insecure_allow_missing=allowed) as debug:
        assert debug.level == "none"
        for sealed in (by_code, by_signer):
            with pytest.raises(RemoteError):
                debug.give(sealed)
