"""Claims of every TEE, made here: what appraisal judges, without the evidence that proves it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from kluis.evidence.amd.claims import SnpClaims
from kluis.evidence.azure.claims import AzureClaims
from kluis.evidence.cca.token import CcaClaims
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.eventlog.replay import Registers
from kluis.evidence.intel.sgx import SgxClaims
from kluis.evidence.intel.tdx import TdxClaims
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NOT_JUDGED, Claims, Platform, Tcb, TcbStatus, Tee, VendorClaims
from kluis.evidence.nitro.document import NitroClaims
from kluis.evidence.nvidia.device import Device
from kluis.evidence.nvidia.report import NvidiaClaims
from kluis.evidence.tpm.claims import TpmClaims
from kluis.formats.cca.platform import Component
from kluis.formats.nvidia.opaque import Feature
from kluis.formats.snp.flags import GuestPolicy, PlatformInfo, SigningKey
from kluis.formats.snp.report import FirmwareVersion
from kluis.formats.snp.tcb import Product, TcbVersion
from kluis.hashes import Digest

V = TypeVar("V", bound=VendorClaims | LogClaims)
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


def _vendor(kind: type[V], **given: Any) -> V:
    """A vendor's claims, of which some are given; nothing reads the rest."""
    return kind(**{**{field.name: None for field in dataclasses.fields(kind)}, **given})


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
    platform=Platform(id=b"\5" * 16, product="00A067110000"),
    vendor=_vendor(
        SgxClaims, attributes=0x85 | 3 << 64, pcesvn=13, smt=False, dynamic=False, cached_keys=False
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
TDX = Claims(
    **{**SHARED, "tcb": UP_TO_DATE, "registers": {f"rtmr{i}": digest(i + 1) for i in range(4)}},
    kind="TDX quote v5",
    tee=Tee.TDX,
    level=ProtectionLevel.HARDWARE_TDX,
    measurement=digest(1),
    platform=Platform(id=b"\5" * 16, product="B0C06F000000"),
    vendor=_vendor(
        TdxClaims,
        td_attributes=1 << 28,
        migratable=False,
        xfam=0x600E7,
        mrseam=b"\2" * 48,
        mrconfigid=bytes(48),
        mrowner=bytes(48),
        mrownerconfig=bytes(48),
        mrservicetd=bytes(48),
        pcesvn=13,
        smt=True,
        dynamic=False,
        cached_keys=True,
    ),
)
NITRO = Claims(
    **{
        **SHARED,
        "signer": digest(8),
        "registers": {f"pcr{i}": digest(i + 1) for i in (0, 1, 2, 3, 4, 8, 31)},
        "report_data": b"user data",
        "nonce": b"nonce",
        "collateral_issued": None,
    },
    kind="Nitro document",
    tee=Tee.NITRO,
    level=ProtectionLevel.HARDWARE_NITRO,
    measurement=digest(0),
    platform=Platform(id=b"i-0-enc1", product="Nitro Enclaves"),
    vendor=_vendor(
        NitroClaims, timestamp=NOW - timedelta(seconds=7), public_key=b"key", module_id="i-0-enc1"
    ),
)
NVIDIA = Claims(
    **{
        **SHARED,
        "registers": {"block1": digest(1), "block2": digest(2)},
        "report_data": b"",
        "nonce": b"\7" * 32,
        "collateral_issued": None,
    },
    kind="NVIDIA report",
    tee=Tee.NVIDIA,
    level=ProtectionLevel.HARDWARE_GPU,
    measurement=digest(3),
    platform=Platform(id=b"\5" * 19, product="GH100"),
    vendor=_vendor(
        NvidiaClaims,
        device=Device.GPU,
        driver_version="590.12",
        vbios_version="96.00.A5.00.01",
        fwid=b"\4" * 48,
        feature=Feature.SINGLE_PASS_THROUGH,
        protected_pcie=False,
        revocation_checked=True,
    ),
)
TPM = Claims(
    **{**SHARED, "registers": {f"pcr{i}": digest(i + 1, 32) for i in range(16)}, "nonce": b"\7" * 32},
    kind="TPM quote",
    tee=Tee.TPM,
    level=ProtectionLevel.VTPM,
    measurement=digest(1, 32),
    platform=Platform(id=b"\5" * 32, product="TPM 2.0"),
    vendor=_vendor(
        TpmClaims,
        key_certified=True,
        revocation_checked=True,
        log=_vendor(
            LogClaims,
            registers=Registers.PCR,
            reproduced=frozenset(range(8)),
            contradicted=frozenset(),
            unexplained=frozenset(),
            failed=frozenset(),
            secure_boot=True,
        ),
    ),
)
CCA = Claims(
    **{
        **SHARED,
        "registers": {f"rem{i}": digest(i + 1, 32) for i in range(4)},
        "report_data": b"",
        "nonce": b"\7" * 64,
        "collateral_issued": None,
    },
    kind="CCA token",
    tee=Tee.CCA,
    level=ProtectionLevel.HARDWARE_CCA,
    measurement=digest(1, 32),
    platform=Platform(id=b"\1" + b"\5" * 32, product="07" * 32),
    vendor=_vendor(
        CcaClaims,
        personalization_value=b"\2" * 64,
        implementation_id=b"\7" * 32,
        components=(
            Component(kind="BL", measurement=b"\3" * 32, version="1", signer=b"\4" * 32, hash_algorithm=None),
        ),
    ),
)
AZURE = dataclasses.replace(
    SNP,
    kind="Azure HCL report v2 (SNP)",
    tee=Tee.AZURE,
    nonce=b"\7" * 32,
    registers=TPM.registers,
    vendor=_vendor(
        AzureClaims,
        hardware=SNP,
        tpm=TPM,
        key_certified=False,
        vm_id="a VM",
        configuration={"secure-boot": True, "console-enabled": True},
    ),
)
SAMPLES: dict[Tee, Claims] = {each.tee: each for each in (SGX, TDX, SNP, NITRO, TPM, AZURE, NVIDIA, CCA)}


def changed(claims: Claims, **fields: Any) -> Claims:
    """The same claims with some fields changed; vendor-specific ones are changed in their part."""
    own = {field.name for field in dataclasses.fields(claims)}
    vendor = dataclasses.replace(claims.vendor, **{k: v for k, v in fields.items() if k not in own})
    return dataclasses.replace(claims, vendor=vendor, **{k: v for k, v in fields.items() if k in own})
