"""``kluis serve-app``: an attested client is answered, enclaves are replaced, and a stop drains."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from kluis.cli import main
from kluis.cli.project import serve_app
from kluis.errors import PolicyError
from kluis.host import attested
from kluis.testing.images import ALLOWED, built
from tests.serve.observing.collector import Collector, attributes

__all__ = ["built"]

WEB = Path(__file__).parents[3] / "examples" / "web"
SECONDS = 300.0  # only ends hangs


class Server(NamedTuple):
    """The running command, what it printed, and where its messages go."""

    process: subprocess.Popen[bytes]
    shown: dict[str, Any]
    policy: Path
    errors: Path

    def wait_for(self, text: str) -> str:
        """Wait until it has reported something."""
        until = time.monotonic() + SECONDS
        while text not in (told := self.errors.read_text()):
            assert self.process.poll() is None, told
            assert time.monotonic() < until, told
            time.sleep(0.1)
        return told


def call(server: Server, policy: Path, **headers: str) -> httpx.Response:
    with httpx.Client(transport=attested.transport(policy), timeout=SECONDS, headers=headers) as client:
        return client.post(f"{server.shown['url']}/mean", json=[61, 58, 70, 66, 49])


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector of spans."""
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def server(
    built: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Server]:
    """Two enclaves of the example on one port."""
    folder = tmp_path_factory.mktemp("serve-app")
    image = built(WEB)
    allow = [f"--insecure-allow-missing={name}" for name in sorted(ALLOWED)]
    program = "from kluis.cli.main import main; main()"
    line = [sys.executable, "-c", program, "serve-app", str(image), "--listen", "127.0.0.1:0", "--json"]
    line += ["--instances", "2", "--policy-out", "policy.toml", "--metrics", "127.0.0.1:0"]
    line += ["--otlp", collector.url, *allow]
    with (folder / "out").open("wb") as out, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(line, cwd=folder, stdout=out, stderr=errors)
    try:
        until = time.monotonic() + SECONDS
        while not (folder / "out").read_text().endswith("}\n"):
            assert process.poll() is None, (folder / "errors").read_text()
            assert time.monotonic() < until, (folder / "errors").read_text()
            time.sleep(0.1)
        shown = json.loads((folder / "out").read_text())
        yield Server(process, shown, folder / "policy.toml", folder / "errors")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(SECONDS)


def test_a_client_is_answered(server: Server) -> None:
    """A client under the written policy is answered by the image, at the level that was printed."""
    answer = call(server, server.policy)
    assert answer.json() == {"mean": 60.8}
    claims = attested.attestation(answer).claims
    assert str(claims.measurement).rpartition(":")[2] == server.shown["image_id"]
    assert str(claims.level) == server.shown["level"]
    assert len(server.shown["enclaves"]) == 2


def test_the_printed_command_writes_the_same_policy(
    server: Server, built: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that is printed without --policy-out writes the policy that --policy-out writes."""
    monkeypatch.chdir(tmp_path)
    levels = frozenset(server.shown["level"].split(", "))
    command = serve_app.policy_command(built(WEB), levels, ALLOWED)
    assert main.run(shlex.split(command)[1:]) == 0
    assert (tmp_path / "policy.toml").read_bytes() == server.policy.read_bytes()


def test_its_requests_are_counted(server: Server) -> None:
    """Metrics count an answered request, in all instances together, and contain no path of it."""
    total = re.compile(r'^kluis_service_requests_total\{.*status="200"\} (\S+)$', re.MULTILINE)
    url = server.wait_for("metrics at").partition("metrics at ")[2].split()[0]

    def counted() -> tuple[str, float]:
        text = httpx.get(url, timeout=SECONDS).text
        return text, sum(float(value) for value in total.findall(text))

    _, before = counted()
    assert call(server, server.policy).json() == {"mean": 60.8}
    text, after = counted()
    assert after == before + 1
    assert "mean" not in text
    assert re.search(r"^kluis_instances\{.*\} 2.0$", text, re.MULTILINE)


def test_its_requests_are_traced(server: Server, collector: Collector) -> None:
    """A request is a span of its client's trace, with its status and times; nothing of its content leaves."""
    secret = "a-secret-of-the-client"
    headers = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "authorization": secret}
    assert call(server, server.policy, **headers).json() == {"mean": 60.8}
    span = collector.wait(lambda each: each.trace_id.hex() == "ab" * 16)
    assert span.parent_span_id.hex() == "cd" * 8
    assert span.name.endswith(" http")
    found = attributes(span)
    assert found["http.response.status_code"] == 200
    assert set(found) == {
        "kluis.service", "kluis.operation", "kluis.request_id", "http.response.status_code",
    }  # fmt: skip
    assert span.end_time_unix_nano > span.start_time_unix_nano > 0
    sent = b"".join(collector.raw)
    assert secret.encode() not in sent
    assert b"/mean" not in sent
    assert b"60.8" not in sent


def test_another_image_is_refused(server: Server, tmp_path: Path) -> None:
    """A client that wants another image sends nothing."""
    other = tmp_path / "other.toml"
    other.write_text(server.policy.read_text().replace(server.shown["image_id"], "00" * 32))
    with pytest.raises(PolicyError, match="measurement"):
        call(server, other)


def test_enclaves_are_replaced_and_then_drained(server: Server) -> None:
    """An enclave that ends is replaced; SIGHUP replaces all; SIGTERM ends the command and its enclaves."""
    os.kill(server.shown["enclaves"][0], signal.SIGKILL)
    server.wait_for("an enclave ended and was restarted")
    assert call(server, server.policy).json() == {"mean": 60.8}

    server.process.send_signal(signal.SIGHUP)
    told = server.wait_for("every enclave was replaced by image ")
    pids = [int(word) for word in told.rpartition("enclaves now: ")[2].split()]
    assert len(pids) == 2
    assert not set(pids) & set(server.shown["enclaves"])
    assert call(server, server.policy).json() == {"mean": 60.8}

    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(SECONDS) == 0, server.errors.read_text()
    assert "kluis: draining" in server.errors.read_text()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
