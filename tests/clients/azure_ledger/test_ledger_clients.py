"""A ledger in a real enclave, and everybody's own clients: Azure's two versions, requests, httpx, openssl.

The ledger is run by ``kluis serve`` as a separate process, which is hung up on and killed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, Phase, given, settings

from kluis.ledger.certificates import member_certificate
from kluis.serve.ledger.governing import member_id
from kluis.services.clock import SystemClock
from tests.clients.azure.serving import STAMP
from tests.serve.served import Served, bring_images

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
JAVASCRIPT = HERE.parent / "azure_ledger_js"
CLIENTS = {"1.1.1": "ledger-1", "2.0.0b2": "ledger-2"}
VERSION = "api-version=2026-02-23"


class Running:
    """The ledger, and what its clients need.

    Attributes:
        served: the command.
        state: its folder.
        url: of the ledger.
        pem: a client's certificate and key, in one file.
    """

    def __init__(self, served: Served, state: Path, pem: Path) -> None:
        self.served = served
        self.state = state
        self.url = served.told["addresses"]["ledger"]
        self.pem = pem
        self.fingerprint = (
            x509.load_pem_x509_certificate(pem.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()
        )

    def world(self) -> dict[str, Any]:
        """For Azure's clients."""
        issuer, _, tenant = self.served.told["authorization"].rpartition("/")
        clients = json.loads((self.state / "issuer/clients.json").read_text())
        member = (self.state / "members/member0_cert.pem").read_text()
        return {
            "url": self.url,
            "issuer": issuer,
            "tenant": tenant,
            "ca": str(self.state / "ca/root.pem"),
            "secrets": {one["id"]: one["secret"] for one in clients},
            "service": str(self.state / "service_cert.pem"),
            "pem": str(self.pem),
            "fingerprint": self.fingerprint,
            "member": member_id(member),
            "image": self.served.told["images"]["ledger"]["image_id"],
        }

    def context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """TLS that trusts only the service's certificate, as strictly as Python can."""
        context = ssl.create_default_context(cafile=str(self.state / "service_cert.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if with_certificate:
            context.load_cert_chain(self.pem)
        return context

    def ask(self, method: str, path: str, **rest: Any) -> httpx.Response:
        """One request of httpx."""
        return httpx.request(method, self.url + path, verify=self.context(), timeout=120, **rest)

    def become(self, role: str) -> None:
        """Give the client's certificate a role, by the administrator's token."""
        token = self.token("admin")
        answer = httpx.patch(
            f"{self.url}/app/users/{self.fingerprint}?{VERSION}",
            json={"assignedRole": role},
            headers={"authorization": f"Bearer {token}"},
            verify=self.context(with_certificate=False),
            timeout=120,
        )
        assert answer.status_code == 200, answer.text

    def token(self, name: str) -> str:
        """A client's bearer token."""
        world = self.world()
        form = {
            "grant_type": "client_credentials",
            "client_id": name,
            "client_secret": world["secrets"][name],
            "scope": "https://confidential-ledger.azure.com/.default",
        }
        ca = ssl.create_default_context(cafile=world["ca"])
        answer = httpx.post(f"{self.served.told['authorization']}/oauth2/v2.0/token", data=form, verify=ca)
        token: str = answer.json()["access_token"]
        return token


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A ledger of one member, opened."""
    state = tmp_path_factory.mktemp("ledger")
    bring_images(state)
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = state / "client.pem"
    pem.write_bytes(member_certificate(key, SystemClock().now(), name="client").encode() + private)
    with Served(("ledger",), state) as served:
        yield Running(served, state, pem)


@pytest.mark.parametrize("version", CLIENTS)
def test_azures_client(version: str, running: Running) -> None:
    """Each scenario of one version's environment ends well."""
    python = ROOT / f".venv-{CLIENTS[version]}/bin/python"
    if not python.exists():
        pytest.skip("Azure's clients are not installed: scripts/setup.sh clients, where PyPI can be reached")
    done = subprocess.run(
        [python, HERE / "run.py"],
        input=json.dumps(running.world()) + "\n",
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) >= 11, done.stderr
    assert {one["name"]: one["error"] for one in outcomes if one["error"]} == {}


def test_azures_client_for_javascript(running: Running) -> None:
    """Each scenario ends well, by a client certificate: entries, receipts, lists, refusals."""
    folder, node = ROOT / f"{os.environ.get('KLUIS_VENV', '.venv')}-ledger-js", shutil.which("node")
    if node is None or not (folder / STAMP).exists():
        pytest.skip(
            "Azure Confidential Ledger's client for JavaScript is not installed: apt-get install nodejs npm,"
            " then scripts/setup.sh clients, where npm's registry can be reached"
        )
    running.become("Contributor")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NODE_", "AZURE_"))}
    done = subprocess.run(
        [node, "--no-warnings", JAVASCRIPT / "run.js"],
        input=json.dumps(running.world()) + "\n",
        env={**kept, "NODE_PATH": str(folder / "node_modules")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["name"]: one["error"] for one in outcomes if one["error"]} == {}
    declared = (JAVASCRIPT / "run.js").read_text().count("\nscenario(")
    assert len(outcomes) == declared >= 6, done.stderr


def test_every_package_for_javascript_is_pinned() -> None:
    """Each has one version and a digest of its bytes; the documentation names it."""
    page = (ROOT / "docs/quality/azure-clients.md").read_text()
    packages = json.loads((JAVASCRIPT / "package-lock.json").read_text())["packages"]
    for name, version in json.loads((JAVASCRIPT / "package.json").read_text())["dependencies"].items():
        assert packages[f"node_modules/{name}"]["version"] == version
        assert f"`{name}` {version}" in page
    for name, one in packages.items():
        assert name == "" or one["integrity"].startswith("sha512-"), name


def test_a_clients_certificate_reaches_the_enclave(running: Running) -> None:
    """By httpx and by openssl s_client, self-signed as it is; without one a client has no identity."""
    seen = running.ask("GET", "/app/whoami").json()
    assert (seen["userId"], "certificate" in seen["identity"]) == (running.fingerprint, True)
    nobody = httpx.get(
        f"{running.url}/app/whoami", verify=running.context(with_certificate=False), timeout=120
    )
    assert nobody.status_code == 401
    port = running.url.rpartition(":")[2]
    request = "GET /app/whoami HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    done = subprocess.run(
        [
            "openssl", "s_client", "-connect", f"localhost:{port}", "-quiet", "-verify_return_error",
            "-CAfile", running.state / "service_cert.pem", "-cert", running.pem, "-key", running.pem,
        ],
        input=request, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert running.fingerprint in done.stdout, done.stderr


def test_certificates_satisfy_the_strictest_verifier(running: Running) -> None:
    """Openssl verify -x509_strict, from the node's certificate to the service's."""
    port = int(running.url.rpartition(":")[2])
    node = running.state / "node.pem"
    node.write_text(ssl.get_server_certificate(("localhost", port)))
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", running.state / "service_cert.pem", node],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.strip().endswith("OK"), done.stderr
    shown = x509.load_pem_x509_certificate(node.read_bytes())
    assert isinstance(shown.public_key(), ec.EllipticCurvePublicKey)
    assert shown.public_key().curve.name == "secp384r1"  # type: ignore[union-attr] # it is on a curve


def _no_case_fails(running: Running, cases: int) -> Counter[int]:
    """Ask what the document describes, or nearly describes, as an administrator."""
    schemathesis = pytest.importorskip("schemathesis")
    service, statuses = str(running.state / "service_cert.pem"), Counter[int]()
    bare = running.context(with_certificate=False)
    schema = schemathesis.openapi.from_dict(httpx.get(f"{running.url}/openapi.json", verify=bare).json())
    headers = {"authorization": f"Bearer {running.token('admin')}"}
    for found in schema.get_all_operations():

        @given(case=found.ok().as_strategy())
        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            answer = case.call(base_url=running.url, headers=headers, verify=service, timeout=120)
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (case, answer.text)

        ask()
    return statuses


def test_no_case_of_the_document_fails(running: Running) -> None:
    """A case of every operation is answered or refused."""
    statuses = _no_case_fails(running, 1)
    assert statuses[200]
    assert any(status >= 400 for status in statuses)


@pytest.mark.slow
def test_five_thousand_cases_of_the_document(running: Running) -> None:
    """Likewise, of every operation many times."""
    total = Counter[int]()
    while sum(total.values()) < 5000:
        total += _no_case_fails(running, 40)


def test_a_hangup_replaces_the_node_and_refuses_nobody(running: Running) -> None:
    """Clients that write at once see two views, and every entry that was answered is there.

    Half of them keep their connection, the others make one for each entry.
    """
    running.become("Contributor")
    begun, ended = threading.Barrier(7), threading.Event()

    def write(client: httpx.Client) -> str:
        answer = client.post(f"/app/transactions?{VERSION}&collectionId=hup", json={"contents": "hup"})
        assert answer.status_code == 200, answer.text
        return answer.headers["x-ms-ccf-transaction-id"]

    def write_all(kept: bool) -> list[str]:
        """Write until another node has answered, and once more."""
        at = {"base_url": running.url, "verify": running.context(), "timeout": 120}
        with httpx.Client(**at) as client:
            wrote = [write(client)]
            begun.wait(600)
            while not ended.is_set() and len(wrote) < 5000:
                if kept:
                    wrote.append(write(client))
                else:
                    with httpx.Client(**at) as another:
                        wrote.append(write(another))
                if _view(wrote[-1]) != _view(wrote[0]):
                    break
            wrote.append(write(client))
        return wrote

    with ThreadPoolExecutor(6) as threads:
        writing = [threads.submit(write_all, number % 2 == 0) for number in range(6)]
        try:
            begun.wait(600)
            os.kill(running.served.process.pid, signal.SIGHUP)
            wrote = [each.result(600) for each in writing]
        finally:
            ended.set()
    assert all(len({_view(txid) for txid in each}) == 2 for each in wrote)
    assert len({txid for each in wrote for txid in each}) == sum(map(len, wrote))
    for each in wrote:
        for txid in (each[0], each[-3], each[-2], each[-1]):
            status = running.ask("GET", f"/app/transactions/{txid}/status?{VERSION}").json()
            assert status["state"] == "Committed"


def _view(txid: str) -> str:
    return txid.partition(".")[0]


def test_a_kill_loses_nothing_that_was_answered(running: Running) -> None:
    """The last test of this ledger: what was Committed is there after a restart, in a later view."""
    running.become("Contributor")
    wrote = {}
    for number in range(20):
        answer = running.ask(
            "POST", f"/app/transactions?{VERSION}&collectionId=kill", json={"contents": f"{number}"}
        )
        wrote[answer.headers["x-ms-ccf-transaction-id"]] = f"{number}"
    running.served.kill()
    with Served(("ledger",), running.state) as again:
        after = Running(again, running.state, running.pem)
        for txid, contents in wrote.items():
            entry = after.ask("GET", f"/app/transactions/{txid}?{VERSION}&collectionId=kill").json()
            assert entry["entry"]["contents"] == contents
        before = max(int(txid.partition(".")[0]) for txid in wrote)
        later = after.ask("POST", f"/app/transactions?{VERSION}", json={"contents": "later"})
        assert int(later.headers["x-ms-ccf-transaction-id"].partition(".")[0]) > before
