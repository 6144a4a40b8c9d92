"""What the services read of their clients: policies, tokens, paths, and bodies with evidence in them."""

from __future__ import annotations

import base64
import functools
import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

from kluis.appraisal.tokens import signed_claims
from kluis.errors import FormatError
from kluis.services.attestation.language import evaluate, parse
from kluis.services.attestation.language.claims import of_mapping
from kluis.services.keyvault.release import policy as release_policy
from kluis.services.keyvault.release.keyring import Keyring
from kluis.services.web import Call, Caller
from kluis.services.web.operation import Routes

# What is imported with this module the fuzzer watches.
for _service in ("attestation", "keyvault", "provisioning"):
    importlib.import_module(f"kluis.services.{_service}.app")

# What a client sends as the one thing in a body, and where.
EVIDENCE: Final = {
    "AttestSgxEnclave": ("quote", {"runtimeData": {"data": "aGVsbG8", "dataType": "Binary"}}),
    "AttestOpenEnclave": ("report", {}),
    "AttestSevSnpVm": ("report", {}),
    "AttestTdxVm": ("quote", {}),
    "AttestAzureGuest": ("AttestationInfo", {}),
    "AttestTpm": ("data", {}),
}
VAULT: Final = (
    *("ImportKey", "UpdateKeyLatest", "UpdateKeyRotationPolicy", "RestoreKey", "EncryptLatest"),
    *("DecryptLatest", "WrapkeyLatest", "UnwrapkeyLatest", "SignLatest", "VerifyLatest", "ReleaseLatest"),
)
PROVISIONING: Final = ("EnrolPlatform", "Recover", "Certify", "Refuse", "Revoke", "Terms", "Collateral")
QUERIES: Final = ("TcbInfo", "QeIdentity", "PckCrl", "PckCert", "PckCerts", "Crl", "IntelTcbInfo")
ATTESTATION: Final = ("SetPolicy", "AddCertificate", "RemoveCertificate", "CreateProvider", "UpdateProvider")

Read = Callable[[bytes], Any]
Starts = Callable[[], Iterator[bytes]]


def readers() -> Iterator[tuple[str, Read, Starts]]:
    """Each reader's name, itself, and what to begin from."""
    yield "services.attestation.policy", _policy, _policies
    yield "services.keyvault.release.policy", _release_policy, _release_policies
    yield "appraisal.signed_claims.check", _token, _tokens
    yield "services.web.operation.find", _find, _paths
    for name in EVIDENCE:
        yield f"services.attestation.{name}.evidence", functools.partial(_evidence, name), _bodies
    for name in (*EVIDENCE, *ATTESTATION):
        yield f"services.attestation.{name}", functools.partial(_asked, _attestation, name), _bodies
    for name in PROVISIONING:
        yield f"services.provisioning.{name}", functools.partial(_asked, _provisioning, name), _orders
    for name in QUERIES:
        yield f"services.provisioning.{name}.query", functools.partial(_queried, name), _queries
    for name in VAULT:
        yield f"services.keyvault.{name}", functools.partial(_asked, _vault, name), _bodies


def _policy(data: bytes) -> None:
    from tests.services.attestation.language import examples

    policy = parse(data.decode("utf-8", "replace"))
    for claims in (examples.SGX, examples.TPM):
        evaluate(policy, of_mapping(claims))


def _policies() -> Iterator[bytes]:
    from tests.services.attestation.language import examples

    yield from (each.policy.encode() for each in examples.EXAMPLES)


def _release_policy(data: bytes) -> None:
    from tests.services.keyvault.world import AUTHORITY, claims

    release_policy.judge(release_policy.parse(data), AUTHORITY, claims())


def _release_policies() -> Iterator[bytes]:
    from tests.services.keyvault.world import policy

    yield policy()
    yield policy({"anyOf": [{"claim": "x-ms-runtime.keys", "equals": 1}, {"claim": "iat", "equals": True}]})


def _token(data: bytes) -> None:
    from tests.services.web.issuer import NOW

    signed_claims.check(data.decode("latin-1"), _keyring(), NOW)


def _tokens() -> Iterator[bytes]:
    from tests.services.keyvault.world import claims, sign

    yield sign(claims()).encode()
    yield sign(claims(), {"alg": "none", "jku": "https://attest.example/certs", "x5c": ["AA=="]}).encode()


def _find(data: bytes) -> None:
    routes = _routes()
    for method in ("GET", "POST", "PUT"):
        found = routes.find(method, data.decode("latin-1"))
        if found is not None and any("/" in value for value in found.path.values()):
            raise AssertionError("a path's parameter leads elsewhere")


def _paths() -> Iterator[bytes]:
    yield from (each.path.encode() for each in (*_vault().values(), *_attestation().values()))
    yield b"/keys/a%2e%2e/%252f?x#y"


def _evidence(name: str, data: bytes) -> None:
    member, rest = EVIDENCE[name]
    text = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    _asked(_attestation, name, json.dumps({member: text, **rest}).encode())


