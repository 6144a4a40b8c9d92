"""Who brings evidence does not choose what it is judged by, such as documents of before a revocation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.x509 import load_pem_x509_certificates

from kluis.enclave.store import SealedStore
from kluis.errors import UnavailableError
from kluis.evidence import Collateral
from kluis.formats.sgx import quote as dcap_quote
from tests.evidence.forge import NOW
from tests.services.attestation.world import INTEL, TDX, World, b64u, error_of

CHAIN = dcap_quote.parse(INTEL.quote()).certification_data
LEAF, *ISSUERS = load_pem_x509_certificates(CHAIN.rstrip(b"\0"))
TURNED = b"".join(
    b"-----BEGIN CERTIFICATE-----" + part
    for part in reversed(CHAIN.split(b"-----BEGIN CERTIFICATE-----")[1:])
)
DAY = timedelta(days=1)
REVOKED = "PCK certificate: serial "


def bundle(when: timedelta, *revoked: int) -> Collateral:
    """Collateral with a list of revoked platforms of another time; all else is of now."""
    good = INTEL.collateral(pck_crl=INTEL.crl("platform_ca", *revoked, now=NOW - when))
    return dataclasses.replace(good, pck_certificate_chain=CHAIN)


OLD, NEW = bundle(DAY), bundle(timedelta(0), LEAF.serial_number)
QUOTES: dict[str, Callable[[], bytes]] = {
    "as it is": INTEL.quote,
    "without its chain": lambda: INTEL.requote(certification_data=b""),
    "that only names its platform": lambda: INTEL.requote(certification_type=3, certification_data=bytes(20)),
    "with its chain turned round": lambda: INTEL.requote(certification_data=TURNED),
    "that does not say that it is emulated": lambda: INTEL.with_header(user_data=bytes(20)),
}


def give(kind: str, evidence: bytes) -> bytes:
    """A host, which knows a platform's documents by its quote."""
    parsed = dcap_quote.parse(evidence)
    if not parsed.header.user_data.startswith(dcap_quote.NO_HARDWARE):
        raise UnavailableError("is not kept here")
    if load_pem_x509_certificates(parsed.certification_data.rstrip(b"\0"))[0] != LEAF:
        raise UnavailableError("of no platform")
    return NEW.to_json()


@pytest.mark.parametrize("name", QUOTES)
@pytest.mark.parametrize("asked", [True, False], ids=["fetched", "configured"])
def test_a_revoked_platform_with_documents_of_before(storage: SealedStore, name: str, asked: bool) -> None:
    """Documents that the service fetches, or was given, are later: they show that the platform is revoked."""
    world = World(storage, collateral=(), ask=give) if asked else World(storage, collateral=(NEW.to_json(),))
    request = {"quote": b64u(QUOTES[name]()), "x-kluis-collateral": b64u(OLD.to_json())}
    status, code, message = error_of(world.attest("SgxEnclave", request))
    assert (status, code) == (400, "InvalidParameter")
    assert REVOKED in message
    alone = World(storage, collateral=())
    assert alone.attest("SgxEnclave", request).status_code == 200


def test_a_trust_domain_with_documents_of_before(storage: SealedStore) -> None:
    """The same of TDX: the service's TCB info is of a later recovery."""
    info = json.loads(TDX.collateral().tcb_info)
    info["tcbEvaluationDataNumber"] += 1
    for level in info["tcbLevels"]:
        level["tcbStatus"] = "Revoked"
    world = World(storage, collateral=(TDX.collateral(**TDX.signed("tcb_info", info)).to_json(),))
    request = {"quote": b64u(TDX.quote()), "x-kluis-collateral": b64u(TDX.collateral().to_json())}
    assert error_of(world.attest("TdxVm", request))[2].endswith("supports, got Revoked")


def test_an_upstream_that_is_behind_the_settings(storage: SealedStore) -> None:
    """Older documents from the host, too, do not replace later ones in the settings."""
    world = World(storage, collateral=(NEW.to_json(),), ask=lambda kind, evidence: OLD.to_json())
    request = {"quote": b64u(INTEL.quote()), "x-kluis-collateral": b64u(OLD.to_json())}
    assert REVOKED in error_of(world.attest("SgxEnclave", request))[2]


def test_an_upstream_that_is_behind_itself(storage: SealedStore) -> None:
    """What the host gave for another quote of the platform counts, whatever it gives for this one."""
    given = iter([NEW, OLD])
    world = World(storage, collateral=(), ask=lambda kind, evidence: next(given).to_json())
    other = {"quote": b64u(QUOTES["that does not say that it is emulated"]())}
    assert REVOKED in error_of(world.attest("SgxEnclave", other))[2]
    request = {"quote": b64u(INTEL.quote()), "x-kluis-collateral": b64u(OLD.to_json())}
    assert REVOKED in error_of(world.attest("SgxEnclave", request))[2]
    assert list(given) == []


def test_lists_of_one_second(storage: SealedStore) -> None:
    """Two lists of one time that revoke other platforms: the service's own counts."""
    world = World(storage, collateral=(NEW.to_json(),))
    request = {"quote": b64u(INTEL.quote()), "x-kluis-collateral": b64u(bundle(timedelta(0)).to_json())}
    assert REVOKED in error_of(world.attest("SgxEnclave", request))[2]


def test_documents_that_are_later_than_the_services(storage: SealedStore) -> None:
    """Documents with a quote count if none of them is older: they revoke, and the token lists them."""
    kept = bundle(DAY)
    world = World(storage, collateral=(kept.to_json(),))
    request = {"quote": b64u(INTEL.quote()), "x-kluis-collateral": b64u(NEW.to_json())}
    assert REVOKED in error_of(world.attest("SgxEnclave", request))[2]
    later = bundle(timedelta(0))
    own = world.token(world.attest("SgxEnclave", {"quote": b64u(INTEL.quote())}))["x-ms-sgx-collateral"]
    hashes = {
        name: world.token(
            world.attest("SgxEnclave", request | {"x-kluis-collateral": b64u(brought.to_json())})
        )["x-ms-sgx-collateral"]["tcbinfocrlhash"]
        for name, brought in (("later", later), ("older", bundle(2 * DAY)))
    }
    assert hashes["older"] == own["tcbinfocrlhash"] != hashes["later"]
