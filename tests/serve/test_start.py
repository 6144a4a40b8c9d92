"""The services as ``kluis serve`` runs them: in enclaves of this machine, reached by name over TLS."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from kluis.appraisal import ByImage, strict
from kluis.appraisal.tokens import vouching
from kluis.errors import KluisError, UnavailableError
from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors
from kluis.formats import x509
from kluis.formats.kluis.runtime_data import Purpose
from kluis.hashes import sha256
from kluis.serve.plan import Plan
from kluis.serve.start import Serving, serving
from kluis.services.clock import SystemClock
from kluis.tee.platform.client import Platform
from tests.serve.conftest import SERVICES
from tests.serve.served import Served, serving_here


def client_of(running: Serving) -> httpx.Client:
    """A client that only trusts the loopback root."""
    context = ssl.create_default_context(cadata=running.authority.root_pem().decode())
    return httpx.Client(verify=context, timeout=120)


def test_every_service_is_ready_in_an_enclave(running: Serving) -> None:
    """Each answers under its name, reports that it is ready, and has the level of this machine."""
    with client_of(running) as client:
        for service in SERVICES:
            assert client.get(running.addresses[service] + "/health/ready").json() == {"status": "ready"}
    assert {one.enclave.level for fleet in running.fleets for one in fleet.instances} <= {
        "process",
        "process-user",
    }
    assert [len(fleet.instances) for fleet in running.fleets] == [2, 2, 2]


def test_a_token_of_the_issuer_opens_a_service(running: Serving) -> None:
    """A vault's challenge leads to the issuer, whose token makes a key; another client's roles do not."""
    vault = running.addresses["keyvault"]
    with client_of(running) as client:
        challenge = client.get(f"{vault}/keys?api-version=7.4").headers["www-authenticate"]
        assert running.issuer is not None
        assert f'authorization="{running.issuer.authorization}"' in challenge
        made = _create(client, running, "admin", "one")
        assert made.status_code == 200
        assert made.json()["key"]["kid"].startswith(f"{vault}/keys/one/")
        assert _create(client, running, "reader", "two").status_code == 403


def _create(client: httpx.Client, running: Serving, name: str, key: str) -> httpx.Response:
    return client.post(
        f"{running.addresses['keyvault']}/keys/{key}/create?api-version=7.4",
        json={"kty": "EC", "crv": "P-256"},
        headers=_bearer(client, running, name),
    )


def _bearer(
    client: httpx.Client, running: Serving, name: str, resource: str = "https://vault.azure.net"
) -> dict[str, str]:
    assert running.issuer is not None
    form = {
        "grant_type": "client_credentials",
        "client_id": name,
        "client_secret": running.issuer.clients[name].secret,
        "scope": f"{resource}/.default",
    }
    token = client.post(f"{running.issuer.authorization}/oauth2/v2.0/token", data=form).json()
    return {"Authorization": f"Bearer {token['access_token']}"}


def test_certificates_are_renewed_while_it_serves(running: Serving) -> None:
    """After a renewal a new connection is shown another certificate: by every service, and by the issuer."""
    ends = [
        (host, int(port))
        for address in running.addresses.values()
        for host, _, port in [address.removeprefix("https://").partition(":")]
    ]
    assert len(ends) == len(SERVICES) + 1
    before = [ssl.get_server_certificate(end) for end in ends]
    running.rename()
    assert not {*before} & {ssl.get_server_certificate(end) for end in ends}
    with client_of(running) as client:
        for address in running.addresses.values():
            assert client.get(address + "/health/live").status_code == 200


def test_instances_share_what_they_keep(running: Serving) -> None:
    """A key that one instance made is available in all others, over separate connections."""
    with client_of(running) as client:
        assert _create(client, running, "admin", "shared").status_code == 200
        bearer = _bearer(client, running, "admin")
    url = f"{running.addresses['keyvault']}/keys/shared/?api-version=7.4"
    for _ in range(12):
        with client_of(running) as client:
            assert client.get(url, headers=bearer).status_code == 200


def test_a_key_that_is_due_is_rotated_once(running: Serving) -> None:
    """The host knocks at both instances, several times; one makes one new version, by the policy's expiry."""
    vault = running.addresses["keyvault"]
    rule = {"trigger": {"timeBeforeExpiry": "P7D"}, "action": {"type": "Rotate"}}
    asked = {"lifetimeActions": [rule], "attributes": {"expiryTime": "P28D"}}
    with client_of(running) as client:
        assert _create(client, running, "admin", "due").status_code == 200
        headers = _bearer(client, running, "admin")

        def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
            url = f"{vault}/keys/due{path}?api-version=7.4"
            answer = client.request(method, url, json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            told: dict[str, Any] = answer.json()
            return told

        ask("PUT", "/rotationpolicy", asked)
        running.tend()
        time.sleep(0.5)
        assert len(ask("GET", "/versions")["value"]) == 1
        ask("PATCH", "/", {"attributes": {"exp": int(time.time()) + 6 * 86_400}})
        until = time.monotonic() + 300
        while len(ask("GET", "/versions")["value"]) == 1 and time.monotonic() < until:
            assert running.tend() == []
            time.sleep(0.2)
        for _ in range(3):
            assert running.tend() == []
            time.sleep(0.2)
        assert len(ask("GET", "/versions")["value"]) == 2
        assert ask("GET", "/")["attributes"]["exp"] >= time.time() + 27 * 86_400


def test_instances_of_an_authority_publish_the_same_bytes(running: Serving) -> None:
    """An order to one instance of the authority holds for every other, and what they sign is one document."""
    pcs = running.addresses["provisioning"]
    with client_of(running) as client:
        bearer = _bearer(client, running, "admin", pcs)
        tcb = f"{pcs}/sgx/certification/v4/tcb?fmspc=E0E0E0000000"
        before = client.get(tcb).json()["tcbInfo"]["tcbEvaluationDataNumber"]
        order = client.post(f"{pcs}/kluis/recover", json={"advisories": ["KLUIS-SA-1"]}, headers=bearer)
        assert order.json()["evaluation"] == before + 1
        assert client.post(f"{pcs}/kluis/recover", json={}).status_code == 401
    seen = set()
    for _ in range(12):
        with client_of(running) as client:
            answer = client.get(tcb)
            assert answer.json()["tcbInfo"]["tcbEvaluationDataNumber"] == before + 1
            seen.add(answer.content)
    assert len(seen) == 1


def test_an_authoritys_root_is_its_enclaves(running: Serving) -> None:
    """A relying party finds in the authority's root the image that holds its key, and its settings."""
    platform = Platform.connect(start=False)
    wanted = strict(
        ByImage(image_ids=frozenset({running.images["provisioning"].image_id})),
        protection=frozenset({ProtectionLevel(platform.status()["level"])}),
        purpose=Purpose.APP,
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(platform.status()["missing"]),
    )
    policy = dataclasses.replace(wanted, binding=dataclasses.replace(wanted.binding, nonce=False))
    pcs = running.addresses["provisioning"]
    with client_of(running) as client:
        carried = client.get(f"{pcs}/kluis/root/vouched").content
        root, settings = (client.get(f"{pcs}/kluis/{name}").content for name in ("root", "settings"))
    found = vouching.check(
        carried,
        anchors=TrustAnchors.from_pem(platform.root_pem()),
        collateral=Collateral.from_json(platform.collateral()),
        policy=policy,
        now=SystemClock().now(),
    )
    (certificate,) = x509.parse_pem(root, "root")
    assert (found.spki, found.settings) == (certificate.spki, sha256(settings))
    assert json.loads(settings)["issuer"]["url"].startswith("https://localhost:")


def test_no_request_is_lost_while_every_enclave_is_replaced(running: Serving) -> None:
    """Clients that ask all the time, on connections old and new, are all answered."""
    url, answers, stop = running.addresses["attestation"] + "/certs", list[int](), threading.Event()
    before = {one.enclave.pid for fleet in running.fleets for one in fleet.instances}

    def ask(keep: bool) -> None:
        with client_of(running) as client:
            while not stop.is_set():
                answers.append(client.get(url, headers={} if keep else {"Connection": "close"}).status_code)

    threads = [threading.Thread(target=ask, args=(keep,)) for keep in (True, False)]
    for one in threads:
        one.start()
    try:
        running.fleets[0].replace()
        enough, end = len(answers) + 20, time.monotonic() + 60
        while len(answers) < enough and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        stop.set()
        for one in threads:
            one.join()
    assert set(answers) == {200}
    assert len(answers) >= enough
    assert not before & {one.enclave.pid for one in running.fleets[0].instances}


def test_an_enclave_that_is_killed_is_started_anew(running: Serving) -> None:
    """After a kill the instance is replaced after a moment, and stored data is there."""
    fleet = running.fleets[2]
    fleet.instances[0].enclave.kill()
    end = time.monotonic() + 300
    faults: list[tuple[str, KluisError]] = []
    while not faults and time.monotonic() < end:
        faults = list(running.repair())
        time.sleep(0.05)
    assert [service for service, _ in faults] == ["provisioning"]
    assert len(fleet.instances) == 2
    with client_of(running) as client:
        assert client.get(running.addresses["provisioning"] + "/health/ready").status_code == 200


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write(tmp_path: Path, mode: int) -> None:
    """A state folder that others may write is not used: they could replace the image or database."""
    tmp_path.chmod(mode)
    with pytest.raises(UnavailableError) as refused, serving_here(Plan(services=SERVICES, state=tmp_path)):
        pass
    assert (
        refused.value.message == f"{tmp_path}: want a folder that nobody else may write, got mode {mode:04o}"
    )
    assert refused.value.hint == f"chmod 700 {tmp_path}"
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


def test_the_command_says_where_it_serves_and_ends_when_told(state: Path) -> None:
    """One JSON document when all is ready; a hangup restarts all; a termination drains and exits 0."""
    with Served(["provisioning"], state, "--database", f"sqlite:///{state}/other.db") as served:
        with httpx.Client(verify=ssl.create_default_context(cafile=served.told["ca"]), timeout=120) as client:
            url = served.told["addresses"]["provisioning"] + "/health/ready"
            assert client.get(url).status_code == 200
            os.kill(served.process.pid, signal.SIGHUP)
            end = time.monotonic() + 300
            while not any("restarted" in line for line in served.log) and time.monotonic() < end:
                time.sleep(0.05)
            assert any(line.startswith("kluis: every enclave was restarted") for line in served.log)
            assert client.get(url, headers={"Connection": "close"}).status_code == 200
        assert served.stop() == 0


@pytest.mark.parametrize(
    ("lack", "allowed"),
    [
        ({"missing": ["landlock"]}, frozenset({"landlock"})),
        ({"lockable_bytes": 8 << 20}, frozenset({"secret-memory"})),
    ],
)
def test_a_machine_that_protects_too_little_is_refused_before_images_are_built(
    running: Serving,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lack: dict[str, Any],
    allowed: frozenset[str],
) -> None:
    """No image is made for a start that would be refused; with the protection named it goes on."""
    assert running.fleets  # so a platform is there
    status = {**Platform.connect(start=False).status(), **lack}
    monkeypatch.setattr(Platform, "status", lambda _self: status)
    plan = Plan(services=("attestation",), state=tmp_path)
    with (
        pytest.raises(UnavailableError, match="this machine does not give it") as caught,
        serving(plan, SystemClock(), lambda line: None),
    ):
        pass
    assert caught.value.code == "missing_protection"
    assert next(iter(allowed)) in str(caught.value.hint)
    assert not (tmp_path / "images").exists()

    dataclasses.replace(plan, insecure_allow_missing=allowed).check_protections(status)
