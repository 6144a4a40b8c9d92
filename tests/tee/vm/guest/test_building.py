"""The same packages give the same bytes, and a guest whose files were changed is refused."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from kluis.errors import AuthenticityError, FormatError, UnavailableError, UsageError
from kluis.tee.vm.guest import Guest, verity
from tests.tee.vm.guest import made

pytestmark = made.tools


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked package of a kernel."""
    return made.kernel(tmp_path_factory.mktemp("kernel") / "root")


@pytest.fixture
def guest(tmp_path: Path, unpacked: Path) -> Guest:
    """A small guest."""
    return made.guest(tmp_path / "guest", unpacked)


def test_clock_umask_folder_and_order_do_not_count(tmp_path: Path, unpacked: Path) -> None:
    """Two builds agree byte for byte, in other folders, at another second, with another umask."""
    one = made.guest(tmp_path / "one", unpacked)
    started = int(time.time())
    while int(time.time()) == started:
        time.sleep(0.05)
    old = os.umask(0o077)
    try:
        other = made.guest(tmp_path / "deep/er/other", unpacked, made.ROOT[::-1])
    finally:
        os.umask(old)
    assert one.digests == other.digests
    assert (tmp_path / "one/guest.json").read_bytes() == (tmp_path / "deep/er/other/guest.json").read_bytes()
    for part in one.paths:
        assert one.paths[part].read_bytes() == other.paths[part].read_bytes(), part
        assert one.paths[part].stat().st_mode == other.paths[part].stat().st_mode


def test_content_counts(tmp_path: Path, unpacked: Path, guest: Guest) -> None:
    """One byte of one file gives another root hash, command line and unified image."""
    changed = (made.sources.of_bytes("etc/passwd", b"root:y:0:0::/:/nonexistent\n"), *made.ROOT[1:])
    other = made.guest(tmp_path / "other", unpacked, changed)
    assert guest.command_line != other.command_line
    assert {part for part in guest.digests if guest.digests[part] != other.digests[part]} == {
        "root",
        "unified",
    }


def test_a_guest_that_is_there_is_not_built_again(unpacked: Path, guest: Guest) -> None:
    """The same inputs leave intact files as they are; a changed file or input is built again."""
    folder, written = guest.root.parent, guest.root.stat()
    assert made.guest(folder, unpacked) == guest
    assert (guest.root.stat().st_ino, guest.root.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    whole = guest.initrd.read_bytes()
    guest.initrd.write_bytes(whole + b"\0")
    assert made.guest(folder, unpacked) == guest
    assert guest.initrd.read_bytes() == whole
    mode = (made.sources.of_bytes("etc/passwd", made.ROOT[0].read(), 0o600), *made.ROOT[1:])
    assert made.guest(folder, unpacked, mode).digests["root"] != guest.digests["root"]


def test_the_command_line_has_the_root_hash(guest: Guest) -> None:
    """What the command line states is true of the root file system and its tree."""
    option = guest.command_line.split()[-1]
    name, _, value = option.partition("=")
    root_hash, _, blocks = value.partition(":")
    assert name == "kluis.root"
    with guest.root.open("rb") as f:
        assert verity.check(f, bytes.fromhex(root_hash), int(blocks))
    assert (guest.description.root_hash, guest.description.blocks) == (root_hash, int(blocks))


def test_the_root_is_as_collected(tmp_path: Path, guest: Guest) -> None:
    """The file system's own tool finds the files, root's and of 1970, and the folders to mount on."""
    subprocess.run(
        ["fsck.erofs", f"--extract={tmp_path / 'out'}", guest.root], check=True, capture_output=True
    )
    found = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*")}
    for file in made.ROOT:
        assert found[file.path].read_bytes() == file.read()
        assert found[file.path].stat().st_mode & 0o777 == file.mode
        assert found[file.path].stat().st_mtime == 0
    assert {"dev", "proc", "sys", "run", "tmp", "var"} <= set(found)
    assert guest.root.read_bytes()[1024 + 64 :][:6] == b"kluis\0"  # the name by which the init finds it


@pytest.mark.parametrize("part", ["kernel", "initrd", "root", "unified"])
def test_a_changed_file_is_refused(guest: Guest, part: str) -> None:
    """One changed bit of any file is named with both hashes."""
    path = guest.paths[part]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(AuthenticityError) as refused:
        Guest.open(path.parent)
    assert refused.value.message.startswith(f"{path}: want SHA-256 {guest.digests[part].hex()}, got ")
    assert Guest.open(path.parent, check=False).digests == guest.digests


def test_a_guest_is_opened_as_built(guest: Guest) -> None:
    """Opening gives what building gave."""
    assert Guest.open(guest.root.parent) == guest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digests": {"kernel": "00" * 32}}, "digests: want kernel, initrd, root, unified"),
        ({"command_line": ""}, "command_line: want 1..2047 ASCII characters"),
        ({"command_line": "x" * 2048}, "command_line: want 1..2047 ASCII characters"),
        ({"command_line": "\u00e9"}, "command_line: want 1..2047 ASCII characters"),
        ({"more": 1}, "Object contains unknown field `more`"),
        ({"blocks": "1"}, "Expected `int`, got `str` - at `$.blocks`"),
    ],
)
def test_a_malformed_description_is_refused(guest: Guest, change: dict[str, object], message: str) -> None:
    """The error has the file and the member."""
    path = guest.root.parent / "guest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError) as refused:
        Guest.open(path.parent, check=False)
    assert refused.value.message == f"{path}: {message}"


def test_a_digest_that_is_none_is_refused(guest: Guest) -> None:
    """A digest is 64 hex digits."""
    path = guest.root.parent / "guest.json"
    content = json.loads(path.read_text())
    content["digests"]["root"] = "00"
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match="want 64 hex digits, got '00'"):
        Guest.open(path.parent, check=False)


def test_a_folder_without_a_guest_is_named(tmp_path: Path) -> None:
    """The hint builds one there; a description that is too large is not read."""
    with pytest.raises(UsageError) as refused:
        Guest.open(tmp_path)
    assert refused.value.hint == f"kluis vm guest build -o {tmp_path}"
    (tmp_path / "guest.json").write_bytes(bytes((64 << 10) + 1))
    with pytest.raises(FormatError, match="want at most 65536 bytes, got more"):
        Guest.open(tmp_path)


def test_a_failed_build_leaves_no_description(tmp_path: Path, unpacked: Path, guest: Guest) -> None:
    """A build that fails over an older guest does not leave the older one's description."""
    twice = (*made.ROOT, made.sources.of_bytes("etc/passwd/under", b""))
    with pytest.raises(UnavailableError):
        made.guest(guest.root.parent, unpacked, twice)
    assert not (guest.root.parent / "guest.json").exists()
    assert {path.name for path in guest.root.parent.iterdir()} == {
        "vmlinuz", "initrd", "root.erofs", "kluis.efi"
    }  # fmt: skip
