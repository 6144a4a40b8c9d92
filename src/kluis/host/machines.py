"""Request a token about the machine of an enclave from an attestation service for confidential VMs of Azure.

The request is of protocol 2.0 of Azure's client libraries. The answer is an envelope, which only the enclave
opens that made the offer: :func:`kluis.enclave.open_machine_token`.

Spec: Azure "Guest attestation of confidential VMs".
"""

from __future__ import annotations

from collections.abc import Mapping

from kluis.errors import UnsupportedError
from kluis.formats.encoding import b64, jcs
from kluis.formats.hcl import report as hcl
from kluis.formats.hcl.report import ReportType
from kluis.formats.kluis.machine_key import MachineOffer
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId

__all__ = ["guest_request"]


def guest_request(offer: MachineOffer, payload: Mapping[str, str] | None = None) -> dict[str, str]:
    """The body of ``POST /attest/AzureGuest`` for an offer.

    Args:
        offer: of an enclave, from :func:`kluis.enclave.machine_key_offer`.
        payload: of the client, which the token repeats.

    Raises:
        FormatError: a part of the offer is malformed.
        UnsupportedError: the machine's processor is of another kind than SEV-SNP.
    """
    report = hcl.parse(offer.hcl)
    if report.report_type is not ReportType.SNP:
        raise UnsupportedError(f"machine offer: want a report of SNP, got {report.report_type.name}")
    values = pcrs.parse(offer.pcrs)[HashId.SHA256]
    proof = {
        "SnpReport": b64.encode_url(report.hardware),
        "VcekCertChain": b64.encode_url(offer.certificates),
    }
    info: jcs.Json = {
        "AttestationProtocolVersion": "2.0",
        "OSType": b64.encode(b"Linux"),
        "OSDistro": b64.encode(b"Kluis"),
        "OSBuild": "",
        "OSVersionMajor": 0,
        "OSVersionMinor": 0,
        "TcgLogs": b64.encode(offer.event_log),
        "ClientPayload": {**(payload or {})},
        "TpmInfo": {
            "AikCert": "",
            "AikPub": b64.encode(offer.attestation_key),
            "PcrQuote": b64.encode(offer.quote),
            "PcrSignature": b64.encode(offer.signature),
            "PcrSet": list(values),
            "PCRs": [{"Index": index, "Digest": b64.encode(value)} for index, value in values.items()],
            "EncKeyPub": b64.encode(offer.key),
            "EncKeyCertifyInfo": b64.encode(offer.certification),
            "EncKeyCertifyInfoSignature": b64.encode(offer.certification_signature),
        },
        "IsolationInfo": {
            "Type": "SevSnp",
            "Evidence": {"Proof": b64.encode(jcs.dumps(proof)), "RunTimeData": b64.encode(report.runtime)},
        },
    }
    return {"AttestationInfo": b64.encode_url(jcs.dumps(info))}
