"""Real reports, real chains, and negatives made of them by one change: all end as recorded."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import AuthenticityError, KluisError, UnavailableError
from kluis.evidence import (
    OPENSSL,
    ProtectionLevel,
    SnpClaims,
    SnpEndorsements,
    TrustAnchors,
    Verifier,
    aws_lc,
    verify,
)
from kluis.evidence.amd import chain
from kluis.evidence.amd.chain import Authority
from kluis.evidence.context import Context
from kluis.evidence.engine import Engine
from kluis.evidence.model import NOT_JUDGED, Claims
from kluis.formats import x509
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import table
from kluis.hashes import sha256

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
FOUND = sorted((VECTORS / "snp").glob("*/meta.json"))
SHIPPED = TrustAnchors.shipped()
ANY_DAY = datetime(2026, 1, 1, tzinfo=UTC)
COMPONENTS = {"fmc": "fmc", "boot_loader": "bootloader", "tee": "tee", "snp": "snp", "microcode": "microcode"}
# Each negative's recorded fault, and the code that it ends with.
CODES = {
    "revoked ASK": "cert_chain",
    "TCB mismatch, same chip": "sig_report",
    "revoked intermediate": "cert_revoked",
    "invalid VCEK": "cert_chain",
}

pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")


class Vector:
    """One recorded piece of evidence."""

    def __init__(self, path: Path) -> None:
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        when = self.meta.get("verify_time")
        self.now = datetime.fromisoformat(when) if when else ANY_DAY
        self.expected, self.known = self.meta["expected"], self.meta.get("known", {})

    def part(self, role: str) -> bytes | None:
        """The bytes of a part, which must be the recorded ones; None where there is none."""
        recorded = self.meta["files"].get(role)
        if recorded is None:
            return None
        data = (self.folder / recorded["file"]).read_bytes()
        assert sha256(data).hex() == recorded["sha256"]
        return data

    @property
    def report(self) -> bytes:
        """The report."""
        data = self.part("report")
        assert data is not None
        return data

    def endorsements(self, ca: str = "ask") -> SnpEndorsements:
        """What endorses it."""
        key, crl = self.part("endorsement_key"), self.part("ark_crl")
        return SnpEndorsements(vek=key, ask=self.part(ca), ark=self.part("ark"), crl=crl)

    def verify(self, anchors: TrustAnchors = SHIPPED) -> Claims:
        """Verify it at the recorded time."""
        return verify(self.report, anchors=anchors, collateral=self.endorsements(), now=self.now).value

    def authority(self, ca: str = "ask") -> Authority:
        """Verify its chain without a report."""
        return chain.verify_authority(self.endorsements(ca), context=Context(SHIPPED), now=self.now)


ALL = [Vector(path) for path in FOUND]
WITH_REPORT = [vector for vector in ALL if "report" in vector.meta["files"]]
WITHOUT_REPORT = [vector for vector in ALL if "report" not in vector.meta["files"]]


def _of(vectors: list[Vector], *outcomes: str) -> Any:
    chosen = [vector for vector in vectors if vector.expected["outcome"] in outcomes]
    return pytest.mark.parametrize("vector", chosen, ids=lambda vector: str(vector.meta["id"]))


def test_every_outcome_is_judged() -> None:
    """No vector has an outcome that no test here knows."""
    assert {vector.expected["outcome"] for vector in ALL} <= {"valid", "invalid", "indeterminate"}


@_of(WITH_REPORT, "valid")
def test_genuine(vector: Vector) -> None:
    """Genuine evidence verifies, to every claim that is recorded of it."""
    claims, known, expected = vector.verify(), vector.known, vector.expected
    vendor = claims.vendor
    assert isinstance(vendor, SnpClaims)
    assert (claims.kind, vendor.version) == (f"SNP report v{known['version']}", known["version"])
    assert (claims.level, claims.debug) == (ProtectionLevel.HARDWARE_SNP, expected["debug"])
    assert (claims.anchor, claims.platform.product) == (
        f"AMD ARK-{expected['product']}",
        expected["product"],
    )
    assert claims.measurement.value.hex() == known["measurement"]
    assert (claims.svn, claims.product_id) == (known["guest_svn"], None)
    assert claims.report_data.hex() == known["report_data"]
    assert claims.family_id is not None
    assert claims.family_id.hex() == known["family_id"]
    assert claims.tcb == NOT_JUDGED
    assert (claims.signer.value.hex() if claims.signer else "0" * 96) == known["id_key_digest"]
    assert (vendor.image_id.hex(), vendor.host_data.hex()) == (known["image_id"], known["host_data"])
    author = known["author_key_digest"] if known["author_key_en"] else None
    assert (vendor.author_key_digest.value.hex() if vendor.author_key_digest else None) == author
    assert (vendor.report_id.hex(), vendor.report_id_ma) == (known["report_id"], None)
    assert known["report_id_ma"] == "f" * 64
    assert vendor.chip_id.hex() == known["chip_id"]
    assert claims.platform.id == (b"" if vendor.chip_id_masked else vendor.chip_id)
    assert vendor.chip_id_masked is (set(known["chip_id"]) == {"0"})
    assert (vendor.vmpl, vendor.signing_key.name) == (known["vmpl"], known["signing_key"])
    assert vendor.signing_key.name == expected["endorsement"]
    assert (vendor.csp_id is not None) is (expected["endorsement"] == "VLEK")
    policy, info = vendor.policy, vendor.platform_info
    assert policy.encode() == int(known["policy"], 16)
    assert f"{policy.abi_major}.{policy.abi_minor}" == known["policy_abi"]
    for ours, theirs in (
        (policy.smt, "policy_smt"),
        (policy.migrate_ma, "policy_migrate_ma"),
        (policy.debug, "policy_debug"),
        (policy.single_socket, "policy_single_socket"),
        (info.smt, "smt_en"),
        (info.tsme, "tsme_en"),
        (info.ecc, "ecc_en"),
        (info.rapl_disabled, "rapl_dis"),
        (info.ciphertext_hiding, "ciphertext_hiding"),
        (info.alias_check_complete, "alias_check_complete"),
        (info.tio, "tio_en"),
        (vendor.mask_chip_key, "mask_chip_key"),
    ):
        assert ours is known[theirs], theirs
    assert info.encode() == int(known["platform_info"], 16)
    for name in ("reported_tcb", "current_tcb", "committed_tcb", "launch_tcb"):
        tcb = getattr(vendor, name)
        assert {theirs: getattr(tcb, ours) for ours, theirs in COMPONENTS.items()} == {
            "fmc": None,
            **known[name],
        }
    assert known["reported_tcb"] == expected["cert_tcb"]
    assert (str(vendor.current_version), str(vendor.committed_version)) == (
        known["current_version"],
        known["committed_version"],
    )
    provisional = known["current_tcb"] != known["committed_tcb"]
    assert vendor.provisional_firmware is (
        provisional or known["current_version"] != known["committed_version"]
    )
    assert vendor.reported_within_committed
    assert vendor.committed_within_current
    if vendor.cpuid is not None:
        assert [hex(part) for part in vendor.cpuid[:2]] == [known["cpuid_family"], known["cpuid_model"]]
        assert vendor.cpuid.stepping == known["cpuid_stepping"]
    assert (vendor.cpuid is None) is ("cpuid_family" not in known)
    for ours, theirs in (
        (vendor.launch_mitigations, "launch_mitigation_vector"),
        (vendor.current_mitigations, "current_mitigation_vector"),
    ):
        assert (None if ours is None else hex(ours)) == known.get(theirs)
    assert vendor.crl_checked is ("ark_crl" in vector.meta["files"]) is (vendor.crl_issued is not None)
    assert vendor.unknown_extensions == ()
    assert not vendor.migratable


@_of(WITH_REPORT, "invalid")
def test_negative(vector: Vector) -> None:
    """What is recorded as invalid is refused for its reason."""
    with pytest.raises(AuthenticityError) as caught:
        vector.verify()
    assert caught.value.code == CODES[vector.meta["negative"]]


@_of(WITH_REPORT, "indeterminate")
def test_indeterminate(vector: Vector) -> None:
    """A genuine report without its certificate cannot be decided, and the error states where to get it."""
    with pytest.raises(UnavailableError) as caught:
        vector.verify()
    assert caught.value.code == "collateral_missing"
    assert caught.value.hint is not None


@_of(WITHOUT_REPORT, "valid")
def test_chain_alone(vector: Vector) -> None:
    """AMD's chains verify by themselves, of VCEKs and of VLEKs."""
    for ca in ("ask", "asvk"):
        authority = vector.authority(ca)
        assert authority.anchor.name == f"AMD ARK-{authority.product}"
        assert authority.ca.serial == vector.known[f"{ca}_serial"]
        assert sha256(authority.root.der).hex() == vector.known["ark_sha256"]
        assert authority.crl is None


