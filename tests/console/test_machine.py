"""The console's pages about this machine: its platform, its enclaves, and the doctor's findings."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kluis.console.examining import Examination
from kluis.errors import UnavailableError
from kluis.host import load
from kluis.serve.cloud import lock, processes, record
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Run, Service
from kluis.tee.doctor import Finding, Part, State
from kluis.tee.platform.client import Platform
from tests.cleanroom import samples
from tests.console.site import Site
from tests.images import ALLOWED, built

__all__ = ["built"]
HELLO = Path(__file__).parents[2] / "examples" / "hello"


def test_an_enclave_is_shown_while_it_runs(built: Callable[..., Path], tmp_path: Path) -> None:
    """The page has the platform's level and the age of its collateral, and a row for the running enclave."""
    site = Site(parties=tmp_path).open()
    with load(built(HELLO), insecure_allow_missing=ALLOWED) as enclave:
        listed = next(each for each in Platform.connect(start=False).enclaves() if each["pid"] == enclave.pid)
        page = site.get("/").text
    assert (listed["level"], listed["debug"]) == (enclave.level, False)
    row = next(each for each in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if listed["image_id"] in each)
    assert f'<th scope="row">{listed["image"]}</th>' in row
    assert f'<td data-label="Level">{listed["level"]}</td>' in row
    assert re.search(r"its collateral was issued (less than a second|\d+ \w+) ago", page)
    assert f"What level {listed['level']} is worth" in page
    assert all(each["pid"] != enclave.pid for each in Platform.connect(start=False).enclaves())


def test_the_services_of_the_local_cloud(tmp_path: Path) -> None:
    """The services of a running cloud are listed with their level and age; those of an ended one are not."""
    folder = Folder.create(tmp_path / "cloud")
    since = int(samples.NOW.timestamp()) - 120
    service = Service(
        name="keyvault", url="https://127.0.0.1:8444", level="process", instances=1, wanted=2, since=since
    )
    mine = processes.find(os.getpid())
    assert mine is not None
    record.write(folder, Run(process=mine, phase="ready", services=(service,)))
    site = Site(parties=tmp_path).open()
    site.console.cloud = folder.path
    assert "No local cloud of yours runs." in site.get("/").text
    with lock.occupy(folder):
        page = site.get("/").text
    assert '<th scope="row">keyvault</th>' in page
    assert '<td data-label="Oldest measured">2 minutes ago</td>' in page
    assert '<td data-label="Enclaves">1 of 2</td>' in page
    folder.path.chmod(0o755)
    assert 'role="alert"' in site.get("/").text


def test_findings_appear_when_they_are_there(tmp_path: Path) -> None:
    """The page starts one examination, states that it runs, and then has each finding with its fix."""
    go, runs = threading.Event(), []

    def examine() -> list[Finding]:
        runs.append(1)
        assert go.wait(60)
        return [
            Finding(part=Part.PROCESS, name="memfd_secret", state=State.MISSING, seen="no", fix="boot <it>")
        ]

    site = Site(parties=tmp_path).open()
    site.console.examination = Examination(lambda: samples.NOW, examine)
    for _ in range(3):
        page = site.get("/machine").text
        assert 'hx-trigger="load delay:1s"' in page
        assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page
    go.set()
    until = time.monotonic() + 60
    while site.console.examination.running:
        assert time.monotonic() < until
        time.sleep(0.01)
    page = site.get("/machine").text
    assert "Missing: memfd_secret." in page
    assert "Fix: <code>boot &lt;it&gt;</code>" in page
    assert "hx-trigger" not in page
    assert runs == [1]
    assert site.post("/machine").headers["location"] == "/machine"


def test_an_examination_that_fails(tmp_path: Path) -> None:
    """If an examination ends with an error, the page has it, and a button for another."""

    def examine() -> list[Finding]:
        raise UnavailableError("doctor: no memory left")

    site = Site(parties=tmp_path).open()
    site.console.examination = Examination(lambda: samples.NOW, examine)
    site.console.examination.start()
    until = time.monotonic() + 60
    while site.console.examination.running:
        assert time.monotonic() < until
        time.sleep(0.01)
    page = site.get("/machine").text
    assert "doctor: no memory left" in page
    assert "Test again" in page
