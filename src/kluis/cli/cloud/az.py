"""``kluis az``: Azure's own command line, signed in to the local cloud, with a separate configuration."""

from __future__ import annotations

import contextlib
import fcntl
import json as jsons
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Annotated, Any

from kluis.cli import render
from kluis.cli.cloud import places
from kluis.cli.cloud.places import State
from kluis.cli.parameters import argument
from kluis.errors import UnavailableError
from kluis.serve.cloud import variables
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Run

PROGRAM = "KLUIS_AZ"
CLOUD = "kluis"
MANAGEMENT = "https://management.azure.com"
# What az would otherwise send, ask or install.
SETTINGS = {
    "AZURE_CORE_COLLECT_TELEMETRY": "no",
    "AZURE_CORE_INSTANCE_DISCOVERY": "no",
    "AZURE_CORE_SURVEY_MESSAGE": "no",
    "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
}


def az(
    words: Annotated[list[str], argument("What az is called with.", "ARGUMENT...")], state: State = None
) -> None:
    """Run Azure's command line against the local cloud.

    The first call signs in as the client admin. All that az keeps is in the local cloud's folder: your own
    ~/.azure is neither read nor changed. KLUIS_AZ names the program, if az is not on the PATH.

    For example: kluis az keyvault key list --id "$KLUIS_KEYVAULT_URL"
    """
    program = shutil.which(os.environ.get(PROGRAM) or "az")
    if program is None:
        raise UnavailableError(
            "az: not on the PATH", hint="pip install azure-cli, or KLUIS_AZ=PROGRAM", code="no_az"
        )
    folder, run = places.running(state)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "PYTHON"))},
        **variables.of(folder, run),
        **SETTINGS,
    }
    _sign_in(program, folder, run, environment)
    extra = ["-o", "json"] if render.wants_json() else []
    os.execve(program, [program, *words, *extra], environment)  # noqa: S606 - the program that the user named


def _sign_in(program: str, folder: Folder, run: Run, environment: dict[str, str]) -> None:
    """Register the cloud and sign in, unless that was done for these addresses."""
    cloud = jsons.dumps(_cloud(run), sort_keys=True).encode()
    with _alone(folder):
        if not (folder.az / "kluis.json").exists() or (folder.az / "kluis.json").read_bytes() != cloud:
            _sign_in_anew(program, folder, run, environment, cloud)


@contextlib.contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """While no other call signs in: each would remove what another has just made."""
    lock = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sign_in_anew(program: str, folder: Folder, run: Run, environment: dict[str, str], cloud: bytes) -> None:
    shutil.rmtree(folder.az, ignore_errors=True)
    folder.az.mkdir(mode=0o700)
    folder.write(folder.az / "cloud.json", cloud)
    login = ("login", "--service-principal", "-u", variables.CLIENT, "--tenant", run.tenant)
    for words in (
        (
            "cloud",
            "register",
            "-n",
            CLOUD,
            "--skip-endpoint-discovery",
            "--cloud-config",
            f"@{folder.az}/cloud.json",
        ),
        ("cloud", "set", "-n", CLOUD),
        (*login, "--certificate", str(folder.client), "--allow-no-subscriptions"),
    ):
        done = subprocess.run(
            [program, *words, "-o", "none"],
            env={**environment, "AZURE_CORE_ONLY_SHOW_ERRORS": "yes"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UnavailableError(
                f"az {words[0]}: ended with {done.returncode}: {done.stderr.strip()[-300:]}",
                hint="kluis status; kluis logs",
                code="az_sign_in",
            )
    folder.write(folder.az / "kluis.json", cloud)  # last: a sign-in that is cut short is done again


def _cloud(run: Run) -> dict[str, Any]:
    """The local cloud, as ``az cloud register`` reads it."""
    urls = {each.name: each.url for each in run.services}
    vault = urls.get("keyvault", "https://127.0.0.1").removeprefix("https://")
    suffix = f".{vault.partition('.')[2]}"
    management = urls.get("attestation", run.issuer)
    return {
        "endpoints": {
            "activeDirectory": run.issuer,
            "activeDirectoryResourceId": MANAGEMENT,
            "management": management,
            "resourceManager": management,
        },
        "suffixes": {"keyvaultDns": suffix, "mhsmDns": suffix},
    }
