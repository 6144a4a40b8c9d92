"""A quote under an endorsed root: one forged case for each step, and the claims of a good one."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

from kluis.authority.amd import Processor
from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnsupportedError
from kluis.evidence import (
    Anchor,
    Claims,
    ProtectionLevel,
    Tcb,
    TcbStatus,
    Tee,
    TrustAnchors,
    Verifier,
    denylist,
    verify,
)
from kluis.evidence.endorsed import _worse
from kluis.evidence.intel import collateral as holding
from kluis.evidence.model import NOT_JUDGED
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.endorsement import Endorsement
from tests.authority.amd.chips import GUEST, chip, launch
from tests.evidence.forge import DEBUG, IMAGE, NOW, Forge
from tests.evidence.intel.forge import TdxForge
from tests.evidence.machine import BOOT, MachineForge
from tests.strategies import PROPERTY, mutations

FORGE = MachineForge()
USER = MachineForge(inside=Forge("process-user"))
OTHER = MachineForge(inside=Forge())
OWN = FORGE.configuration().root.hex()[:16]
ENDORSEMENT = FORGE.endorsement()
SGX_ROOT = "Kluis emulated SGX Root CA (no hardware)"


def _anchored(forge: MachineForge, **changes: object) -> TrustAnchors:
    """The processor's root under an anchor with fields replaced."""
    (anchor,) = forge.anchors
    return TrustAnchors((dataclasses.replace(anchor, **changes),))  # type: ignore[arg-type]


def _renamed_root(unit: str, name: str) -> MachineForge:
    """A machine whose platform's root has another name and level."""
    inside = Forge()
    root = inside.root_ca(unit=unit, common_name=name)
    inside.authority.state = dataclasses.replace(
        inside.authority.state, root=root.public_bytes(Encoding.PEM).decode()
    )
    return MachineForge(inside=inside)


def _of_other_boot() -> object:
    return FORGE.verify(OTHER.endorsement())


