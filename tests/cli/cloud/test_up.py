"""A local cloud, from its start to its end, with one real service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clouds import Cloud


@pytest.fixture(scope="module")
def up(cloud: Cloud) -> Cloud:
    """The cloud, which runs."""
    started = cloud.run("up", "-d", "--port", "0", "provisioning", "--json")
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
