"""The emulated authority: it survives a restart, and its files are private to its owner."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kluis import files
from kluis.errors import FormatError, KluisError, UnavailableError
from kluis.formats.encoding import jcs
from kluis.tee import keyfiles
from kluis.tee.platform.root.authority import Authority
from kluis.tee.platform.root.quoting import PlatformKeys

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """An authority at level process."""
    return Authority.create("process", NOW)


def test_saved_and_loaded(authority: Authority, tmp_path: Path) -> None:
    """What is loaded is what was saved, recoveries and revocations included."""
    platform = PlatformKeys.create(authority, NOW)
    authority.save(tmp_path / "ca")
    loaded = Authority.load(tmp_path / "ca")
    assert loaded.state == authority.state
    loaded.recover(cpusvn=bytes([2] * 16), pcesvn=3, advisories=("KLUIS-SA-1",), now=NOW)
    loaded.revoke(platform.chain, NOW)
    loaded.save(tmp_path / "ca")
    again = Authority.load(tmp_path / "ca")
    assert again.state == loaded.state
    assert [level.status for level in again.state.levels] == ["UpToDate", "OutOfDate"]
    assert again.root_pem() == authority.root_pem()
    platform.save(tmp_path / "platform")
    assert PlatformKeys.load(tmp_path / "platform").chain == platform.chain
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_platform_of_another_version(authority: Authority, tmp_path: Path) -> None:
    """A state file of another version is refused."""
    PlatformKeys.create(authority, NOW).save(tmp_path)
    files.write(tmp_path / "platform.json", b'{"version":2}')
    with pytest.raises(FormatError) as caught:
        PlatformKeys.load(tmp_path)
    assert str(caught.value) == "platform.json.version: want one of [1], got 2"


def test_a_damaged_state_file(authority: Authority, tmp_path: Path) -> None:
    """A state file with a missing part is refused, with its name, and nothing is invented for it."""
    authority.save(tmp_path)
    state = json.loads(keyfiles.read(tmp_path / "authority.json"))
    for name in state:
        kept = {key: value for key, value in state.items() if key != name}
        files.write(tmp_path / "authority.json", jcs.dumps(kept))
        with pytest.raises(FormatError) as caught:
            Authority.load(tmp_path)
        assert str(caught.value) == f"authority.json: member {name!r} is missing"
    files.write(tmp_path / "authority.json", jcs.dumps({**state, "certificates": ["one"]}))
    with pytest.raises(FormatError) as caught:
        Authority.load(tmp_path)
    assert str(caught.value) == "authority.json.certificates: want 3, got 1"


def _refused(path: Path) -> tuple[type[KluisError], str]:
    with pytest.raises(KluisError) as caught:
        keyfiles.read(path)
    return type(caught.value), str(caught.value)


def test_files_are_their_owners(tmp_path: Path) -> None:
    """A secret file that others may read, that is a link, missing or large, is not read."""
    path = tmp_path / "secret"
    assert _refused(path) == (UnavailableError, f"{path}: cannot be opened: No such file or directory")
    files.write(path, b"secret")
    assert keyfiles.read(path) == b"secret"
    path.chmod(0o640)
    assert _refused(path) == (UnavailableError, f"{path}: want mode 0600, got 0640")
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert _refused(link) == (UnavailableError, f"{link}: want a regular file, got a link")
    assert _refused(tmp_path) == (UnavailableError, f"{tmp_path}: want a regular file, got another thing")
    files.write(path, bytes((1 << 20) + 1))
    assert _refused(path) == (FormatError, f"{path}: want at most 1048576 bytes, got more")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_of_others(tmp_path: Path) -> None:
    """A file that another user owns is not read: it may have put its own keys there."""
    path = tmp_path / "secret"
    files.write(path, b"secret")
    os.chown(path, 12345, -1)
    assert _refused(path) == (UnavailableError, f"{path}: want owner 0, got 12345")


def test_a_key_file_holds_a_p256_key(tmp_path: Path) -> None:
    """Another kind of key, or noise, is refused, only with its name."""
    path = tmp_path / "pck.key"
    for data in (b"noise", b"\x30\x00"):
        files.write(path, data)
        with pytest.raises(FormatError) as caught:
            keyfiles.load_key(path)
        assert str(caught.value) == f"{path}: want a P-256 private key in PKCS#8 DER"