@_of(WITHOUT_REPORT, "invalid")
def test_chain_alone_negative(vector: Vector) -> None:
    """A revoked CA is refused with the CRL; without it nothing tells, and its successor is not listed."""
    with pytest.raises(AuthenticityError) as caught:
        vector.authority()
    assert caught.value.code == CODES[vector.meta["negative"]]
    assert str(caught.value) == "ASK certificate: serial 0x20001 is revoked"
    without = SnpEndorsements(ask=vector.part("ask"), ark=vector.part("ark"))
    authority = chain.verify_authority(without, context=Context(SHIPPED), now=vector.now)
    assert (authority.ca.serial, authority.crl) == (131073, None)
    assert vector.authority("current_ask").ca.serial == 131074


def _engines() -> list[Engine]:
    try:
        return [OPENSSL, aws_lc()]
    except UnavailableError:
        return [OPENSSL]


@pytest.mark.parametrize("engine", _engines(), ids=lambda engine: str(engine.name))
def test_engines_agree(engine: Engine) -> None:
    """Another engine, and a verifier that remembers, decide every vector as the reference does."""
    remembers = Verifier(SHIPPED, engine=engine)
    for vector in WITH_REPORT * 2:
        want = _outcome(Verifier(SHIPPED), vector)
        assert _outcome(remembers, vector) == want


