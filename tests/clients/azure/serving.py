"""The services as ``kluis serve`` runs them, and the runner of Azure's clients that uses them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from kluis.errors import UnavailableError
from kluis.tee.process import linux, native
from tests.clients.azure.fakes import fakes
from tests.clients.azure.forger import Forger
from tests.clients.azure.listing import FOLDER
from tests.clients.azure.proofs import Proofs

__all__ = ["Runner", "environment", "lack", "results", "runner", "served"]

ROOT = FOLDER.parents[2]
STAMP = ".kluis-clients"
START_SECONDS = 1200
RUN_SECONDS = 3600
HEAP_BYTES = 512 << 20


class Runner(NamedTuple):
    """A program that runs scenarios: it gets the services' addresses on its standard input.

    Attributes:
        words: that start it, before the names of scenarios.
        variables: of its environment.
    """

    words: tuple[str, ...]
    variables: Mapping[str, str]


def environment() -> Path | None:
    """The environment of Azure's clients, as ``scripts/setup.sh`` makes it; None where it is not made."""
    folder = Path(
        os.environ.get("KLUIS_AZURE_VENV") or f"{ROOT / os.environ.get('KLUIS_VENV', '.venv')}-azure"
    )
    return folder if (folder / STAMP).exists() else None


def runner(folder: Path) -> Runner:
    """The runner of Azure's clients for Python, from their environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return Runner((str(folder / "bin" / "python"), "-B", "-W", "ignore", str(FOLDER / "run.py")), kept)


def lack() -> str | None:
    """What this machine has not that the services want; None where it has all."""
    try:
        native.guardian()
    except UnavailableError as error:
        return error.message
    if lacks := sorted(linux.missing(HEAP_BYTES)):
        return f"the services are for a machine that lacks nothing: {lacks[0]} {linux.FIXES[lacks[0]]}"
    return None


@contextlib.contextmanager
def served(
    folder: Path, bring: Callable[[Path], None] = lambda state: None
) -> Iterator[tuple[dict[str, Any], Forger]]:
    """Every service, in enclaves, on free ports: yields the runner's input, and the forger of its evidence.

    Args:
        folder: the environment of the clients; images of the services are kept in it, all else is new.
        bring: brings images that others have built into the services' state folder.
    """
    forger, state = Forger(datetime.now(UTC)), folder / "services"
    with contextlib.ExitStack() as stack:
        state.mkdir(mode=0o700, exist_ok=True)
        fcntl.flock(stack.enter_context((folder / "services.lock").open("w")), fcntl.LOCK_EX)
        _forget(state)
        bring(state)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kluis-clients-")))
        authorities, trust = stack.enter_context(fakes(work))
        words = [
            sys.executable,
            "-c",
            "from kluis.cli.main import main; main()",
            "serve",
            "all",
            "--port",
            "0",
        ]
        words += ["--json", "--state", str(state), "--database", f"sqlite:///{work}/services.db"]
        words += forger.options(work)
        proofs = Proofs(work)
        words += proofs.options()
        for url in authorities.values():
            words += ["--insecure-authority", url]
        log = stack.enter_context((work / "log").open("w+b"))
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "SSL_CERT_FILE": str(trust)}
        )
        stack.callback(_end, process)
        late = threading.Timer(START_SECONDS, process.kill)
        late.start()
        told = _first(process)
        late.cancel()
        if told is None:
            log.seek(0)
            raise RuntimeError(f"kluis serve: did not start: {log.read().decode(errors='replace')[-2000:]}")
        clients = json.loads(Path(told["clients"]).read_bytes())
        addresses = told["addresses"]
        yield (
            {
                "attestation": addresses["attestation"],
                "keyvault": addresses["keyvault"],
                "provisioning": addresses["provisioning"],
                "ca": told["ca"],
                "authorization": told["authorization"],
                "secrets": {client["id"]: client["secret"] for client in clients},
                "proofs": proofs.told(addresses),
                "fakes": authorities,
                "fakes_key": str(work / "fakes.pem"),
                "log": str(work / "log"),
            },
            forger,
        )


def _forget(state: Path) -> None:
    """Remove what an earlier run left, but for images and their author's key.

    Each run has a new database, which a ledger of an earlier run would not fit.
    """
    for one in state.iterdir():
        if one.name not in ("images", "author.pem"):
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink()


def results(
    runner: Runner, told: dict[str, Any], forger: Forger, names: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Run scenarios, and answer their requests for evidence; yields each result as it comes.

    Args:
        runner: of the clients.
        told: the services' addresses, for the runner.
        forger: of evidence.
        names: of scenarios; all, where there are none.
    """
    with subprocess.Popen(
        [*runner.words, *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=runner.variables,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(RUN_SECONDS, process.kill)
        late.start()
        try:
            print(json.dumps(told), file=process.stdin, flush=True)
            for line in process.stdout:
                said = json.loads(line)
                if "forge" in said:
                    print(json.dumps(forger.answer(said)), file=process.stdin, flush=True)
                else:
                    yield said
        finally:
            late.cancel()
            if process.poll() is None:
                process.kill()


def _first(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The JSON document that ``kluis serve`` prints once it is ready."""
    text = b""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        with contextlib.suppress(ValueError):
            told: dict[str, Any] = json.loads(text)
            return told
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(300)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
