"""A local cloud, from its start to its end, with one real service."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from kluis import files, installing
from kluis.cli.main import run
from kluis.serve.cloud.folder import Folder
from tests import clouds
from tests.clouds import Cloud
from tests.serve.front.pki import Operator
from tests.serve.observing.collector import Collector


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector of spans."""
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def up(cloud: Cloud, collector: Collector) -> Cloud:
    """The cloud, which runs, and is observed."""
    observed = ("--metrics", "127.0.0.1:0", "--otlp", collector.url)
    started = cloud.run("up", "-d", "--port", "0", "provisioning", *observed, "--json")
    assert started.code == 0, started.err
    assert started.value["services"] == ["provisioning"]
    waited = cloud.run("wait", "--json")
    assert waited.code == 0, waited.err
    return cloud


def test_status_lists_the_services(up: Cloud) -> None:
    """Each service has its address, level, enclaves, whether it is ready, and the age of its evidence."""
    value = up.run("status", "--json").value
    (service,) = value["services"]
    assert (value["phase"], value["state"]) == ("ready", str(up.path))
    assert service["service"] == "provisioning"
    assert service["url"].startswith("https://localhost:")
    assert service["level"] in ("process", "process-user")
    assert (service["instances"], service["wanted"], service["ready"]) == (1, 1, True)
    assert service["evidence_age_seconds"] >= 0
    assert "provisioning" in up.run("status").out


def test_up_twice(up: Cloud) -> None:
    """The second start is refused, in the background and in the foreground, and the first goes on."""
    pid = up.run("status", "--json").value["pid"]
    for words in (["up", "-d"], ["up"]):
        again = up.run(*words, "--json")
        assert again.code == 7
        assert json.loads(again.err) == {
            "error": f"{up.path}: its services run already, as process {pid}",
            "code": "cloud_runs",
            "hint": "kluis status shows them; kluis down stops them",
            "exit_code": 7,
        }
    assert up.run("status", "--json").value["pid"] == pid


def test_env_names_what_clients_need(up: Cloud) -> None:
    """The lines are for a shell; the same as JSON and without ``export``; each file exists."""
    found = up.run("env", "--json").value
    plain = dict(line.split("=", 1) for line in up.run("env", "--plain").out.splitlines())
    assert plain == found
    assert all(line.startswith("export ") for line in up.run("env").out.splitlines())
    for name in (
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
    ):
        assert Path(found[name]).is_file()
    assert found["KLUIS_PROVISIONING_URL"] == up.run("status", "--json").value["services"][0]["url"]


def test_logs_has_the_start(up: Cloud) -> None:
    """The log begins with the start, and has a line for each request."""
    up.run("status")
    lines = up.run("logs").out.splitlines()
    assert "ready: provisioning" in lines
    assert any('"operation":"Ready"' in line for line in lines)
    assert up.run("logs", "-n", "1").out.splitlines() == up.run("logs").out.splitlines()[-1:]


def test_metrics_and_traces(up: Cloud, collector: Collector) -> None:
    """``kluis up`` has the options of ``kluis serve``: the log names the metrics; requests are spans."""
    up.run("status")
    found = re.search(r"^kluis: metrics at (http://\S+)$", up.run("logs").out, re.MULTILINE)
    assert found is not None
    assert 'kluis_instances{service="provisioning"} 1.0' in httpx.get(found[1], timeout=clouds.SECONDS).text
    assert collector.wait(lambda span: span.name == "provisioning Ready")


def test_down_twice(up: Cloud) -> None:
    """The first stops the services, and ``logs -f`` ends with them; the second states that none run."""
    with up.popen("logs", "-f") as following:
        ended = up.run("down", "--json")
        assert (ended.code, ended.value) == (0, {"stopped": True}), ended.err
        out, _ = following.communicate(timeout=120)
    assert out.splitlines()[-1] == "kluis: draining"
    assert following.returncode == 0
    for words in (["down"], ["status"], ["wait"], ["env"]):
        again = up.run(*words, "--json")
        assert again.code == 7
        assert json.loads(again.err)["error"] == f"{up.path}: no services run"
        assert json.loads(again.err)["hint"] == "kluis up -d"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bind", "0.0.0.0"], "--bind 0.0.0.0: want also the operator's certificate, got none"),
        (["--bind", "here"], "--bind: want an IP address, got 'here'"),
        (["--metrics", "9464"], "--metrics: want ADDRESS:PORT, got '9464'"),
        (["--otlp", "127.0.0.1:4318"], "--otlp: want http://HOST:PORT of a collector"),
        (["--key", "key.pem"], "--key: want also --certificate"),
    ],
)
def test_options_that_are_wrong(cloud: Cloud, words: list[str], message: str) -> None:
    """They are refused as by ``kluis serve``, by the command that starts the background, and nothing runs."""
    cloud.run("down")
    said = cloud.run("up", "-d", "provisioning", *words, "--json")
    assert said.code == 2
    assert json.loads(said.err.splitlines()[-1])["error"].startswith(message)
    assert cloud.run("status").code