def _outcome(verifier: Verifier, vector: Vector) -> object:
    try:
        return verifier.verify(vector.report, collateral=vector.endorsements(), now=vector.now).value
    except KluisError as error:
        return type(error), error.code, error.message


@_of(WITH_REPORT, "valid")
def test_from_a_hosts_table(vector: Vector) -> None:
    """A host's certificate table endorses as the caller's own collateral does, and is no anchor."""
    given = vector.endorsements()
    vlek = vector.expected["endorsement"] == "VLEK"
    assert given.vek is not None
    assert given.ask is not None
    assert given.ark is not None
    extended = (
        vector.report
        + table.build(
            {table.VLEK if vlek else table.VCEK: given.vek, table.ASK: given.ask, table.ARK: given.ark}
        ).encode()
    )
    crl = SnpEndorsements(crl=given.crl)
    claims = verify(extended, anchors=SHIPPED, collateral=crl, now=vector.now).value
    assert claims == vector.verify()
    other = TrustAnchors(tuple(anchor for anchor in SHIPPED if anchor.product != claims.platform.product))
    with pytest.raises(AuthenticityError) as caught:
        verify(extended, anchors=other, collateral=crl, now=vector.now)
    assert caught.value.code == "root_untrusted"


def test_amds_root_files_are_hardware() -> None:
    """Naming the file of an ARK is naming the shipped anchor."""
    found = {vector.part("ark") for vector in ALL} - {None}
    names = {anchor.name for root in found if root for anchor in TrustAnchors.from_pem(root)}
    assert names == {"AMD ARK-Milan", "AMD ARK-Genoa", "AMD ARK-Turin"}


@_of(WITH_REPORT, "valid")
def test_the_report_is_what_was_signed(vector: Vector) -> None:
    """One bit changed in any signed field, or in the signature, is refused, whatever the engine."""
    remembers = Verifier(SHIPPED)
    remembers.verify(vector.report, collateral=vector.endorsements(), now=vector.now)
    for at in (0x04, 0x50, 0x90, 0xC0, 0x140, 0x1F8 - 0x40, 0x2A0, 0x2E8):
        data = bytearray(vector.report)
        data[at] ^= 1
        with pytest.raises(AuthenticityError) as caught:
            remembers.verify(bytes(data), collateral=vector.endorsements(), now=vector.now)
        assert caught.value.code == "sig_report"


def test_own_reader_and_cryptography_agree() -> None:
    """Our reader of certificates reads AMD's as ``cryptography`` does, serial number 0 apart."""
    from cryptography import x509 as pyca

    for vector in WITH_REPORT:
        ask = vector.part("ask")
        if ask is None:
            continue
        theirs = pyca.load_pem_x509_certificate(ask)
        ours = x509.parse_pem(ask, "ASK certificate")[0]
        assert (ours.serial, ours.subject) == (theirs.serial_number, theirs.subject.public_bytes())
        assert (ours.signed, ours.signature) == (theirs.tbs_certificate_bytes, theirs.signature)


def test_sizes() -> None:
    """Every report is of one size, whatever its version."""
    assert {len(vector.report) for vector in WITH_REPORT} == {snp_report.SIZE}
