"""Another user of the machine wants a root of theirs trusted: through the store's files, folders or links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis import trust
from kluis.cli.evidence import roots
from kluis.cli.main import run
from kluis.errors import UnavailableError, UsageError
from kluis.evidence import ProtectionLevel
from kluis.trust import guarded
from tests.evidence.forge import Forge

FORGE, EVIL = Forge(), Forge()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one good root."""
    folder = tmp_path / "config" / "trust"
    trust.add(folder, "lab", FORGE.authority.root_pem(), ProtectionLevel.PROCESS)
    return folder


def _refused(store: Path, message: str) -> None:
    """Neither reading, adding nor removing trusts the store."""
    for use in (
        lambda: trust.anchors(store),
        lambda: trust.add(store, "evil", EVIL.authority.root_pem(), ProtectionLevel.PROCESS),
    ):
        with pytest.raises(UnavailableError) as error:
            use()
        assert message in error.value.message, error.value.message
        assert error.value.code in ("trust_unsafe", "unavailable")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write(store: Path, mode: int) -> None:
    """A root in a file that a group or all may write is not trusted."""
    (store / "lab.toml").chmod(mode)
    _refused(store, f"{store / 'lab.toml'}: want a mode that only its owner may write, got {mode:04o}")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_may_write(store: Path, mode: int) -> None:
    """In a folder that others may write, they add a root; the sticky bit does not keep them from that."""
    store.chmod(mode)
    _refused(store, f"{store}: want a mode that only its owner may write, got {mode:04o}")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_above_that_others_may_write(store: Path, mode: int) -> None:
    """Others replace the whole store where they may write the folder of it."""
    store.parent.chmod(mode)
    _refused(store, f"{store.parent}: want a mode that only its owner may write, got {mode:04o}")


def test_a_folder_far_above_that_others_may_write(tmp_path: Path) -> None:
    """Each folder up to the root is checked; one with the sticky bit, as /tmp, is accepted there."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    store = shared / "home" / "config" / "trust"
    trust.add(store, "lab", FORGE.authority.root_pem(), ProtectionLevel.PROCESS)
    assert [root.name for root in trust.load(store)] == ["lab"]
    shared.chmod(0o777)
    _refused(store, f"{shared}: want a mode that only its owner may write, got 0777")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_files_of_another_user(store: Path) -> None:
    """A file or a folder of another user is not trusted, whatever its mode."""
    for path in (store / "lab.toml", store, store.parent):
        os.chown(path, 65534, -1)
        _refused(store, f"{path}: want owner 0, got owner 65534")
        os.chown(path, 0, -1)
    assert len(trust.load(store)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_folder_far_above_of_another_user(tmp_path: Path, mode: int) -> None:
    """The owner of a folder can replace every entry in it; the sticky bit keeps only others from that."""
    theirs = tmp_path / "theirs"
    store = theirs / "home" / "config" / "trust"
    trust.add(store, "lab", FORGE.authority.root_pem(), ProtectionLevel.PROCESS)
    theirs.chmod(mode)
    os.chown(theirs, 65534, -1)
    _refused(store, f"{theirs}: want owner 0, got owner 65534")


def test_a_link_for_a_file(store: Path, tmp_path: Path) -> None:
    """A link in the place of a root is not followed."""
    (store / "lab.toml").rename(tmp_path / "elsewhere.toml")
    (store / "lab.toml").symlink_to(tmp_path / "elsewhere.toml")
    _refused(store, f"{store / 'lab.toml'}: want a regular file, got a link")


@pytest.mark.parametrize("which", [lambda store: store, lambda store: store.parent], ids=["store", "above"])
def test_a_link_for_a_folder(store: Path, tmp_path: Path, which: Callable[[Path], Path]) -> None:
    """A link in the place of the store, or of the folder of it, is not followed."""
    place = which(store)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    _refused(store, f"{place}: want a folder, got a link")


def test_a_link_above_leads_to_what_is_checked(tmp_path: Path) -> None:
    """A link further above is followed, and the folders that it leads through are checked, too."""
    real, home = tmp_path / "real", tmp_path / "home"
    real.mkdir()
    home.symlink_to(real)
    store = home / "config" / "trust"
    trust.add(store, "lab", FORGE.authority.root_pem(), ProtectionLevel.PROCESS)
    assert len(trust.load(store)) == 1
    real.chmod(0o777)
    _refused(store, f"{real}: want a mode that only its owner may write, got 0777")


def test_a_pipe_for_a_file(store: Path) -> None:
    """A FIFO in the place of a root is refused, and nobody waits for its writer."""
    (store / "lab.toml").unlink()
    os.mkfifo(store / "lab.toml")
    _refused(store, f"{store / 'lab.toml'}: want a regular file, got another thing")


def test_a_file_for_the_store(store: Path) -> None:
    """A file in the place of the store is refused."""
    (store / "lab.toml").unlink()
    store.rmdir()
    store.touch()
    with pytest.raises(UnavailableError, match="want a folder, got"):
        trust.load(store)


def test_a_system_without_owners(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where owners and modes cannot be checked, a store is refused; without one, there is none to refuse."""
    monkeypatch.setattr(guarded, "POSIX", False)
    _refused(store, f"{store}: want a system whose files have owners and modes, got posix")
    assert trust.load(store.parent / "none") == ()


def test_a_file_named_like_a_trusted_root(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the current folder, which came with evidence, does not take a trusted root's place."""
    monkeypatch.setenv("KLUIS_CONFIG", str(store.parent))
    monkeypatch.chdir(tmp_path)
    assert roots.one(Path("lab")).strip() == FORGE.authority.root_pem().strip()
    (tmp_path / "lab").write_bytes(EVIL.authority.root_pem())
    with pytest.raises(UsageError, match="got a file and a trusted root of this name") as caught:
        roots.one(Path("lab"))
    assert caught.value.hint is not None
    assert str(tmp_path / "lab") in caught.value.hint
    assert roots.one(tmp_path / "lab") == EVIL.authority.root_pem()


def test_every_command_refuses_an_unsafe_store(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that others may write stops verification, also of evidence that needs no root of it."""
    monkeypatch.setenv("KLUIS_CONFIG", str(store.parent))
    (tmp_path / "quote.bin").write_bytes(FORGE.quote())
    (tmp_path / "quote.bin.collateral.json").write_bytes(FORGE.collateral().to_json())
    (tmp_path / "root.pem").write_bytes(FORGE.authority.root_pem())
    now = ["--now", "2026-06-01T12:00:00Z"]
    assert run(["verify", str(tmp_path / "quote.bin"), *now]) == 0
    (store / "lab.toml").chmod(0o666)
    assert run(["verify", str(tmp_path / "quote.bin"), *now]) == 7
    assert "kluis: code: trust_unsafe (kluis explain trust_unsafe)\n" in capsys.readouterr().err
    assert run(["trust", "list"]) == 7
    # A root that is named on the command line needs no store.
    assert run(["verify", str(tmp_path / "quote.bin"), *now, "--root", str(tmp_path / "root.pem")]) == 0