def _queried(name: str, data: bytes) -> None:
    operation = _provisioning()[name]
    query = dict(parse_qsl(data.decode("latin-1"), keep_blank_values=True))
    operation.handler(_call(operation, query=query, body=b""))


def _queries() -> Iterator[bytes]:
    yield b"fmspc=00906ED50000&update=early&tcbEvaluationDataNumber=17&ca=platform&encoding=der"
    yield b"qeid=00112233445566778899aabbccddeeff&encrypted_ppid=00&cpusvn=00&pcesvn=0000&pceid=0000"
    yield b"uri=https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


def _asked(operations: Callable[[], dict[str, Any]], name: str, data: bytes) -> None:
    operation = operations()[name]
    if len(data) > operation.most_bytes:
        raise FormatError("body: is not read")
    version = "2025-06-01" if operations is _attestation else "7.4"
    operation.handler(_call(operation, query={"api-version": version}, body=data))


def _call(operation: Any, *, query: dict[str, str], body: bytes) -> Call:
    parameters = {"name": "k", "type": "SgxEnclave", "subscription": "s", "group": "g", "version": ""}
    return Call(
        operation=operation.name,
        target=operation.path,
        path=parameters,
        query=query,
        headers={"host": "myvault.vault.example:8443"},
        body=body,
        caller=Caller("fuzzer", frozenset(), {}),
        request_id="0" * 32,
    )


def _bodies() -> Iterator[bytes]:
    """Bodies that clients send, and the evidence in them."""
    from tests.evidence import samples
    from tests.services.attestation.owners import owner
    from tests.services.attestation.test_attesting import sgx, snp, tdx
    from tests.services.attestation.vm import Vm, request
    from tests.services.attestation.world import PERMIT, unsigned
    from tests.services.keyvault.world import claims, sign

    for body in (sgx(), snp(), tdx(), request(Vm().info()), {"data": "e30"}, {"target": sign(claims())}):
        yield json.dumps(body).encode()
        yield from (
            base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_") + "==")
            for text in body.values()
            if isinstance(text, str)
        )
    yield from (samples.sample(kind).data for kind in samples.MAKERS)
    yield from (unsigned(PERMIT).encode(), owner("one").policy(PERMIT).encode())
    yield json.dumps({"payload": {"type": "aikcert"}}).encode()
    for body in (
        {"key": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"}, "hsm": True},
        {"attributes": {"enabled": True, "exp": 2000000000}, "key_ops": ["sign"], "tags": {"a": "b"}},
        {"release_policy": {"data": "e30", "immutable": False, "contentType": "application/json"}},
        {"lifetimeActions": [{"trigger": {"timeAfterCreate": "P90D"}, "action": {"type": "Rotate"}}],
         "attributes": {"expiryTime": "P1Y"}},
        {"value": "AAAA", "alg": "A256CBCPAD", "iv": "AA", "aad": "AA", "tag": "AA", "digest": "AA"},
        {"location": "local", "tags": {}, "properties": {"policySigningCertificates": {"keys": []}}},
    ):  # fmt: skip
        yield json.dumps(body).encode()


def _orders() -> Iterator[bytes]:
    """What owners order, and a platform's enrolment."""
    from tests.services.keyvault.memory import MemoryStorage
    from tests.services.provisioning.conftest import NOW
    from tests.services.provisioning.serving import Asking, Platform

    platform = Platform()
    yield platform.request(Asking(MemoryStorage(), NOW))
    for order in (
        {"ppid": platform.ppid.hex(), "key": "ab" * 16, "cpusvn": "01" * 16, "pcesvn": 2},
        {"advisories": ["INTEL-SA-00001"], "pcesvn": 3},
        {"open": True},
        {"documents": [{"kind": "pck-crl", "key": ["platform"], "body": "AA=="}]},
    ):
        yield json.dumps(order).encode()


@functools.cache
def _provisioning() -> dict[str, Any]:
    from tests.services.keyvault.memory import MemoryStorage
    from tests.services.provisioning.conftest import NOW
    from tests.services.provisioning.serving import Asking

    return {each.name: each for each in Asking(MemoryStorage(), NOW).service.operations}


@functools.cache
def _vault() -> dict[str, Any]:
    from tests.services.keyvault.world import World

    world = World()
    world.exportable()
    return {each.name: each for each in world.service.operations}


@functools.cache
def _attestation() -> dict[str, Any]:
    from tests.services.attestation.world import World
    from tests.services.keyvault.memory import MemoryStorage

    return {each.name: each for each in World(MemoryStorage()).app.operations}


@functools.cache
def _routes() -> Any:

    return Routes(tuple(_attestation().values()))


@functools.cache
def _keyring() -> Any:
    from tests.services.keyvault.world import PINNED

    return Keyring((PINNED,), lambda url: b"", lambda quote: None, life_seconds=1, refetch_seconds=1)
