"""Claims of every TEE, made here: what appraisal judges, without the evidence that proves it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from kluis.evidence.amd.claims import SnpClaims
from kluis.evidence.intel.sgx import SgxClaims
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NOT_JUDGED, Claims, Platform, Tcb, TcbStatus, Tee
from kluis.formats.snp.flags import GuestPolicy, PlatformInfo, SigningKey
from kluis.formats.snp.report import FirmwareVersion
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.hashes import Digest

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
UP_TO_DATE = Tcb(status=TcbStatus.UP_TO_DATE, date=NOW, advisories=(), evaluation=17)
SHARED: dict[str, Any] = {
    "anchor": "a root",
    "debug": False,
    "signer": None,
    "product_id": None,
    "svn": None,
    "config_id": None,
    "family_id": None,
    "registers": {},
    "report_data": bytes(range(64)),
    "nonce": None,
    "tcb": NOT_JUDGED,
    "collateral_issued": NOW - timedelta(days=1),
    "valid_until": NOW + timedelta(days=1),
    "verified_at": NOW,
}


def digest(byte: int, size: int = 48) -> Digest:
    """A digest of one byte repeated."""
    return Digest({32: "sha256", 48: "sha384", 64: "sha512"}[size], bytes([byte]) * size)  # type: ignore[arg-type]


SGX = Claims(
    **{
        **SHARED,
        "signer": digest(2, 32),
        "product_id": 7,
        "svn": 3,
        "config_id": b"\3" * 64,
        "family_id": b"\4" * 16,
        "tcb": UP_TO_DATE,
    },
    kind="SGX quote v3",
    tee=Tee.SGX,
    level=ProtectionLevel.HARDWARE_SGX,
    measurement=digest(1, 32),
    platform=Platform(id=b"\5" * 16, product="00a067110000"),
    vendor=SgxClaims(
        attributes=0x85 | 3 << 64,
        platform=TcbStatus.UP_TO_DATE,
        quoting_enclave=TcbStatus.UP_TO_DATE,
        instance=None,
        tcb_info_evaluation=17,
        qe_identity_evaluation=17,
        fmspc=bytes.fromhex("00a067110000"),
        ppid=b"\5" * 16,
        pceid=bytes(2),
        components=(1,) * 16,
        pcesvn=13,
        pck_cpusvn=b"\1" * 16,
        pck_serial=1 << 159,
        pck_ca="Intel SGX PCK Platform CA",
        sgx_type=1,
        dynamic=False,
        cached_keys=False,
        smt=False,
        qe_id=b"\6" * 16,
        qe_svn=10,
        pck_crl_issued=NOW - timedelta(days=1),
        root_crl_issued=NOW - timedelta(days=90),
        miscselect=0,
        cpusvn=b"\1" * 16,
        extended_product_id=bytes(16),
        configsvn=0,
    ),
)
TCB = TcbVersion(boot_loader=4, tee=0, snp=24, microcode=219)
SNP = Claims(
    **{**SHARED, "signer": digest(2), "svn": 5, "family_id": b"\6" * 16},
    kind="SNP report v3",
    tee=Tee.SNP,
    level=ProtectionLevel.HARDWARE_SNP,
    measurement=digest(1),
    platform=Platform(id=b"\5" * 64, product="Milan"),
    vendor=SnpClaims(
        version=3,
        product=Product.MILAN,
        cpuid=None,
        vmpl=0,
        policy=GuestPolicy(
            abi_minor=51,
            abi_major=1,
            smt=True,
            migrate_ma=False,
            debug=False,
            single_socket=False,
            cxl=False,
            aes_256_xts=False,
            rapl_disabled=False,
            ciphertext_hiding=False,
            page_swap_disabled=False,
        ),
        platform_info=PlatformInfo.parse(0x21),
        signing_key=SigningKey.VLEK,
        csp_id="a cloud",
        chip_id=b"\5" * 64,
        chip_id_masked=False,
        mask_chip_key=False,
        image_id=b"\7" * 16,
        host_data=b"\x08" * 32,
        id_key_digest=digest(2),
        author_key_digest=digest(3),
        report_id=b"\x09" * 32,
        report_id_ma=None,
        migratable=False,
        reported_tcb=TCB,
        current_tcb=TCB,
        committed_tcb=TCB,
        launch_tcb=TCB,
        current_version=FirmwareVersion(1, 55, 21),
        committed_version=FirmwareVersion(1, 55, 21),
        provisional_firmware=False,
        reported_within_committed=True,
        committed_within_current=True,
        launch_within_current=True,
        launch_mitigations=None,
        current_mitigations=None,
        crl_checked=True,
        crl_issued=NOW - timedelta(days=1),
        unknown_extensions=(),
    ),
)
SAMPLES: dict[Tee, Claims] = {Tee.SGX: SGX, Tee.SNP: SNP}


def changed(claims: Claims, **fields: Any) -> Claims:
    """The same claims with some fields changed; those that only the maker has are changed there."""
    own = {field.name for field in dataclasses.fields(claims)}
    vendor = dataclasses.replace(claims.vendor, **{k: v for k, v in fields.items() if k not in own})
    return dataclasses.replace(claims, vendor=vendor, **{k: v for k, v in fields.items() if k in own})
