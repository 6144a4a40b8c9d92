"""Leave in a machine's vTPM what the paravisor of Azure leaves there, before the machine boots.

A boot by ``uefi`` is measured into the vTPM. As on Azure, the processor's report is over runtime data that
name the vTPM's key, so a quote by this key is evidence of what booted. The report is in NV index 0x01400001,
the key is persistent at 0x81000003, and the guest may write user data to NV index 0x01400002. The report is
signed before the boot, so it has no user data, as on older hosts of Azure: only the quote's nonce is fresh.

Spec: Azure "Guest attestation of confidential VMs"; OpenHCL, ``openhcl_attestation_protocol``.
"""

from __future__ import annotations

import uuid
from typing import Final

from kluis.authority.amd import Launch, Processor
from kluis.errors import UnavailableError
from kluis.formats.encoding import b64, jcs
from kluis.formats.hcl import report as hcl
from kluis.formats.hcl import runtime as runtime_data
from kluis.formats.hcl.report import HclReport, Header, ReportType, Request
from kluis.formats.hcl.vtpm import AK, REPORT, USER_DATA
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.command import ENDORSEMENT, OWNER
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.formats.tpm.public import RsaPublic
from kluis.hashes import sha256
from kluis.tee.tpm import keys
from kluis.tee.tpm.stored import exists
from kluis.tee.tpm.tpm import Tpm

REPORT_SIZE: Final = 2000
"""Of the NV index, which a TPM in software limits to 2048 bytes; zeros follow the report."""
USER_DATA_SIZE: Final = 64
_PARAVISOR_VMPL: Final = 0
_REQUEST_TYPE: Final = 2
_SHA256: Final = 1
_ACCESS: Final = (
    NvAttribute.OWNER_READ | NvAttribute.OWNER_WRITE | NvAttribute.AUTH_READ | NvAttribute.AUTH_WRITE
)


def leave(tpm: Tpm, processor: Processor, launch: Launch) -> None:
    """Create the key, have the processor report it, and store both.

    Args:
        tpm: the vTPM of a machine that does not run.
        processor: that signs.
        launch: of the machine, as it was measured before it started.

    Raises:
        UnavailableError: the vTPM refuses, or has no space.
    """
    modulus = _persist_key(tpm)
    runtime = _runtime(modulus, vm_id=str(uuid.UUID(bytes=launch.report_id[:16])))
    hardware = processor.report(launch, sha256(runtime) + bytes(32), _PARAVISOR_VMPL)
    report = encode(hardware, runtime)
    if len(report) > REPORT_SIZE:
        raise UnavailableError(f"vTPM: report: want at most {REPORT_SIZE} bytes, got {len(report)}")
    _store(tpm, REPORT, report.ljust(REPORT_SIZE, b"\0"))
    _store(tpm, USER_DATA, bytes(USER_DATA_SIZE))


def encode(hardware: bytes, runtime: bytes) -> bytes:
    """The report for a SEV-SNP report of 1184 bytes over runtime data."""
    request = Request(
        data_size=hcl.REQUEST_SIZE + len(runtime),
        version=1,
        report_type=ReportType.SNP,
        hash_type=_SHA256,
        runtime_size=len(runtime),
    )
    size = hcl.HEADER_SIZE + hcl.HARDWARE_SIZE + request.data_size
    header = Header(magic=hcl.MAGIC, version=1, report_size=size, request_type=_REQUEST_TYPE, status=0)
    return HclReport(
        header=header,
        hardware=hardware,
        request=request,
        report_type=ReportType.SNP,
        hash=hcl.HASHES[_SHA256],
        capabilities=b"",
        runtime=runtime,
        padding=0,
    ).encode()


def _persist_key(tpm: Tpm) -> bytes:
    """Replace the key at its handle by the vTPM's own, and return its modulus.

    The same vTPM always creates the same key. A guest that ran before may have left another one at the
    handle: what is there is never trusted (CVE-2025-49707).
    """
    with tpm.holding(tpm.create_primary(ENDORSEMENT, keys.RSA_ATTESTATION.encode())) as handle:
        key = tpm.read_public(handle).key
        if not isinstance(key, RsaPublic):
            raise UnavailableError(
                "vTPM: attestation key: want an RSA key, got another", code="tpm_integrity"
            )
        if exists(tpm, AK):
            tpm.persist(AK, AK)
        tpm.persist(handle, AK)
    return key.modulus


def _runtime(modulus: bytes, *, vm_id: str) -> bytes:
    key = {"e": runtime_data.EXPONENT, "key_ops": ["sign"], "kid": runtime_data.AK, "kty": "RSA"}
    return jcs.dumps(
        {
            "keys": [{**key, "n": b64.encode_url(modulus)}],
            "vm-configuration": {
                "console-enabled": False,
                "secure-boot": False,
                "tpm-enabled": True,
                "vmUniqueId": vm_id,
            },
        }
    )


def _store(tpm: Tpm, index: int, data: bytes) -> None:
    """Define an NV index again and write it: what a guest left there is removed."""
    if exists(tpm, index):
        tpm.nv_undefine(index)
    tpm.nv_define(
        NvPublic(index=index, name_hash=HashId.SHA256, attributes=_ACCESS, policy=b"", size=len(data))
    )
    tpm.nv_write(index, data, by=OWNER)
