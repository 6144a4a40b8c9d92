"""Utility VMs: compliant where one whom the operator lists endorses them, and not else."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.enclave.store import SealedStore
from kluis.errors import UsageError
from kluis.evidence import ProtectionLevel
from kluis.formats.azure.uvm import SCHEMES
from kluis.hashes import sha256
from kluis.services.attestation.settings import Compliance, Root, UvmEndorser
from tests.evidence.amd.forge import Forge
from tests.evidence.azure.endorsing import FEED, MEASUREMENT, endorsement, older, signer
from tests.services.attestation.world import PERMIT, World, b64u, error_of

CHIP = Forge()
BY, OTHER = signer(), signer()
RUNTIME = b'{"keys":[]}'
LISTED = UvmEndorser(issuer=BY.issuer, feed=FEED, least_svn=100)


def world_of(storage: SealedStore, *endorsers: UvmEndorser) -> World:
    """A service that takes the chip for AMD's."""
    root = Root(CHIP.ark.public_bytes(Encoding.PEM), ProtectionLevel.HARDWARE_SNP)
    world = World(storage, roots=(root,), collateral=(), compliance=Compliance(uvm_endorsers=endorsers))
    assert world.set_policy("SevSnpVm", PERMIT).status_code == 200
    return world


def body(*given: bytes, members: Any = None, bound: bool = True) -> dict[str, Any]:
    """What a container group sends."""
    data = sha256(RUNTIME) + bytes(32) if bound else bytes(64)
    report = CHIP.report(measurement=MEASUREMENT, report_data=data)
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (CHIP.vek, CHIP.ask, CHIP.ark))
    endorsements = {"Uvm": [b64u(each) for each in given]} if members is None else members
    bundle = {
        "SnpReport": b64u(report),
        "VcekCertChain": b64u(chain),
        "Endorsements": b64u(json.dumps(endorsements).encode()),
    }
    runtime = {"runtimeData": {"data": b64u(RUNTIME), "dataType": "JSON"}} if bound else {}
    return {"report": b64u(json.dumps(bundle).encode()), **runtime}


def claims_of(world: World, *given: bytes, **rest: Any) -> dict[str, Any]:
    """The token's claims."""
    return world.token(world.attest("SevSnpVm", body(*given, **rest)))


def flipped(data: bytes) -> bytes:
    """One bit of the signature changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def of_another_algorithm(data: bytes) -> bytes:
    """An endorsement whose header has ES512."""
    named = next(b"\x01" + cbor2.dumps(known) for known in SCHEMES if b"\x01" + cbor2.dumps(known) in data)
    return data.replace(named, b"\x01" + cbor2.dumps(-36), 1)


def test_endorsed(storage: SealedStore) -> None:
    """The token states that the VM is compliant, and the endorser; the newest endorsement counts."""
    world = world_of(storage, LISTED)
    for given, svn in (((endorsement(BY),), 104), ((older(BY),), 100), ((older(BY), endorsement(BY)), 104)):
        claims = claims_of(world, *given)
        assert claims["x-ms-compliance-status"] == "azure-compliant-uvm"
        assert claims["x-kluis-uvm-issuer"] == BY.issuer
        assert (claims["x-kluis-uvm-feed"], claims["x-kluis-uvm-svn"]) == (FEED, svn)


def test_not_endorsed(storage: SealedStore) -> None:
    """Another issuer, feed, launch, or an old version is ignored; so is an unbound endorsement."""
    world = world_of(storage, LISTED)
    for given in (
        endorsement(OTHER), endorsement(BY, feed="ConfAKS-AMD-UVM"), endorsement(BY, bytes(48)),
        endorsement(BY, svn=99),
    ):  # fmt: skip
        claims = claims_of(world, given)
        assert "x-ms-compliance-status" not in claims
        assert not [name for name in claims if name.startswith("x-kluis-uvm")]
    assert "x-ms-compliance-status" not in claims_of(world, members={"Other": []})
    assert "x-ms-compliance-status" not in claims_of(world, endorsement(BY), bound=False)


def test_nobody_is_listed(storage: SealedStore) -> None:
    """Without a list every endorsement is ignored, whatever its signer and kind."""
    world = world_of(storage)
    for given in (endorsement(BY), flipped(endorsement(OTHER)), of_another_algorithm(endorsement(BY))):
        claims = claims_of(world, given)
        assert "x-ms-compliance-status" not in claims
        assert not [name for name in claims if name.startswith("x-kluis-uvm")]
    assert claims_of(world, members={"Other": [1]})


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: body(flipped(endorsement(BY))),
            "UVM endorsement: is not signed by the key it should be",
        ),
        (lambda: body(b"\xff"), "UVM endorsement"),
        (lambda: body(*[endorsement(BY)] * 5), "report.Endorsements.Uvm: want a list of at most 4 texts"),
        (lambda: body(members={"Uvm": [1]}), "report.Endorsements.Uvm: want a list of at most 4 texts"),
        (lambda: body(members=[]), "report.Endorsements: want a JSON object, got list"),
    ],
)
def test_what_does_not_hold(storage: SealedStore, made: Any, message: str) -> None:
    """An endorsement that is forged, or none, is refused where somebody is listed."""
    status, code, told = error_of(world_of(storage, LISTED).attest("SevSnpVm", made()))
    assert (status, code) == (400, "InvalidParameter")
    assert message in told


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: body(b"no endorsement"), "The specified report was invalid: UVM endorsement"),
        (lambda: body(endorsement(BY), b""), "The specified report was invalid: UVM endorsement"),
        (lambda: body(endorsement(BY)[:-1]), "The specified report was invalid: UVM endorsement"),
        (lambda: body(endorsement(BY, bytes(47))), "want a launch digest of 48 bytes, got 47"),
        (lambda: body(*[endorsement(BY)] * 5), "report.Endorsements.Uvm: want a list of at most 4 texts"),
        (lambda: body(members={"Uvm": ["*"]}), "report.Endorsements.Uvm: Unknown base64 character: 42 ('*')"),
        (lambda: body(members=[]), "report.Endorsements: want a JSON object, got list"),
    ],
)
def test_what_is_malformed(storage: SealedStore, made: Any, message: str) -> None:
    """Junk is refused where nobody is listed, too: a client that sends it means something by it."""
    status, code, told = error_of(world_of(storage).attest("SevSnpVm", made()))
    assert (status, code) == (400, "InvalidParameter")
    assert message in told


def test_a_list_that_is_none() -> None:
    """An endorser is a did:x509, a feed and a version."""
    for members in ({"issuer": "did:web:x"}, {"feed": ""}, {"least_svn": -1}):
        with pytest.raises(UsageError) as refused:
            UvmEndorser(**{"issuer": BY.issuer, "feed": FEED, "least_svn": 0, **members})
        assert refused.value.message.startswith("compliance.uvm_endorsers: want did:x509:0:sha256:..")
