"""The examples, run as their first lines say."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kluis.tee.platform.client import Platform
from tests.images import ALLOWED, built
from tests.serve.served import bring_images

__all__ = ["built"]

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(bool(ALLOWED), reason="the examples allow no protection to be missing")


def said(script: Path, *images: Path) -> list[str]:
    run = subprocess.run(
        [sys.executable, str(script), *map(str, images)],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    return run.stdout.splitlines()


def test_hello(built: Callable[..., Path]) -> None:
    """The hello host greets, averages, seals, and receives the enclave's progress."""
    lines = said(EXAMPLES / "hello" / "host.py", built(EXAMPLES / "hello"))
    assert lines[:2] == ["hello, world, from inside", "5.0"]
    assert lines[3:] == [
        "length, reported from inside: 17",
        *(f"progress: {done} of 5000" for done in (1000, 2000, 3000, 4000)),
        "primes below 5000: 669",
    ]


def test_local_attestation(built: Callable[..., Path]) -> None:
    """B meets A, and refuses every report that is not A's to it, now."""
    folder = EXAMPLES / "local_attestation"
    lines = said(folder / "host.py", built(folder / "first"), built(folder / "second"))
    assert lines[0].startswith("ok      B met ")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "refused a changed bit in the measurement",
        "refused a changed bit in the signer",
        "refused a changed bit in the report data",
        "refused a changed bit in the MAC",
        "refused a replay",
        "refused a report for another enclave",
    ]


@pytest.mark.slow
def test_web(built: Callable[..., Path]) -> None:
    """The client is answered by the image it wants, and sends nothing to another."""
    lines = said(EXAMPLES / "web" / "host.py", built(EXAMPLES / "web"))
    assert lines[0] == "answered by the image: {'mean': 60.8}"
    assert lines[1].startswith("nothing was sent: ")


REFUSED = (
    "another measurement", "a debug build", "a key of the host's own", "a token for another run's key",
    "a release that the host changed", "a stale token", "an outdated platform",
)  # fmt: skip


def test_a_key_releases_programs_state_what_comes_first(tmp_path: Path) -> None:
    """A program that is started too early prints one line with the step before it, and no traceback."""
    place = shutil.copytree(EXAMPLES / "key_release", tmp_path / "key_release")
    image = tmp_path / "archive.kluis"

    def refusal(script: str, *words: object) -> str:
        argv = [sys.executable, place / script, *words]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 1, done.stdout
        return done.stderr

    start = "start the services first: kluis serve all, with the options in README.md\n"
    for script in ("owner", "host", "refused"):
        assert refusal(f"{script}.py") == f"usage: python {place / script}.py archive.kluis\n"
    assert refusal("owner.py", image) == f"{image} is missing: build it first, with kluis build\n"
    image.touch()
    assert refusal("owner.py", image) == f"services.json is missing: {start}"
    assert refusal("host.py", image) == "archive.sealed is missing: run owner.py first\n"
    assert refusal("app.py").splitlines()[-1] == (
        "FileNotFoundError: vault.json is missing: kluis vault meet -o vault.json writes it"
    )


@pytest.mark.parametrize("without_azure", [False, True])
def test_a_key_releases_host_names_stopped_services(tmp_path: Path, without_azure: bool) -> None:
    """Services that ended leave their file; a program that reads it prints one line, and no traceback."""
    place = shutil.copytree(EXAMPLES / "key_release", tmp_path / "key_release")
    root = tmp_path / "root.pem"
    root.write_bytes(Platform.connect().root_pem())
    clients = tmp_path / "clients.json"
    clients.write_text(json.dumps([{"id": "workload", "secret": "s"}]))
    nowhere = "https://localhost:1"
    (tmp_path / "services.json").write_text(
        json.dumps(
            {
                "addresses": {"attestation": nowhere, "keyvault": nowhere},
                "authorization": f"{nowhere}/00000000-0000-0000-0000-000000000000",
                "ca": str(root),
                "clients": str(clients),
                "pid": 1,
            }
        )
    )
    program = (
        "from services import Services, run; run(lambda _: Services('workload').release('archive', 't'))"
    )
    blocked = "import sys; sys.modules['azure'] = None; " if without_azure else ""
    done = subprocess.run(
        [sys.executable, "-c", blocked + program, root],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "no service answers: start the services first: kluis serve all, with the options in README.md\n",
    )


@pytest.mark.slow
def test_key_release(tmp_path: Path) -> None:
    """A key is released to the example's enclave, by Azure's clients and without, and in no other case."""
    place = shutil.copytree(EXAMPLES / "key_release", tmp_path / "key_release")
    (tmp_path / "platform.pem").write_bytes(Platform.connect().root_pem())
    with served(tmp_path) as told:
        image_id = told["images"]["keyvault"]["image_id"]
        vault = told["addresses"]["keyvault"]
        written = place / "vault.json"
        ran(
            tmp_path, KLUIS, "vault", "meet", vault, "--root", "platform.pem", "--image-id", image_id,
            "-o", written,
        )  # fmt: skip
        ran(tmp_path, KLUIS, "build", place, "-o", "archive.kluis", "--key", "author.pem")
        for start in ((), ("-c", WITHOUT_AZURE)):
            for script in ("owner", "host"):
                lines = ran(tmp_path, sys.executable, *start, place / f"{script}.py", "archive.kluis")
            assert lines[-1] == "mean age: 63.0"
        lines = ran(tmp_path, sys.executable, place / "refused.py", "archive.kluis")
        said = "\n".join(lines)
        assert [line for line in lines if line[:1] != " "] == [
            *(f"refused {one}:" for one in REFUSED),
            "released again, once the platform was certified again",
        ]
        for why in (
            "x-ms-sgx-mrenclave: want ", "got none: a debug TEE,", "runtimeData: want report data ",
            "released key recipient: want ", "is not signed by the key it should be",
            "token exp: want one after ", "tcb_status: want UpToDate, got\n",
        ):  # fmt: skip
            assert why in said
        assert max(map(len, lines)) < 80


WITHOUT_AZURE = (
    "import runpy, sys; sys.modules['azure'] = None; sys.argv[:1] = []; "
    "sys.path.insert(0, sys.argv[0].rpartition('/')[0]); runpy.run_path(sys.argv[0], run_name='__main__')"
)
KLUIS = Path(sys.executable).parent / "kluis"


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Any]:
    """All services, until the end; what they said of themselves."""
    options = (
        "--root",
        "platform.pem",
        "--state",
        "services",
        "--port",
        "0",
        "--token-seconds",
        "25",
        "--json",
    )
    (folder / "services").mkdir(mode=0o700)
    bring_images(folder / "services")
    told = folder / "services.json"
    with told.open("w") as file:
        child = subprocess.Popen([KLUIS, "serve", "all", *options], cwd=folder, stdout=file)
    try:
        for _ in range(9000):
            if told.read_text().endswith("}\n"):
                break
            assert child.poll() is None
            time.sleep(0.1)
        yield json.loads(told.read_text())
    finally:
        child.terminate()
        child.wait(300)


def ran(folder: Path, *argv: object) -> list[str]:
    """What a command prints."""
    path = f"{KLUIS.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(each) for each in argv],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout.splitlines()
