"""A quote of nobody's that ends like a platform's, for which the host has documents: those of its own."""

from __future__ import annotations

from typing import Any

from kluis.services.attestation.settings import Root
from kluis.testing.plugin import storage
from tests.evidence.forge import Forge
from tests.services.attestation.test_attesting import sgx
from tests.services.attestation.world import INTEL, World, b64u, from_b64u, settings_of

__all__ = ["storage"]

HERE = Forge()  # the platform of the service's host, whose documents it has for whatever is emulated


def test_documents_of_the_hosts_own_platform(storage: Any) -> None:
    """They do not take the place of another platform's, whose quotes go on being attested."""
    good = sgx()
    given: list[bytes] = []

    def give(kind: str, evidence: bytes) -> bytes:
        given.append(evidence)
        made = INTEL if evidence == from_b64u(good["quote"]) else HERE
        return made.collateral().to_json()

    roots = (*settings_of().roots, Root(HERE.authority.root_pem()))
    world = World(storage, collateral=(), roots=roots, ask=give)
    lie = {"quote": b64u(INTEL.requote(certification_type=3))}
    assert world.attest("SgxEnclave", lie).status_code in (400, 503)
    answer = world.attest("SgxEnclave", good)
    assert answer.status_code == 200, (answer.text, len(given))


def poisoned(world: World, good: dict[str, Any]) -> Any:
    """The answer to a good quote after one that only ends like it."""
    lie = {"quote": b64u(INTEL.requote(certification_type=3))}
    assert world.attest("SgxEnclave", lie).status_code in (400, 503)
    return world.attest("SgxEnclave", good)


def test_documents_that_an_operator_gave(storage: Any) -> None:
    """Those of ``kluis serve --collateral`` go on being used, whatever the host has for others."""
    roots = (*settings_of().roots, Root(HERE.authority.root_pem()))
    world = World(storage, roots=roots, ask=lambda kind, evidence: HERE.collateral().to_json())
    good = sgx()
    answer = poisoned(world, good)
    assert answer.status_code == 200, answer.text


def test_a_platform_that_was_known_before(storage: Any) -> None:
    """Nor do others make the service forget a platform, to take its place then."""
    roots = (*settings_of().roots, Root(HERE.authority.root_pem()))
    world = World(storage, roots=roots, ask=lambda kind, evidence: HERE.collateral().to_json())
    good = sgx()
    assert world.attest("SgxEnclave", good).status_code == 200
    for number in range(257):
        other = INTEL.requote(certification_type=3, certification_data=b"%08d" % number)
        world.attest("SgxEnclave", {"quote": b64u(other)})
    answer = poisoned(world, good)
    assert answer.status_code == 200, answer.text
