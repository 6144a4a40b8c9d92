"""TCB recovery, revocation, certification and enrolment of a real platform, as verifiers see them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.cli import main
from kluis.enclave.store.sealed import SealedStore
from kluis.formats.kluis.evidence_file import EvidenceFile
from kluis.testing.plugin import storage
from tests.images import ALLOWED, built
from tests.services.provisioning.serving import Served

__all__ = ["built", "storage"]

dcap_qvl = pytest.importorskip("dcap_qvl", reason="pip install dcap-qvl")

HELLO = Path(__file__).parents[2] / "examples" / "hello"
MISSING = [f"--insecure-allow-missing={','.join(ALLOWED)}"] if ALLOWED else []
LEVEL = "process" if os.geteuid() == 0 else "process-user"


class Seen(NamedTuple):
    """A verifier's result for a quote: exit code, TCB status, advisories; or the code of its refusal."""

    exit: int
    status: str
    advisories: list[str]


class Machine:
    """A platform of the test's own, and a person who works with it."""

    def __init__(self, home: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.image, self._capsys = home, image, capsys

    def run(self, *words: object) -> tuple[int, Any, str]:
        """A command with ``--json``: exit code, what it printed, and the words of an error."""
        self._capsys.readouterr()
        code = main.run([*map(str, words), "--json"])
        said = self._capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    def good(self, *words: object) -> Any:
        code, value, error = self.run(*words)
        assert code == 0, error
        return value

    def quote(self) -> Path:
        """A quote of a real enclave, made now, with root and collateral as the platform has them."""
        out = self.home / "quote.bin"
        self.good("attest", self.image, "-o", out, "--nonce", "aabb", *MISSING)
        self.good("platform", "root", "-o", self.home / "root.pem")
        self.good("platform", "collateral", "-o", self.home / "collateral.json")
        return out

    def ours(self, quote: Path) -> Seen:
        """The result of ``kluis verify``."""
        root, collateral = self.home / "root.pem", self.home / "collateral.json"
        code, value, error = self.run("verify", quote, "--root", root, "--collateral", collateral)
        if code:
            return Seen(code, json.loads(error)["code"] if error.startswith("{") else error, [])
        tcb = value["claims"]["tcb"]
        return Seen(code, tcb["status"], list(tcb["advisories"]))

    def theirs(self, quote: Path) -> str:
        """The result of ``dcap-qvl``: a status, or a refusal."""
        root = x509.load_pem_x509_certificate((self.home / "root.pem").read_bytes())
        collateral = dcap_qvl.QuoteCollateralV3.from_json((self.home / "collateral.json").read_text())
        now = int(datetime.now(UTC).timestamp())
        held = EvidenceFile.parse(quote.read_bytes()).evidence
        try:
            report = dcap_qvl.verify_with_root_ca(held, collateral, root.public_bytes(Encoding.DER), now)
        except ValueError:
            return "refused"
        return str(report.status)


@pytest.fixture
def machine(
    built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Machine]:
    """A running platform in a separate home."""
    image = built(HELLO)
    home = Path(tempfile.mkdtemp(prefix="kluis-upkeep-", dir="/run" if os.geteuid() == 0 else None))
    home.chmod(0o755)
    monkeypatch.setenv("KLUIS_HOME", str(home / "platform"))
    (home / "platform").mkdir(mode=0o755)
    made = Machine(home, image, capsys)
    made.good("platform", "start")
    yield made
    main.run(["platform", "stop"])
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("given", ["zz", "01" * 15, "01" * 17])
def test_component_svns_that_are_none(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Malformed component SVNs are refused with the option's name, before any request to a platform."""
    assert main.run(["platform", "recover", "--cpusvn", given]) == 2
    assert f"--cpusvn: want 32 hex digits, got '{given}'" in capsys.readouterr().err


def test_recovery_revocation_and_certification(machine: Machine) -> None:
    """Verifiers see each order: OutOfDate, UpToDate, refused, UpToDate again; a new start forgets none."""
    first = machine.quote()
    assert machine.ours(first) == Seen(0, "UpToDate", [])
    assert machine.theirs(first) == "UpToDate"

    code, said, note = machine.run("platform", "recover", "--advisory", "KLUIS-SA-7")
    assert (code, said["tcb"], said["pcesvn"]) == (0, "OutOfDate", 1)
    assert note == (
        "kluis: verifiers with current collateral see OutOfDate; once it is fixed, kluis platform certify\n"
    )
    behind = machine.quote()
    assert machine.ours(behind) == Seen(0, "OutOfDate", ["KLUIS-SA-7"])
    assert machine.theirs(behind) == "OutOfDate"

    said = machine.good("platform", "certify")
    assert (said["tcb"], said["pcesvn"]) == ("UpToDate", 2)
    mended = machine.quote()
    assert machine.ours(mended) == Seen(0, "UpToDate", [])
    assert machine.theirs(mended) == "UpToDate"

    said = machine.good("platform", "revoke")
    assert said["tcb"] == "Revoked"
    revoked = machine.quote()
    assert machine.ours(revoked).exit == 4
    assert machine.theirs(revoked) == "refused"

    machine.good("platform", "stop")
    said = machine.good("platform", "start")
    assert said["tcb"] == "Revoked"
    renewed = machine.good("platform", "certify")
    assert (renewed["tcb"], renewed["ppid"]) == ("UpToDate", said["ppid"])
    assert renewed["key"] != said["key"]
    machine.good("platform", "stop")
    assert machine.good("platform", "start")["key"] == renewed["key"]
    good = machine.quote()
    assert machine.ours(good) == Seen(0, "UpToDate", [])
    assert machine.theirs(good) == "UpToDate"


def test_enrolment(machine: Machine, storage: SealedStore, tmp_path: Path) -> None:
    """A platform that a service certified quotes under the service's root, and sees what its owner orders."""
    with Served(storage, datetime.now(UTC), tmp_path, level=LEVEL) as served:
        root = tmp_path / "service.pem"
        root.write_bytes(served.root())
        enroll = ("platform", "enroll", served.url, "--root", root, "--ca", served.ca)
        before = machine.good("platform", "status")

        code, _, error = machine.run(*enroll)
        assert (code, json.loads(error)["code"]) == (7, "enrolment_pending")
        assert before["ppid"] in error
        assert before["key"] in error
        served.order("certify", ppid=before["ppid"])
        said = machine.good(*enroll)
        assert (said["authority"], said["tcb"]) == (served.url, "UpToDate")
        quote = machine.quote()
        assert (machine.home / "root.pem").read_bytes() == served.root()
        assert machine.ours(quote) == Seen(0, "UpToDate", [])
        assert machine.theirs(quote) == "UpToDate"

        code, _, error = machine.run("platform", "recover")
        assert (code, json.loads(error)["code"]) == (6, "platform_enrolled")

        served.order("recover", advisories=["KLUIS-SA-8"])
        assert machine.ours(machine.quote()).status == "UpToDate"  # until it renews it
        code, _, error = machine.run(*enroll)
        assert (code, json.loads(error)["code"]) == (7, "enrolment_pending")
        served.order("certify", ppid=before["ppid"])
        said = machine.good(*enroll)
        assert (said["tcb"], said["pcesvn"]) == ("UpToDate", 2)
        fetched = machine.home / "collateral.json"
        quote = machine.quote()
        fetch = ("collateral", "fetch", quote, "--pccs", served.url, "--pccs-ca", served.ca)
        machine.good(*fetch, "--root", root, "-o", fetched, "--cache", tmp_path / "cache")
        assert machine.ours(quote) == Seen(0, "UpToDate", [])

        machine.good("platform", "stop")
        assert machine.good("platform", "start")["authority"] == served.url

        served.order("revoke", ppid=before["ppid"])
        code, _, error = machine.run(*enroll)
        assert (code, json.loads(error)["code"]) == (6, "enrolment_refused")
        shutil.rmtree(tmp_path / "cache")
        machine.good(*fetch, "--root", root, "-o", fetched, "--cache", tmp_path / "cache")
        assert machine.ours(quote).exit == 4

        said = machine.good("platform", "certify", "--new-keys")
        assert (said["authority"], said["tcb"], said["key"] != before["key"]) == ("its own", "UpToDate", True)
        assert machine.run(*enroll)[0] == 7
        served.order("certify", ppid=before["ppid"], key=said["key"])
        assert machine.good(*enroll)["tcb"] == "UpToDate"


def test_a_service_of_another_root(machine: Machine, storage: SealedStore, tmp_path: Path) -> None:
    """A service whose collateral is not under the named root is refused before it gets any data."""
    with Served(storage, datetime.now(UTC), tmp_path, level=LEVEL) as served:
        machine.good("platform", "root", "-o", tmp_path / "own.pem")
        code, _, error = machine.run(
            "platform", "enroll", served.url, "--root", tmp_path / "own.pem", "--ca", served.ca
        )
        assert (code, json.loads(error)["code"]) == (4, "root_untrusted")
        assert machine.good("platform", "status")["authority"] == "its own"