@pytest.mark.slow
def test_under_the_operators_certificate(cloud: Cloud, tmp_path: Path) -> None:
    """At another address and under its own name, the services are ready, and clients see that certificate."""
    cloud.run("down")
    operator = Operator(tmp_path, datetime.now(UTC))
    chain, key = operator.issue("127.0.0.2")
    options = ["--bind", "127.0.0.2", "--name", "127.0.0.2", "--certificate", str(chain), "--key", str(key)]
    (tmp_path / "cloud").mkdir()
    fresh = Cloud(clouds.prepare(tmp_path / "cloud"))
    try:
        started = fresh.run("up", "-d", "--port", "0", "provisioning", *options)
        assert started.code == 0, started.err
        assert fresh.run("wait").code == 0
        (service,) = fresh.run("status", "--json").value["services"]
        assert service["url"].startswith("https://127.0.0.2:")
        assert service["ready"]
        trust = ssl.create_default_context(cafile=str(operator.folder / "operator-ca.pem"))
        url = f"{service['url']}/health/ready"
        assert httpx.get(url, verify=trust, timeout=clouds.SECONDS).json() == {"status": "ready"}
        chain.unlink()
        assert not fresh.run("status", "--json").value["services"][0]["ready"]
    finally:
        fresh.close()


def test_a_port_in_use(cloud: Cloud) -> None:
    """The start fails with an error that names the port, the same in the background, and nothing runs."""
    cloud.run("down")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in (["up", "-d"], ["up"]):
            said = cloud.run(*words, "attestation", "--port", str(port), "--json")
            assert said.code == 7
            error = json.loads(said.err.splitlines()[-1])
            assert error["error"] == (
                f"attestation: cannot listen on 127.0.0.1:{port}: Address already in use"
            ), said.err
            assert "--port 0 takes free ones" in error["hint"]
            waited = cloud.run("wait", "--json")
            assert (waited.code, json.loads(waited.err)["error"]) == (7, error["error"])
    assert cloud.run("down", "--json").value == {"stopped": False}
    assert cloud.run("down").code == 7


def test_a_folder_of_a_newer_version(tmp_path: Path) -> None:
    """Every command refuses it, and changes nothing in it."""
    newer = Cloud(Folder.create(tmp_path / "cloud").path)
    (newer.path / "cloud.json").write_text('{"version":2}')
    for words in (["up", "-d"], ["status"], ["down"]):
        said = newer.run(*words, "--json")
        assert said.code == 3
        assert json.loads(said.err)["code"] == "cloud_newer"
    assert [path.name for path in newer.path.iterdir()] == ["cloud.json"]


def test_the_background_names_a_missing_package(tmp_path: Path) -> None:
    """Without the extra, ``kluis up -d`` gives the command that installs it, as ``kluis up`` does."""
    code = f"import sys; sys.modules['prometheus_client'] = None; {clouds.CODE}"
    for words in (["up", "-d"], ["up"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, "--state", str(tmp_path / "cloud"), "--json"],
            capture_output=True,
            text=True,
            timeout=clouds.SECONDS,
            check=False,
        )
        assert json.loads(done.stderr) == {
            "error": "up: want the package prometheus_client, got none",
            "code": "unavailable",
            "hint": installing.command_for("services"),
            "exit_code": 7,
        }


def test_the_background_fails_as_the_foreground_does(tmp_path: Path) -> None:
    """The error has the kind and the exit code of the one in the background; `kluis wait` gives it, too."""
    cloud = Cloud(Folder.create(tmp_path / "cloud").path)
    files.write(cloud.path / "services" / "ca" / "root.key", b"damaged")
    said = [cloud.run(*words, "--json") for words in (["up"], ["up", "-d"], ["wait"])]
    assert [each.code for each in said] == [3, 3, 3]
    assert len({each.err for each in said}) == 1


def test_env_fails_in_a_shell_if_no_cloud_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``eval "$(kluis env)" && ...`` stops there; a file of variables, and JSON, stay empty."""
    state = str(tmp_path / "none")
    for words, printed in (([], "false\n"), (["--plain"], ""), (["--json"], "")):
        assert run(["env", "--state", state, *words]) == 7
        assert capsys.readouterr().out == printed
