"""The examples for HAProxy and nginx, with the real programs: TLS ends inside, and not in a proxy."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from kluis.appraisal import ByImage, Policy, strict
from kluis.enclave.attested_tls.client import attestation
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host import attested
from tests.serve.front.conftest import BY_HAPROXY, BY_NGINX, Fronted

EXAMPLES = Path(__file__).parents[3] / "examples/deploy"
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
START_SECONDS = 60


def of_loopback(example: Path, listen: str, behind: str, port: int, folder: Path) -> Path:
    """The example with addresses of loopback and this service's port, and without the services that do not
    run.
    """
    text = example.read_text()
    assert text.count("203.0.113.10:844") == 3
    text = text.replace("203.0.113.10:", f"{listen}:").replace("127.0.0.1:", f"{behind}:")
    text = text.replace("8443", str(port)).replace("8444", str(port + 1)).replace("8445", str(port + 2))
    text = text.replace("/run/nginx-kluis.pid", str(folder / "nginx.pid"))
    made = folder / example.name
    made.write_text(text)
    return made


@contextlib.contextmanager
def running(command: list[str], listen: str, port: int) -> Iterator[None]:
    """A proxy in the foreground, until the ``with`` ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((listen, port), timeout=5):
                break
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < until
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


def image_of(fronted: Fronted) -> bytes:
    """The id of the service's image."""
    return bytes.fromhex(fronted.command.told["images"]["attestation"]["image_id"])


def policy_of(fronted: Fronted) -> Policy:
    """What a client of the service requires: its image, at this machine's level."""
    return strict(
        ByImage(image_ids=frozenset({image_of(fronted)})),
        protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
        purpose=Purpose.CHANNEL,
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(),
    )


def haproxy(folder: Path, address: str, port: int) -> list[str]:
    """Check the example with HAProxy; its command."""
    if shutil.which("haproxy") is None:
        pytest.skip("no haproxy: apt-get install haproxy")
    made = of_loopback(EXAMPLES / "haproxy/haproxy.cfg", BY_HAPROXY, address, port, folder)
    subprocess.run(["haproxy", "-c", "-f", str(made)], check=True, capture_output=True, timeout=60)
    return ["haproxy", "-db", "-f", str(made)]


def nginx(folder: Path, address: str, port: int) -> list[str]:
    """Check the example with nginx; its command."""
    if shutil.which("nginx") is None or not NGINX_MODULE.exists():
        pytest.skip("no nginx with its stream module: apt-get install nginx-light libnginx-mod-stream")
    made = of_loopback(EXAMPLES / "nginx/nginx.conf", BY_NGINX, address, port, folder)
    command = ["nginx", "-p", str(folder), "-c", str(made)]
    made.write_text(made.read_text().replace("modules/ngx_stream_module.so", str(NGINX_MODULE)))
    subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=60)
    return [*command, "-g", "daemon off;"]


@pytest.mark.parametrize(("proxy", "listen"), [(haproxy, BY_HAPROXY), (nginx, BY_NGINX)])
def test_tls_ends_inside(
    fronted: Fronted,
    tmp_path: Path,
    proxy: Callable[[Path, str, int], list[str]],
    listen: str,
) -> None:
    """Through each proxy, a client that checks names and one that requests evidence are both served."""
    address, _, port = fronted.addresses["attestation"].removeprefix("https://").partition(":")
    command = proxy(tmp_path, address, int(port))
    with running(command, listen, int(port)):
        url = f"https://{listen}:{port}/health/ready"
        with httpx.Client(verify=fronted.trust(), timeout=120) as client:
            assert client.get(url).json() == {"status": "ready"}
        policy = policy_of(fronted)
        with httpx.Client(transport=attested.transport(policy), timeout=120) as client:
            response = client.get(url)
            assert response.json() == {"status": "ready"}
            claims = attestation(response).claims
            assert claims.measurement.value == image_of(fronted)
