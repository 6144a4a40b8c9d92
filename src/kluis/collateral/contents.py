"""Describe the parts of a bundle: who issued each, and how long it is valid.

Nothing here is verified.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime

from kluis.collateral.bundle import Bundle, certificate_of
from kluis.formats import x509
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.sgx.tcb_info import parse_identity, parse_tcb_info
from kluis.formats.snp.endorsements import Endorsements
from kluis.frozen import frozen


@frozen(kw_only=True)
class Line:
    """The description of one part of a bundle.

    Attributes:
        part: its role.
        issuer: the common name of the signer, as the part states it.
        issued: aware.
        until: aware.
        evaluation: Intel's TCB evaluation data number, or None.
        about: other identification: an FMSPC, an enclave, a certificate's subject and serial number.
    """

    part: str
    issuer: str
    issued: datetime
    until: datetime
    evaluation: int | None = None
    about: str = ""


def describe(bundle: Bundle) -> tuple[Line, ...]:
    """Describe the issuer and the validity of each part, as the part states them.

    Raises:
        FormatError: a part does not match its role.
    """
    match bundle:
        case Endorsements():
            return _describe_amd(bundle)
        case Collateral():
            return _describe_intel(bundle)
        case AzureEndorsements():
            return _describe_azure(bundle)


def _describe_intel(collateral: Collateral) -> tuple[Line, ...]:
    info, identity = parse_tcb_info(collateral.tcb_info), parse_identity(collateral.qe_identity)
    lines = [
        Line(
            part="tcb_info",
            issuer=_leaf(collateral.tcb_info_issuer_chain, "TCB info issuer chain").common_name,
            issued=info.issued,
            until=info.next_update,
            evaluation=info.evaluation,
            about=f"{info.tee} FMSPC {info.fmspc.hex()}",
        ),
        Line(
            part="qe_identity",
            issuer=_leaf(collateral.qe_identity_issuer_chain, "QE identity issuer chain").common_name,
            issued=identity.issued,
            until=identity.next_update,
            evaluation=identity.evaluation,
            about=identity.id,
        ),
    ]
    chain = x509.parse_pem(collateral.pck_crl_issuer_chain, "PCK CRL issuer chain")
    for part, data in (("pck_crl", collateral.pck_crl), ("root_ca_crl", collateral.root_ca_crl)):
        lines.append(_crl(part, data, chain))
    return tuple(lines)


def _describe_amd(endorsements: Endorsements) -> tuple[Line, ...]:
    certificates = {"vek": endorsements.vek, "ask": endorsements.ask, "ark": endorsements.ark}
    chain = {part: certificate_of(data, part) for part, data in certificates.items() if data is not None}
    lines = [_describe_certificate(part, one, chain.values()) for part, one in chain.items()]
    if endorsements.crl is not None:
        lines.append(_crl("crl", endorsements.crl, chain.values()))
    return tuple(lines)


def _describe_azure(endorsements: AzureEndorsements) -> tuple[Line, ...]:
    lines: list[Line] = []
    for name, part in (("snp", endorsements.snp), ("tdx", endorsements.tdx)):
        if part is not None:
            lines += (dataclasses.replace(line, part=f"{name}.{line.part}") for line in describe(part))
    if endorsements.ak is not None:
        chain = x509.parse_pem(endorsements.ak.chain, "AK chain") if endorsements.ak.chain else ()
        leaf = (
            (certificate_of(endorsements.ak.certificate, "AK"),)
            if endorsements.ak.certificate is not None
            else ()
        )
        lines += (_describe_certificate("ak", one, (*leaf, *chain)) for one in (*leaf, *chain))
    return tuple(lines)


def _describe_certificate(part: str, one: x509.Certificate, chain: Iterable[x509.Certificate]) -> Line:
    return Line(
        part=part,
        issuer=_name_of(one.issuer, chain),
        issued=one.not_before,
        until=one.not_after,
        about=f"{one.common_name}, serial {one.serial}",
    )


def _name_of(issuer: bytes, chain: Iterable[x509.Certificate]) -> str:
    """The common name in this name (DER), if the bundle contains a certificate for it."""
    return next((one.common_name for one in chain if one.subject == issuer), "no certificate of the bundle")


def _crl(part: str, data: bytes, chain: Iterable[x509.Certificate]) -> Line:
    crl = x509.parse_crl(data, part)
    return Line(
        part=part,
        issuer=_name_of(crl.issuer, chain),
        issued=crl.this_update,
        until=crl.next_update,
        about=f"{len(crl.revoked)} revoked",
    )


def _leaf(chain: bytes, what: str) -> x509.Certificate:
    return x509.parse_pem(chain, what)[0]
