"""The services in a container, by testcontainers, with Podman."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("testcontainers", reason="pip install testcontainers")

from kluis.errors import UnavailableError
from kluis.testing.containers import IMAGE, KluisContainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="the platform in the container is root's"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="apt-get install podman"),
]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Podman's service, which speaks docker's API, on a socket of this test's."""
    path = tmp_path / "podman.sock"
    with subprocess.Popen(
        ["podman", "system", "service", "--time", "0", f"unix://{path}"], stderr=subprocess.DEVNULL
    ) as service:
        end = time.monotonic() + 120
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.1)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        yield
        service.terminate()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_service_in_a_container(docker: None, tmp_path: Path) -> None:
    """The service answers on the host's loopback, and the container leaves nothing running."""
    there = subprocess.run(["podman", "image", "exists", IMAGE], check=False, capture_output=True)
    if there.returncode:
        pytest.skip(f"no image {IMAGE}: examples/deploy/container/build.sh builds it")
    folder = tmp_path / "cloud"
    folder.mkdir(mode=0o700)
    with KluisContainer(folder, ["provisioning"]) as container:
        url, roots = container.variables["KLUIS_PROVISIONING_URL"], container.variables["SSL_CERT_FILE"]
        assert httpx.get(f"{url}/health/ready", verify=roots).json() == {"status": "ready"}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health/ready", verify=roots)


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[str]:
    """An image whose program ends at once."""
    (tmp_path / "end.c").write_text('#include <stdio.h>\nint main(void) { puts("no platform"); return 3; }\n')
    subprocess.run(
        ["gcc", "-static", "-o", tmp_path / "end", tmp_path / "end.c"], check=True, capture_output=True
    )
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "end.tar", "end"], check=True)
    name = "localhost/kluis-test-ending:1"
    subprocess.run(
        ["podman", "import", "--change", 'ENTRYPOINT ["/end"]', tmp_path / "end.tar", name],
        check=True,
        capture_output=True,
    )
    yield name
    subprocess.run(["podman", "image", "rm", name], check=True, capture_output=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_container_that_ends(docker: None, ending: str, tmp_path: Path) -> None:
    """The error has its last lines, and the container is removed."""
    with pytest.raises(UnavailableError) as error:
        KluisContainer(tmp_path, image=ending).start()
    assert error.value.message == "container: the services did not start: no platform"
    left = subprocess.run(
        ["podman", "ps", "-aq", "--filter", f"ancestor={ending}"], check=True, capture_output=True
    )
    assert left.stdout == b""
