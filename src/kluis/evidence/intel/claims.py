"""The claims that only Intel's evidence has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kluis.evidence.intel.dcap import Proof
from kluis.evidence.intel.tcb import Judgement
from kluis.evidence.model import TcbStatus, VendorClaims
from kluis.frozen import frozen


@frozen(kw_only=True)
class IntelClaims(VendorClaims):
    """Claims of SGX and TDX about the platform, from its PCK certificate, its quoting enclave and Intel's
    collateral.

    Attributes:
        platform: the vendor's judgement of only the platform; for a trust domain, at its launch.
        quoting_enclave: the vendor's judgement of only the quoting enclave.
        tcb_info_evaluation: evaluation data number of the TCB info.
        qe_identity_evaluation: of the quoting enclave's identity.
        fmspc: 6 bytes, the kind of platform.
        ppid: 16 bytes, the platform.
        pceid: 2 bytes.
        instance: 16 bytes, the platform instance id, or None.
        components: 16 component SVNs of the PCK certificate.
        pcesvn: 0..65535, from the PCK certificate.
        pck_cpusvn: 16 bytes, from the PCK certificate.
        pck_serial: of the PCK certificate.
        pck_ca: the common name of its issuer, the processor or the platform CA.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        dynamic: whether packages can be added; None if the certificate does not state it.
        cached_keys: whether Intel keeps the platform's root keys; None if not stated.
        smt: whether hyper-threading is on; None if not stated.
        qe_id: 16 bytes, the quoting enclave's name for the platform; often zero.
        qe_svn: ISVSVN of the quoting enclave, 0..65535.
        pck_crl_issued: of the PCK CRL.
        root_crl_issued: of the root's CRL.
    """

    platform: TcbStatus
    quoting_enclave: TcbStatus
    tcb_info_evaluation: int
    qe_identity_evaluation: int
    fmspc: bytes
    ppid: bytes
    pceid: bytes
    instance: bytes | None
    components: tuple[int, ...]
    pcesvn: int
    pck_cpusvn: bytes
    pck_serial: int
    pck_ca: str
    sgx_type: int
    dynamic: bool | None
    cached_keys: bool | None
    smt: bool | None
    qe_id: bytes
    qe_svn: int
    pck_crl_issued: datetime
    root_crl_issued: datetime


def facts(proof: Proof, judged: Judgement) -> dict[str, Any]:
    """The fields of :class:`IntelClaims`, by name, from the proof and the judgement."""
    quote, chain, collateral = proof.quote, proof.chain, proof.held
    sgx, configuration = chain.sgx, chain.sgx.configuration
    return {
        "platform": judged.platform,
        "quoting_enclave": judged.quoting_enclave,
        "tcb_info_evaluation": collateral.tcb_info.evaluation,
        "qe_identity_evaluation": collateral.identity.evaluation,
        "fmspc": sgx.fmspc,
        "ppid": sgx.ppid,
        "pceid": sgx.pceid,
        "instance": sgx.platform_instance_id,
        "components": sgx.components,
        "pcesvn": sgx.pcesvn,
        "pck_cpusvn": sgx.cpusvn,
        "pck_serial": chain.leaf.serial,
        "pck_ca": chain.ca.common_name,
        "sgx_type": sgx.sgx_type,
        "dynamic": configuration.dynamic_platform if configuration else None,
        "cached_keys": configuration.cached_keys if configuration else None,
        "smt": configuration.smt_enabled if configuration else None,
        "qe_id": quote.header.user_data[:16],
        "qe_svn": quote.qe_report.isvsvn,
        "pck_crl_issued": collateral.pck_crl.this_update,
        "root_crl_issued": collateral.root_crl.this_update,
    }
