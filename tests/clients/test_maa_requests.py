"""Requests byte for byte as clients send them that no package index has: the service answers each with 200.

Gramine's RA-TLS verifier (``ra_tls_verify_maa.c``) and Microsoft's ``Azure/cvm-attestation-tools``
(``attest_guest``) are read, not run: one is C inside Gramine, the other needs an Azure VM's vTPM. What they
send is written out here as their sources write it.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from kluis.enclave.store import SealedStore
from tests.services.attestation.conftest import storage
from tests.services.attestation.guest.test_guests import VALIDATED
from tests.services.attestation.test_attesting import HELLO, INTEL, bound
from tests.services.attestation.vm import Vm, b64
from tests.services.attestation.world import World, b64u, error_of

__all__ = ["storage"]

CLAIMS = {"user-claims": {"nonce": "4f2d", "count": 3, "share": 0.5, "tags": ["a", None, True], "more": {}}}
"""What ``config_snp.json`` may have as its ``claims``: any JSON."""


def gramine(world: World, method: str, path: str, body: bytes = b"") -> httpx.Response:
    """A request as libcurl sends Gramine's: its own defaults, and one header."""
    headers = {"Accept": "*/*", "Content-Type": "application/json"}
    return world.ask(method, path, content=body, headers=headers)


def test_gramine_verifies_an_enclave(storage: SealedStore) -> None:
    """The quote with odd spaces between members, then the keys under a path with a slash at its end."""
    world = World(storage)
    quote = INTEL.quote(INTEL.body(report_data=bound(HELLO)))
    body = (
        f'{{"quote": "{b64u(quote)}", "runtimeData":   {{"data": "{b64u(HELLO)}", "dataType": "Binary"}}  }}'
    )
    answer = gramine(world, "POST", "/attest/SgxEnclave?api-version=2020-10-01", body.encode())
    claims = world.token(answer)
    assert claims["x-ms-attestation-type"] == "sgx"
    certs = gramine(world, "GET", "/certs/")
    assert certs.status_code == 200
    assert certs.content == gramine(world, "GET", "/certs").content
    header = json.loads(base64.urlsafe_b64decode(answer.json()["token"].split(".")[0] + "=="))
    assert header["kid"] in {key["kid"] for key in certs.json()["keys"]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/certs/", 200),
        ("/.well-known/openid-configuration/", 200),
        ("/health/live/", 200),
        ("/certs//", 404),
        ("//certs", 404),
        ("/certs/x/", 404),
        ("/", 404),
    ],
)
def test_one_slash_more(storage: SealedStore, path: str, status: int) -> None:
    """Every path may end in one; no path has two, or one elsewhere."""
    assert World(storage).ask("GET", path).status_code == status


def test_a_slash_changes_neither_method_nor_right(storage: SealedStore) -> None:
    """A path with a slash at its end is the same operation: who may not, may not here either."""
    world = World(storage)
    assert world.ask("DELETE", "/certs/").status_code == 405
    assert world.ask("POST", "/certs:rotate/").status_code == 401
    assert world.owner("POST", "/certs:rotate/").status_code == 200


def cvm_tools(world: World, vm: Vm, payload: Any, major: str, minor: str) -> httpx.Response:
    """A request as ``attest_guest`` makes it: json.dumps of texts, in base64url without padding."""
    info = vm.info()
    tpm = info["TpmInfo"]
    order = (
        *("AikCert", "AikPub", "PcrQuote", "PcrSignature"),
        *("EncKeyPub", "EncKeyCertifyInfo", "EncKeyCertifyInfoSignature", "PcrSet", "PCRs"),
    )
    evidence = info["IsolationInfo"]["Evidence"]
    sent = {
        "AttestationProtocolVersion": "2.0",
        "OSType": b64(b"Linux"),
        "OSDistro": b64(b"Ubuntu"),
        "OSVersionMajor": major,
        "OSVersionMinor": minor,
        "OSBuild": b64(b"NotApplication"),
        "TcgLogs": info["TcgLogs"],
        "ClientPayload": payload,
        "TpmInfo": {name: tpm[name] for name in order},
        "IsolationInfo": {
            "Type": "SevSnp",
            "Evidence": {name: b64u(base64.b64decode(evidence[name])) for name in ("Proof", "RunTimeData")},
        },
    }
    headers = {
        "User-Agent": "python-requests/2.32.3",
        "Accept-Encoding": "gzip, deflate",
        "Accept": "application/json",
        "Connection": "keep-alive",
        "Content-Type": "application/json",
    }
    body = json.dumps({"AttestationInfo": b64u(json.dumps(sent).encode())})
    return world.ask("POST", "/attest/AzureGuest?api-version=2020-10-01", content=body, headers=headers)


@pytest.mark.parametrize(
    ("major", "minor", "version"),
    [
        ("22", "04", (22, 4)),
        ("24", "04", (24, 4)),
        ("3", "0.20240401", (3, 0)),  # Azure Linux
        ("10", "0", (10, 0)),  # Windows
    ],
)
@pytest.mark.parametrize(
    ("payload", "shown"),
    [(CLAIMS, CLAIMS), ({}, {}), ("", {})],
    ids=["user claims", "none", "of older versions"],
)
def test_microsofts_python_client_attests_a_guest(
    storage: SealedStore, major: str, minor: str, version: tuple[int, int], payload: Any, shown: Any
) -> None:
    """The token has the version as numbers and the payload as it was sent."""
    world, vm = World(storage, secure_boot_variables=VALIDATED), Vm()
    answer = cvm_tools(world, vm, payload, major, minor)
    assert answer.status_code == 200, answer.text
    claims = world.verified(vm.open(answer.json()["token"]))
    assert claims["x-ms-runtime"]["client-payload"] == shown
    found = claims["x-ms-azurevm-osversion-major"], claims["x-ms-azurevm-osversion-minor"]
    assert found == version


@pytest.mark.parametrize(
    "payload",
    ['{"a":' * 40 + "1" + "}" * 40, '{"a":1e999}', '{"a":1,"a":2}', '{"a":[' + "{}," * 300_000 + "1]}"],
    ids=["too deep", "no number", "twice", "too many values"],
)
def test_a_payload_is_bounded(storage: SealedStore, payload: str) -> None:
    """It may be any JSON, and is held to what all JSON here is: its depth, its values, each member once."""
    world, info = World(storage), json.dumps(Vm().info() | {"ClientPayload": "HERE"})
    body = {"AttestationInfo": b64u(info.replace('"HERE"', payload).encode())}
    assert error_of(world.attest("AzureGuest", body))[:2] == (400, "InvalidParameter")