Case = tuple[type[KluisError], str, str, Callable[[], object]]
STEPS: dict[str, Case] = {
    "2 not signed by the processor": (
        AuthenticityError,
        "sig_report",
        "endorsement: SNP report v3: is not signed by the key it should be",
        lambda: FORGE.verify(
            FORGE.endorsement(
                report=MachineForge(chip(bytes(32))).report(FORGE.configuration().runtime_data())
            )
        ),
    ),
    "3 another root": (
        AuthenticityError,
        "endorsement_root",
        f"endorsement: root: want {OWN}.., which certifies this quote, got "
        f"{OTHER.configuration().root.hex()[:16]}..",
        _of_other_boot,
    ),
    "4 a root of another vendor's name": (
        AuthenticityError,
        "root_untrusted",
        "",
        lambda: _renamed_root("process", "Some SGX Root CA").verify(),
    ),
    "4 a root of level vm": (
        AuthenticityError,
        "root_untrusted",
        "",
        lambda: _renamed_root("vm", SGX_ROOT).verify(),
    ),
    "4 a root without a level": (
        UnsupportedError,
        "bad_type",
        f"root certificate: {SGX_ROOT!a} is no emulated platform's root that names its level",
        lambda: _renamed_root("x", SGX_ROOT).verify(),
    ),
    "4 much collateral": (
        FormatError,
        "too_large",
        "",
        lambda: FORGE.verify(
            collateral=dataclasses.replace(
                FORGE.collateral(),
                tcb_info_issuer_chain=FORGE.collateral().tcb_info_issuer_chain + b"\n" * 65536,
            )
        ),
    ),
    "5 a quote of another platform": (
        AuthenticityError,
        "root_untrusted",
        "",
        lambda: FORGE.verify(quote=OTHER.inside.quote()),
    ),
    "5 a quote that nobody signed": (
        AuthenticityError,
        "sig_quote",
        "SGX quote v3: is not signed by the key it should be",
        lambda: FORGE.verify(quote=FORGE.inside.requote(signature=bytes(63) + b"\1")),
    ),
    "6 another image": (
        AuthenticityError,
        "endorsement_only",
        f"endorsement: only: want {IMAGE.hex()[:16]}.., this enclave, "
        f"got a machine that runs only {'00' * 8}..",
        lambda: FORGE.verify(FORGE.endorsement(FORGE.configuration(only=bytes(32)))),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str) -> None:
    """Evidence in which only this step fails is refused, by this step."""
    error, code, message, make = STEPS[name]
    with pytest.raises(error) as caught:
        make()
    assert caught.value.code == code
    if message:
        assert caught.value.message == message


def test_every_step_has_a_case() -> None:
    """No step is without a forged case; step 1 refuses nothing."""
    assert {int(name.split()[0]) for name in STEPS} == {2, 3, 4, 5, 6}


def test_claims_of_both() -> None:
    """Level and anchor are the machine's, the code is the enclave's, and the machine's claims are within."""
    found = FORGE.verify(FORGE.endorsement(FORGE.configuration(missing=("swap",), only=IMAGE, release="1.0")))
    alone = FORGE.inside.verify()
    machine = found.machine
    assert machine is not None
    assert (found.level, found.tee, found.debug) == (ProtectionLevel.VM, Tee.SGX, False)
    assert found.anchor == machine.claims.anchor
    assert found.anchor.startswith("Kluis emulated ARK-Genoa")
    assert found.kind == "SGX quote v3 in a machine with SNP report v3"
    for name in ("measurement", "signer", "svn", "product_id", "config_id", "report_data", "vendor", "tcb"):
        assert getattr(found, name) == getattr(alone, name)
    assert (machine.kind, machine.level, machine.boot) == ("snp", ProtectionLevel.PROCESS, BOOT)
    assert (machine.missing, machine.only, machine.release, machine.debug) == (("swap",), IMAGE, "1.0", False)
    assert (machine.claims.tee, machine.claims.measurement.value) == (Tee.SNP, GUEST)
    assert machine.claims.machine is None
    assert found.valid_until == min(alone.valid_until, machine.claims.valid_until)


def test_the_root_inside_states_its_level() -> None:
    """A platform of the same user inside is told apart: its machine's level does not hide it."""
    found = USER.verify()
    assert found.machine is not None
    assert found.machine.level is ProtectionLevel.PROCESS_USER
    assert found.level is ProtectionLevel.VM


@pytest.mark.parametrize("where", ["enclave", "guest", "report"])
def test_debug_of_either_is_debug(where: str) -> None:
    """A debug enclave, a guest that says so, and a report of a debug policy: level none, and debug."""
    configuration = FORGE.configuration(debug=where == "guest")
    document = configuration.runtime_data()
    report = FORGE.report(document, policy=launch(debug=where == "report").policy)
    quote = FORGE.inside.quote(FORGE.inside.body(flags=DEBUG)) if where == "enclave" else None
    found = FORGE.verify(FORGE.endorsement(configuration, report=report), quote=quote)
    assert found.machine is not None
    assert found.debug
    assert found.level is ProtectionLevel.NONE
    assert found.machine.debug == (where != "enclave")


def test_a_root_without_a_stated_level_gives_none() -> None:
    """An anchor of level none endorses nothing more."""
    assert FORGE.verify(anchors=_anchored(FORGE, level=ProtectionLevel.NONE)).level is ProtectionLevel.NONE


def test_a_vendors_root_gives_its_level() -> None:
    """Under AMD's own root the level is hardware's, and the denylists are those of its product."""
    found = FORGE.verify(anchors=_anchored(FORGE, level=ProtectionLevel.HARDWARE_SNP))
    assert found.level is ProtectionLevel.HARDWARE_SNP
    assert found.level.hardware
    assert {entry.id for entry in denylist.match_bus(found)} == {"tee-fail-snp"}
    assert (
        "an active root in the machine, its kernel, and anyone who may log in there"
        in denylist.not_kept_out(found)
    )


def test_a_named_root_inside_needs_no_endorsement() -> None:
    """If the relying party names the root inside, the claims are those of a process TEE, with no machine."""
    both = FORGE.anchors | FORGE.inside.anchors
    for endorsement in (None, b"nothing that parses"):
        found = FORGE.verify(endorsement, anchors=both)
        assert found.machine is None
        assert found.level is ProtectionLevel.PROCESS


def test_without_an_endorsement() -> None:
    """Without one, a root that no anchor has is refused, as ever."""
    with pytest.raises(AuthenticityError) as caught:
        FORGE.verify(collateral=FORGE.inside.collateral())
    assert caught.value.code == "root_untrusted"


def test_collateral_cannot_be_held_under_an_endorsement() -> None:
    """Verified collateral has an anchor, so it is not verified ahead of the endorsement."""
    with pytest.raises(AuthenticityError) as caught:
        holding.hold(FORGE.collateral(), FORGE.anchors)
    assert caught.value.code == "root_untrusted"


def test_a_malformed_chain_is_no_root() -> None:
    """The root is read from the issuers of the collateral's list."""
    broken = dataclasses.replace(FORGE.collateral(), pck_crl_issuer_chain=b"x")
    with pytest.raises(FormatError) as caught:
        FORGE.verify(collateral=broken)
    assert caught.value.message == "PCK CRL issuer chain at 0x0: is not a PEM certificate"


def test_time_ends_with_the_first_part() -> None:
    """Evidence in a machine ends when its enclave's collateral ends, and a machine's chain is judged, too."""
    with pytest.raises(FreshnessError) as caught:
        FORGE.verify(now=NOW + timedelta(days=366 * 10))
    assert caught.value.message.startswith("endorsement: ARK certificate expired on ")


def test_a_verifier_that_remembers() -> None:
    """What a verifier proved is used again for the same bytes, and never for other ones."""
    verifier = Verifier(FORGE.anchors)
    quote, good = FORGE.inside.quote(), FORGE.collateral()

    def again(collateral: object = good, quote: bytes = quote) -> Claims:
        return verifier.verify(quote, collateral=collateral, now=NOW).value  # type: ignore[arg-type]

    assert again() == again() == verify(quote, anchors=FORGE.anchors, collateral=good, now=NOW).value
    for changed in (
        dataclasses.replace(good, endorsement=None),
        dataclasses.replace(good, endorsement=OTHER.endorsement()),
        OTHER.inside.collateral(),
    ):
        with pytest.raises(AuthenticityError):
            again(changed)
    padded = dataclasses.replace(good, tcb_info_issuer_chain=good.tcb_info_issuer_chain + b"\n" * 65536)
    with pytest.raises(FormatError, match="must be at most 65536 under an endorsed root"):
        again(padded)
    with pytest.raises(FreshnessError):
        verifier.verify(quote, collateral=good, now=NOW + timedelta(days=400))
    vendor = Processor(FORGE.processor.keys, FORGE.processor.state)
    vendor.revoke()
    listed = dataclasses.replace(good, endorsement=FORGE.endorsement(crl=vendor.crl(NOW)))
    with pytest.raises(AuthenticityError):
        again(listed)
    other = MachineForge(inside=Forge())
    assert again(other.collateral(), other.inside.quote()).level is again().level is ProtectionLevel.VM


def test_claims_cannot_be_made_by_hand() -> None:
    """Only the verifier mints claims of both, and they cannot be copied."""
    proven = verify(FORGE.inside.quote(), anchors=FORGE.anchors, collateral=FORGE.collateral(), now=NOW)
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.copy(proven)


def test_claims_end_with_the_first_part_of_both() -> None:
    """The claims are valid as long as every part is: here the list of the machine's root ends first."""
    old = NOW - timedelta(days=360)
    forge = MachineForge(chip(now=old))
    found = forge.verify(forge.endorsement(crl=forge.processor.crl(NOW - timedelta(days=350))))
    assert found.machine is not None
    assert found.valid_until == found.machine.claims.valid_until == NOW + timedelta(days=15, minutes=-5)
    assert found.valid_until < FORGE.verify().valid_until


def test_a_machine_that_its_vendor_judges() -> None:
    """A trust domain on a platform that is out of date makes the enclave in it out of date."""
    tdx = TdxForge("process")
    good = tdx.collateral()
    info = json.loads(good.tcb_info)
    info["tcbLevels"][0].update(tcbStatus="OutOfDate", advisoryIDs=["KLUIS-1"])
    behind = dataclasses.replace(good, **tdx.signed("tcb_info", info))
    document = FORGE.configuration().runtime_data()
    quote = tdx.quote(tdx.td(report_data=runtime_data.report_data(document)))
    endorsement = Endorsement(
        kind="tdx", runtime_data=document, parts={"quote": quote, "collateral": behind.to_json()}
    ).encode()
    (anchor,) = tdx.anchors
    trusted = TrustAnchors((dataclasses.replace(anchor, level=ProtectionLevel.VM),))
    found = FORGE.verify(endorsement, anchors=trusted)
    assert found.machine is not None
    assert (found.tcb.status, found.tcb.advisories) == (TcbStatus.OUT_OF_DATE, ("KLUIS-1",))
    assert (found.machine.kind, found.machine.claims.tee) == ("tdx", Tee.TDX)


def test_the_worse_judgement_counts() -> None:
    """A vendor's judgement of the machine makes the enclave's worse, and never better."""
    good = Tcb(status=TcbStatus.UP_TO_DATE, date=NOW, advisories=("b",), evaluation=3)
    old = Tcb(status=TcbStatus.OUT_OF_DATE, date=NOW - timedelta(days=1), advisories=("a",), evaluation=2)
    bare = Tcb(status=TcbStatus.REVOKED, date=None, advisories=(), evaluation=None)
    assert _worse(good, NOT_JUDGED) == good
    both = Tcb(status=TcbStatus.OUT_OF_DATE, date=old.date, advisories=("a", "b"), evaluation=2)
    assert _worse(good, old) == _worse(old, good) == both
    assert _worse(bare, bare) == bare


@PROPERTY
@given(mutations(ENDORSEMENT))
def test_no_mutated_endorsement_is_verified(data: bytes) -> None:
    """Whatever is changed in an endorsement, only our errors come out, or the claims are the same."""
    try:
        claims = FORGE.verify(data)
    except KluisError:
        return
    assert claims == FORGE.verify(ENDORSEMENT)


def test_anchors_are_keys() -> None:
    """The endorsement names the root by its key: another certificate over the same key is the same root."""
    spki = FORGE.inside.keys.root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert FORGE.root.spki == spki
    named = Anchor(name="x", vendor="Kluis emulated", spki=spki, level=ProtectionLevel.PROCESS)
    assert FORGE.verify(anchors=TrustAnchors((named,))).machine is None
