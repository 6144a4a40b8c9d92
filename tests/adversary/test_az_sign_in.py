"""Commands of ``kluis az`` at once, before the first sign-in: all must reach Azure's command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from kluis.serve.cloud import lock, processes, record
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Run, Service

FAKE = """#!/bin/sh
# Azure's command line: it keeps its configuration in the folder that it is given, and takes a while.
mkdir -p "$AZURE_CONFIG_DIR"
case "$1 $2" in
    "cloud register") sleep 0.1; touch "$AZURE_CONFIG_DIR/registered" ;;
    "login --service-principal")
        test -f "$AZURE_CONFIG_DIR/registered" || exit 4
        touch "$AZURE_CONFIG_DIR/signed-in" ;;
    "keyvault key") test -f "$AZURE_CONFIG_DIR/signed-in" || { echo "Please run az login" >&2; exit 5; } ;;
esac
exit 0
"""


def test_several_at_once(tmp_path: Path) -> None:
    """None removes what another has while it signs in."""
    program = tmp_path / "az"
    program.write_text(FAKE)
    program.chmod(0o755)
    folder = Folder.create(tmp_path / "cloud")
    me = processes.find(os.getpid())
    assert me is not None
    services = (Service("keyvault", "https://127.0.0.1:1", instances=1),)
    environment = {**os.environ, "KLUIS_AZ": str(program), "KLUIS_CLOUD": str(folder.path)}
    command = [str(Path(sys.executable).with_name("kluis")), "az", "keyvault", "key", "list"]
    with lock.occupy(folder):
        record.write(folder, Run(me, "ready", services, issuer="https://127.0.0.1:2", tenant="t"))
        for _ in range(10):
            shutil.rmtree(folder.az, ignore_errors=True)
            several = [
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
                for _ in range(4)
            ]
            said = [one.communicate(timeout=60)[0] for one in several]
            assert [one.returncode for one in several] == [0, 0, 0, 0], said
