"""Recorded evidence of real machines through the whole service: a token with its facts, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kluis.enclave.store import SealedStore
from kluis.formats import x509
from kluis.serve.store import Database, keeping
from tests.evidence.test_vectors import Vector as IntelVector
from tests.services.attestation.world import PERMIT, World, b64u, claims_of, error_of
from tests.vectors import MISSING, VECTORS, Vector, found

CHAIN = ("endorsement_key", "ask", "ark")
# Bare chains, and a revoked one, are not evidence: tests/evidence/amd has them.
SNP = [vector for vector in found("snp") if "report" in vector]
WHOLE = [vector for vector in SNP if all(role in vector for role in CHAIN)]
BARE = [vector for vector in SNP if vector not in WHOLE]
INTEL = [path for tee in ("sgx", "tdx") for path in sorted((VECTORS / tee).glob("*/meta.json"))]

pytestmark = pytest.mark.skipif(not SNP, reason=MISSING)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service that only trusts the vendors' roots, and permits everything authentic."""
    folder = tmp_path_factory.mktemp("vectors")
    with Database(f"sqlite:///{folder}/db") as database:
        made = World(
            SealedStore(keeping.records(database, "test"), bytes(32)), roots=(), collateral=(),
            insecure_accept_unprotected=True,
        )  # fmt: skip
        for kind in ("SgxEnclave", "SevSnpVm", "TdxVm"):
            assert made.set_policy(kind, PERMIT).status_code == 200
        yield made


@pytest.mark.parametrize("path", INTEL, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_quotes(world: World, path: Path) -> None:
    """A genuine quote gets a token with what is recorded of it; everything else is 400."""
    vector = IntelVector(path)
    tee, known = vector.meta["tee"], vector.meta["known"]
    world.clock.at = vector.now
    try:
        bundle = vector.collateral().to_json()
    except UnicodeDecodeError:
        pytest.skip("its collateral is no text")
    body = {"quote": b64u(vector.part("quote")), "x-kluis-collateral": b64u(bundle)}
    answer = world.attest("SgxEnclave" if tee == "sgx" else "TdxVm", body)
    status = vector.expected.get("tcb_status")
    if vector.expected["outcome"] == "invalid" or status in ("Revoked", "NotSupported"):
        assert error_of(answer)[:2] == (400, "InvalidParameter")
        return
    if tee == "sgx" and vector.expected["tcb_date"] < "2020-11-10":
        # Older than the least baseline that a policy can ask for.
        assert answer.json()["error"]["innererror"]["code"] == "tcb_baseline"
        return
    assert answer.status_code == 200, answer.text
    claims = claims_of(answer.json()["token"])
    assert claims["x-kluis-tcb-status"] == status
    assert claims["x-kluis-protection"] == ("none" if known["debug"] else f"hardware-{tee}")
    assert "x-kluis-emulated" not in claims
    if tee == "sgx":
        assert claims["x-ms-sgx-mrenclave"] == known["mrenclave"]
        assert claims["x-ms-sgx-mrsigner"] == known["mrsigner"]
        assert claims["x-ms-sgx-product-id"] == known["isvprodid"]
        assert claims["x-ms-sgx-svn"] == known["isvsvn"]
        assert claims["x-ms-sgx-is-debuggable"] is known["debug"]
        assert claims["x-ms-sgx-report-data"] == known["report_data"]
        return
    assert claims["attester_tcb_status"] == status
    for name in ("mrtd", "mrseam", "mrsignerseam", "mrconfigid", "mrowner", "mrownerconfig", "report_data"):
        assert claims[f"tdx_{name}"] == known[name]
    for number in range(4):
        assert claims[f"tdx_rtmr{number}"] == known[f"rtmr{number}"]
    assert claims["tdx_tee_tcb_svn"] == known["tee_tcb_svn"]
    assert claims["tdx_td_attributes_septve_disable"] is known["sept_ve_disable"]


@pytest.mark.parametrize("vector", WHOLE, ids=lambda vector: vector.name)
def test_reports(world: World, vector: Vector) -> None:
    """A genuine report gets a token with what is recorded of it; everything else is 400."""
    world.clock.at = vector.now
    answer = sent(world, vector, chain_of(vector))
    if vector.outcome != "valid":
        # A revoked issuer is known by its list, and this service was given none.
        if "revoked" not in str(vector.meta.get("negative")):
            assert answer.status_code == 400
        return
    assert answer.status_code == 200, answer.text
    claims, known = claims_of(answer.json()["token"]), vector.known
    for name, role in (
        ("launchmeasurement", "measurement"), ("hostdata", "host_data"), ("idkeydigest", "id_key_digest"),
        ("authorkeydigest", "author_key_digest"), ("familyId", "family_id"), ("imageId", "image_id"),
        ("reportdata", "report_data"), ("reportid", "report_id"), ("vmpl", "vmpl"),
        ("guestsvn", "guest_svn"), ("is-debuggable", "policy_debug"), ("smt-allowed", "policy_smt"),
        ("migration-allowed", "policy_migrate_ma"),
    ):  # fmt: skip
        assert claims[f"x-ms-sevsnpvm-{name}"] == known[role], name


@pytest.mark.parametrize("vector", BARE, ids=lambda vector: vector.name)
def test_reports_that_nobody_endorses(world: World, vector: Vector) -> None:
    """A genuine report whose VCEK nobody published gets no token: without a chain, and with any that exists.

    One of them is of a chip whose VCEK is there for another TCB.
    """
    assert vector.outcome == "indeterminate"
    status, code, message = error_of(sent(world, vector, b""))
    assert (status, code, message) == (400, "InvalidParameter", "VcekCertChain: want text, got none")
    genuine = {chain_of(other): other.now for other in WHOLE if other.outcome == "valid"}
    assert len(genuine) > 10
    for chain, now in genuine.items():
        world.clock.at = now
        status, code, message = error_of(sent(world, vector, chain))
        assert (status, code) == (400, "InvalidParameter")
        assert message.startswith("The specified report was invalid")


def chain_of(vector: Vector) -> bytes:
    """A chain as a guest sends it."""
    return b"".join(pem_of(vector.part(role)) for role in CHAIN)


def sent(world: World, vector: Vector, chain: bytes) -> httpx.Response:
    """The answer to a report with a chain."""
    bundle = json.dumps({"SnpReport": b64u(vector.part("report")), "VcekCertChain": b64u(chain)}).encode()
    return world.attest("SevSnpVm", {"report": b64u(bundle)})


def pem_of(data: bytes) -> bytes:
    """A certificate as a guest sends it."""
    return data if data.startswith(b"-----BEGIN") else x509.write_pem(data)
