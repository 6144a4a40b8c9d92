"""Recorded values are looked for in the claims, and values without a comparison are reported."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kluis.errors import FormatError
from tests.corpus import facts
from tests.corpus.record import Record
from tests.evidence.forge import Forge, pem
from tests.evidence.samples import MAKERS, sample


def record(tee: str, known: dict[str, Any], expected: dict[str, Any] | None = None) -> Record:
    return Record(
        id="x",
        tee=tee,
        format="",
        derived=False,
        outcome="valid",
        expected=expected or {},
        known=known,
        verify_time=None,
        files={},
    )


KINDS = {"amd.snp": "snp", "azure.hcl": "azure", "intel.sgx": "sgx", "intel.tdx": "tdx", "tpm.tpm": "tpm"}
KINDS |= {"cca.token": "cca", "nitro.document": "nitro", "nvidia.report": "nvidia"}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_every_place_is_one(kind: str) -> None:
    """Every place where a recorded value is looked for is there in the claims of a piece of evidence."""
    claims = sample(kind).verify()
    optional = {"azure": {"mrtd", "tdattributes", "td_report_data"}}.get(KINDS[kind], set())
    for name in set(facts.KNOWN[KINDS[kind]]) - optional:
        outer, _, inner = name.partition(".")
        known = {outer: {inner: "nonsense"}} if inner else {name: "nonsense"}
        (said,) = facts.differences(record(KINDS[kind], known), claims)
        assert said.startswith(f"{name}: want nonsense, got ")
        assert "no such claim" not in said or name in {"cpuid_family", "cpuid_model", "cpuid_stepping"}


def test_what_nothing_is_compared_with_is_told() -> None:
    """A recorded value that has no place is named, one level down too."""
    known = {"mrenclave": "00", "colour": "blue"}
    assert facts.unasked(record("sgx", known, {"outcome": "valid", "mood": 1})) == (
        "expected.mood",
        "known.colour",
    )
    assert facts.unasked(record("cca", {"platform": {"config": "", "hue": 1}})) == ("known.platform.hue",)


def test_refused_by_any_policy() -> None:
    """Another nonce than the relying party's refuses authentic evidence; so does a status nobody can name."""
    claims = sample("tpm.tpm").verify()
    assert facts.refused_by_any_policy(record("tpm", {"nonce": "00"}), claims)
    assert not facts.refused_by_any_policy(record("tpm", {"nonce": b"nonce".hex()}), claims)
    assert not facts.refused_by_any_policy(record("tpm", {"nonce": None}), claims)
    assert not facts.refused_by_any_policy(record("tpm", {}), claims)
    assert not facts.refused_by_any_policy(record("sgx", {}, {"tcb_status": "NotSupported"}), claims)


def test_what_is_known_of_the_bytes() -> None:
    """Values that no claim holds are read from the bytes; of a derived record they are another's."""
    quote = sample("intel.sgx").data
    told = dataclasses.replace(record("sgx", {"cert_data_type": 3, "miscselect": 0}), files={"quote": quote})
    assert facts.differences(told, None) == ("cert_data_type: want 3, got 5",)
    assert facts.differences(dataclasses.replace(told, derived=True), None) == ()


def test_advisories_by_either_name_in_any_order() -> None:
    """What the index calls advisories is compared, whatever it is called and in whichever order."""
    claims = sample("intel.sgx").verify()
    assert claims.tcb is not None
    told = list(reversed(claims.tcb.advisories))
    for name in ("advisories", "advisory_ids"):
        assert facts.differences(record("sgx", {}, {name: told}), claims) == ()
        (said,) = facts.differences(record("sgx", {}, {name: [*told, "INTEL-SA-00001"]}), claims)
        assert said.startswith(f"{name}: want ")


def test_a_check_that_is_recorded_to_fail() -> None:
    """Evidence that verifies although its record has a failed check differs."""
    claims = sample("cca.token").verify()
    good = {"rak_binding": True, "chain_ok": [True, True]}
    assert facts.differences(record("nvidia", good), claims) == ()
    for bad in ({"rak_binding": "InvalidSignature()"}, {"chain_ok": [True, False]}):
        (said,) = facts.differences(record("nvidia", bad), claims)
        assert said == f"{next(iter(bad))}: want it not to hold, got verified"


def test_a_platforms_certificate_beside_its_quote() -> None:
    """The PCK certificate is read in its place: in its quote, or next to a quote that only names it."""
    forge = Forge()
    leaf = forge.leaf()
    known = {"pck_not_before": leaf.not_valid_before_utc.isoformat(), "cert_data_type": 1}
    lone = forge.requote(certification_type=1, certification_data=bytes(34))
    told = dataclasses.replace(record("sgx", known), files={"quote": lone, "pck_cert": pem(leaf)})
    assert facts.differences(told, None) == ()
    odd = dataclasses.replace(told, known={"pck_not_before": "2001-01-01T00:00:00Z"})
    (said,) = facts.differences(odd, None)
    assert said.startswith("pck_not_before: want 2001-01-01T00:00:00Z, got ")
    with pytest.raises(FormatError, match="has no PCK certificate"):
        facts.differences(dataclasses.replace(told, files={"quote": lone}), None)
