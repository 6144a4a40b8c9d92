"""The container image: built from Debian's packages and Kluis's wheels, and run with the Compose file."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import kluis
from kluis.cli.machine import unit_files
from tests.serve.front.pki import Operator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/deploy/container"
IMAGE = f"localhost/kluis:{kluis.__version__}"
PROFILE = Path("/usr/share/containers/seccomp.json")
NAME = "services.kluis.test"
ADDRESS = "127.0.0.11"
BUILD_SECONDS = 1800
START_SECONDS = 900
TOOLS = ("podman", "buildah", "mmdebstrap")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="the image is built as root"),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in TOOLS), reason=f"apt-get install {' '.join(TOOLS)}"
    ),
]


def run(
    *line: str, seconds: float = 300, check: bool = True, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its output is in the failure."""
    done = subprocess.run(line, capture_output=True, text=True, timeout=seconds, check=False, **more)
    assert not check or done.returncode == 0, f"{line}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, built from this tree. ``$KLUIS_CONTAINER_WHEELS`` names wheels that are built already, and
    ``$KLUIS_CONTAINER_IMAGE`` an image.
    """
    if (built := os.environ.get("KLUIS_CONTAINER_IMAGE")) is not None:
        yield built
        return
    wheels = os.environ.get("KLUIS_CONTAINER_WHEELS")
    if wheels is None:
        wheels = str(tmp_path_factory.mktemp("dist"))
        run(sys.executable, str(ROOT / "scripts/dist.py"), wheels, "3.13", seconds=BUILD_SECONDS)
    environment = {**os.environ, "KLUIS_VENV": str(Path(sys.executable).parents[1])}
    done = run(str(FOLDER / "build.sh"), wheels, seconds=BUILD_SECONDS, env=environment)
    assert done.stdout.splitlines()[-1] == IMAGE
    yield IMAGE
    run("podman", "rmi", "-f", IMAGE, check=False)


def doctor(image: str, *options: str) -> dict[str, dict[str, str]]:
    """The doctor's rows in a container without a network."""
    line = ["podman", "run", "--rm", "--network", "none", *options, image, "doctor", "--boot-seconds", "1"]
    rows = json.loads(run(*line, "--json", check=False).stdout)
    return {row["name"]: row for row in rows}


def capabilities() -> list[str]:
    """Those of the platform's unit, as far as this machine has them itself."""
    status = Path("/proc/self/status").read_text().splitlines()
    (own,) = (int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    has_resource = own & (1 << 24)
    names = [name.removeprefix("CAP_") for name in unit_files.PLATFORM_CAPABILITIES.split()]
    return [name for name in names if has_resource or name != "SYS_RESOURCE"]


def test_an_enclave_in_a_container(image: str) -> None:
    """With the platform's capabilities and no other, and a root that is read-only: level process, and every
    attempt to read the enclave is refused.
    """
    added = ",".join(capabilities())
    writable = ["--tmpfs", "/run", "--tmpfs", "/tmp", "--volume", "/var/lib/kluis"]
    rows = doctor(
        image,
        "--cap-drop",
        "ALL",
        "--cap-add",
        added,
        "--read-only",
        *writable,
        "--env",
        "XDG_CACHE_HOME=/tmp/c",
    )
    assert rows["container"]["seen"].startswith("podman: memfd_secret, RLIMIT_MEMLOCK, user namespaces")
    assert rows["container"]["seen"].endswith("enclaves have level process at most")
    assert "protection level process" in rows["an enclave"]["seen"]
    assert rows["a debugger"]["state"] == "ok"


def test_a_container_without_capabilities(image: str) -> None:
    """The row states that no enclave starts, and the flags with which one does."""
    row = doctor(image)["container"]
    assert row["state"] == "missing"
    assert row["fix"].startswith("podman run --cap-add IPC_LOCK --cap-add NET_ADMIN")


@pytest.mark.skipif(not PROFILE.exists(), reason="no seccomp profile of Podman to change")
def test_a_container_without_secret_memory(image: str, tmp_path: Path) -> None:
    """Under a profile that does not allow memfd_secret, the row names it with its fix, and an enclave is
    refused with a hint to that row.
    """
    profile = tmp_path / "seccomp.json"
    profile.write_text(PROFILE.read_text().replace('"memfd_secret",', ""))
    options = ["--security-opt", f"seccomp={profile}", "--cap-add", ",".join(capabilities())]
    row = doctor(image, *options)["container"]
    assert row["state"] == "missing"
    assert "without memfd_secret" in row["seen"]
    script = (
        "mkdir /tmp/a && cd /tmp/a && printf 'entry = \"app:app\"\\n' >kluis.toml &&"
        ' printf \'from kluis.enclave import Enclave\\napp = Enclave("a", product_id=1, svn=1)\\n'
        "@app.ecall\\ndef one() -> int:\\n    return 1\\n' >app.py &&"
        " kluis build . -o ../a.kluis --key ../author.pem && kluis run ../a.kluis one"
    )
    line = [
        "podman",
        "run",
        "--rm",
        "--network",
        "none",
        *options,
        "--entrypoint",
        "/bin/sh",
        image,
        "-c",
        script,
    ]
    done = run(*line, check=False)
    assert done.returncode == 7, done.stderr
    assert "launch: secret-memory: this machine does not give it" in done.stderr
    assert "in a container, the flags that kluis doctor prints there" in done.stderr


@pytest.fixture
def composed(image: str, tmp_path: Path) -> Iterator[Path]:
    """The Compose file's containers, running; what they leave is removed."""
    compose = Path(sys.executable).with_name("podman-compose")
    if not compose.exists():
        pytest.skip("no podman-compose: extra dev")
    (tmp_path / "tls").mkdir()
    chain, key = Operator(tmp_path, datetime.now(UTC)).issue(NAME)
    shutil.move(chain, tmp_path / "tls/chain.pem")
    shutil.move(key, tmp_path / "tls/key.pem")
    shutil.copy(FOLDER / "compose.yaml", tmp_path)
    project = f"kluis{os.getpid()}"
    line = [str(compose), "-p", project, "-f", str(tmp_path / "compose.yaml")]
    own = {"KLUIS_NAME": NAME, "KLUIS_VERSION": kluis.__version__, "KLUIS_PUBLISH": ADDRESS}
    environment = {**os.environ, **own}
    try:
        run(*line, "up", "-d", env=environment)
        yield tmp_path
    finally:
        logs = run(*line, "logs", check=False, env=environment)
        sys.stderr.write(logs.stdout[-4000:] + logs.stderr[-4000:])
        run(*line, "down", "-v", "-t", "60", check=False, env=environment)


def test_the_compose_file(composed: Path) -> None:
    """Platform and services in two containers: a client on loopback reaches a vault under the operator's
    certificate, in an enclave of the other container.
    """
    trust = ssl.create_default_context(cafile=str(composed / "operator-ca.pem"))
    named: Any = {"headers": {"Host": NAME}, "extensions": {"sni_hostname": NAME}}
    until = time.monotonic() + START_SECONDS
    with httpx.Client(verify=trust, timeout=60) as client:
        while True:
            try:
                answer = client.get(f"https://{ADDRESS}:8444/health/live", **named)
                break
            except httpx.TransportError:
                assert time.monotonic() < until
                time.sleep(1)
        assert answer.json() == {"status": "live"}
        assert client.get(f"https://{ADDRESS}:8443/health/ready", **named).json() == {"status": "ready"}
