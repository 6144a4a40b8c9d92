"""``kluis serve --rekey``: what was kept is there, under another key, and nobody else is at it meanwhile."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.services.running import rekeying
from tests.services.running.served import CODE, Admin, Served, free_ports


def refused(state: Path, *, alone: bool) -> str:
    """What one hears who may not use a folder now."""
    with pytest.raises(UnavailableError) as error, rekeying.held(state, alone=alone):
        pass
    assert error.value.code == "state_in_use"
    return error.value.message.removeprefix(f"{state}: ")


def test_a_folder_that_is_in_use(tmp_path: Path) -> None:
    """Commands share a folder; one that changes keys has it alone, and shares it once it is done."""
    with rekeying.held(tmp_path, alone=False), rekeying.held(tmp_path, alone=False):
        assert refused(tmp_path, alone=True) == "another kluis serve runs here"
    with rekeying.held(tmp_path, alone=True) as hold:
        assert refused(tmp_path, alone=False) == "another kluis serve is changing the stores' keys here"
        hold.share()
        with rekeying.held(tmp_path, alone=False):
            assert refused(tmp_path, alone=True) == "another kluis serve runs here"


@pytest.mark.slow
def test_a_vault_under_another_key(tmp_path: Path) -> None:
    """A key of the vault is there after it, and the database holds nothing that it held.

    While another command runs it is refused; one that is killed in its midst leaves a store that opens.
    """
    services, port = ["attestation", "keyvault"], free_ports()
    with Served(services, tmp_path, port=port) as served:
        with Admin(served.told) as admin:
            assert admin.create_key("one")
        with _started(tmp_path, free_ports()) as late:
            assert late.wait(60) == 7
            assert late.stderr is not None
            assert "another kluis serve runs here" in late.stderr.read()
        assert served.stop() == 0
    before = _kept(tmp_path)
    with _started(tmp_path, port) as killed:
        assert killed.stderr is not None
        assert any("sealing what keyvault" in line for line in killed.stderr)
        os.killpg(killed.pid, signal.SIGKILL)
    with Served(services, tmp_path, "--rekey", port=port) as served:
        assert any("keyvault: " in line and "no copy of the old key" in line for line in served.log)
        with Admin(served.told) as admin:
            assert admin.key("one").status_code == 200
            assert admin.create_key("two")
        assert served.stop() == 0
    assert before
    assert not before & _kept(tmp_path)


def _started(state: Path, port: int) -> subprocess.Popen[str]:
    """The command that changes keys, on its way."""
    line = [sys.executable, "-c", CODE, "serve", "attestation", "keyvault", "--rekey"]
    where = ["--state", str(state), "--port", str(port)]
    return subprocess.Popen(
        [*line, *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _kept(state: Path) -> set[bytes]:
    """Ids and sealed values, and sealed keys, of every store."""
    with closing(sqlite3.connect(state / "services.db")) as database:
        found = database.execute("SELECT id, value FROM records").fetchall()
        keys = database.execute("SELECT sealed FROM keys").fetchall()
    return {part for row in (*found, *keys) for part in row}
