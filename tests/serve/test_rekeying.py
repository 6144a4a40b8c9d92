"""``kluis serve --rekey``: what was kept is there, under another key, and nobody else is at it meanwhile."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.serve import rekeying
from kluis.serve.store import Database
from tests.databases import database_url, postgres
from tests.serve.served import CODE, Admin, Served, free_ports

__all__ = ["database_url", "postgres"]


def refused(state: Path, *, exclusive: bool) -> str:
    """What one hears who may not use a folder now."""
    with pytest.raises(UnavailableError) as error, rekeying.hold(state, exclusive=exclusive):
        pass
    assert error.value.code == "state_in_use"
    return error.value.message.removeprefix(f"{state}: ")


def test_a_folder_that_is_in_use(tmp_path: Path) -> None:
    """Commands share a folder; one that changes keys has it exclusively, and shares it once it is done."""
    with rekeying.hold(tmp_path, exclusive=False), rekeying.hold(tmp_path, exclusive=False):
        assert refused(tmp_path, exclusive=True) == "another kluis serve runs here"
    with rekeying.hold(tmp_path, exclusive=True) as hold:
        assert refused(tmp_path, exclusive=False) == "another kluis serve is changing the stores' keys here"
        hold.share()
        with rekeying.hold(tmp_path, exclusive=False):
            assert refused(tmp_path, exclusive=True) == "another kluis serve runs here"


def test_two_folders_at_one_file(tmp_path: Path) -> None:
    """A database's own lock counts like a folder's, and names it; an invalid folder is reported."""
    with rekeying.hold(tmp_path, exclusive=False, file="a.db-lock"), rekeying.hold(tmp_path, exclusive=True):
        with (
            pytest.raises(UnavailableError) as error,
            rekeying.hold(tmp_path, exclusive=True, file="a.db-lock"),
        ):
            pass
        assert error.value.message == f"{tmp_path / 'a.db-lock'}: another kluis serve runs here"
    with pytest.raises(UnavailableError) as error, rekeying.hold(tmp_path / "none", exclusive=False):
        pass
    assert error.value.message == f"{tmp_path / 'none' / 'lock'}: cannot be locked: No such file or directory"
    assert error.value.hint is not None
    assert "--state names a folder that is there, and that can be written" in error.value.hint


def test_two_that_start_make_one_after_the_other(tmp_path: Path) -> None:
    """Missing files of a folder are created once: a second command waits for the first, and reports that."""
    said: list[str] = []
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        def say(line: str) -> None:
            said.append(line)
            waits.set()

        with rekeying.making(tmp_path, say):
            order.append("second")

    thread = threading.Thread(target=second)
    with rekeying.making(tmp_path, said.append):
        thread.start()
        assert waits.wait(300)
        order.append("first")
    thread.join(300)
    assert order == ["first", "second"]
    assert said == [f"waiting for another kluis serve, which starts in {tmp_path}"]


@pytest.mark.slow
def test_a_vault_under_another_key(tmp_path: Path, database_url: str) -> None:
    """A key of the vault is there after it, and the database holds nothing that it held.

    While another command runs it is refused; one that is killed in its midst leaves a store that opens.
    """
    services, port, where = ["attestation", "keyvault"], free_ports(), ("--database", database_url)
    with Served(services, tmp_path, *where, port=port) as served:
        with Admin(served.told) as admin:
            names = [f"key-{number}" for number in range(100)]
            assert all(admin.create_key(name) for name in names)
        with _started(tmp_path, free_ports(), *where) as late:
            assert late.wait(300) == 7
            assert late.stderr is not None
            assert "another kluis serve runs here" in late.stderr.read()
        assert served.stop() == 0
    before = _kept(database_url)
    # An enclave starts, opens its store and gathers; the last of these moments are of the second service.
    for seconds in (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 3.0):
        with _started(tmp_path, port, *where) as killed:
            assert killed.stderr is not None
            said = list(_until("sealing what keyvault", killed.stderr))
            assert "sealing what keyvault" in said[-1], said
            time.sleep(seconds)
            os.killpg(killed.pid, signal.SIGKILL)
    with Served(services, tmp_path, *where, port=port) as served:
        with Admin(served.told) as admin:
            assert [name for name in names if admin.key(name).status_code != 200] == []
        assert served.stop() == 0
    with Served(services, tmp_path, "--rekey", *where, port=port) as served:
        assert any("keyvault: " in line and "no copy of the old key" in line for line in served.log)
        with Admin(served.told) as admin:
            assert [name for name in names if admin.key(name).status_code != 200] == []
            assert admin.create_key("two")
        assert served.stop() == 0
    assert before
    assert not before & _kept(database_url)


@pytest.mark.slow
def test_a_change_of_keys_beside_another_host(tmp_path: Path, database_url: str) -> None:
    """A change of keys from another folder is refused, with the other host's name, unless forced.

    On PostgreSQL only: the other host stops answering then, and goes on once it is restarted.
    """
    services, shared = ["attestation"], database_url.startswith("postgresql")
    here, there, where = tmp_path / "here", tmp_path / "there", ("--database", database_url)
    port = free_ports()
    with Served(services, here, *where, port=port) as served:
        with Admin(served.told) as admin:
            assert admin.set_policy(7)
        elsewhere = free_ports()
        with _started(there, elsewhere, *where, services=services) as late:
            assert late.stderr is not None
            assert late.wait(300) == 7
            found = late.stderr.read()
        if not shared:
            assert "another kluis serve runs here" in found
            return
        assert f"got {platform.node()} (process {served.process.pid}, since " in found
        assert "with --rekey-beside-others, it stops serving" in found
        with _started(there, elsewhere, *where, "--rekey-beside-others", services=services) as other:
            assert other.stderr is not None
            assert any("starting attestation" in line for line in other.stderr)
            with Admin(served.told) as admin:
                assert not admin.set_policy(8)
            other.terminate()
            other.communicate()
            assert other.returncode in {0, 130}  # it served by then, or was about to
        assert served.stop() == 0
    with Served(services, here, *where, port=port) as served, Admin(served.told) as admin:
        assert admin.policy() == 7


def _started(
    state: Path, port: int, *more: str, services: Sequence[str] = ("attestation", "keyvault")
) -> subprocess.Popen[str]:
    """The command that changes keys, on its way."""
    line = [sys.executable, "-c", CODE, "serve", *services, "--rekey"]
    where = ["--state", str(state), "--port", str(port)]
    return subprocess.Popen(
        [*line, *where, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _until(words: str, lines: Iterable[str]) -> Iterator[str]:
    """What is said, to the line with these words."""
    for line in lines:
        yield line
        if words in line:
            return


def _kept(url: str) -> set[bytes]:
    """Ids and sealed values, and sealed keys, of every store."""
    with Database(url) as database, database.transaction() as cursor:
        found = cursor.execute("SELECT id, value FROM records").fetchall()
        keys = cursor.execute("SELECT sealed FROM keys").fetchall()
    return {bytes(part) for row in (*found, *keys) for part in row}
