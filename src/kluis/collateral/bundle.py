"""Combine endorsements from parts that are recognized by their content.

Nothing here is verified.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from kluis.collateral.documents import MAX_DOCUMENT
from kluis.collateral.fetch import Fetched
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.formats import x509
from kluis.formats.encoding import jcs
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.sgx.collateral import Collateral, crl_der, split_signed
from kluis.formats.snp.endorsements import Endorsements

Bundle: TypeAlias = Fetched | AzureEndorsements
INTEL: Final = (
    "tcb_info",
    "tcb_info_issuer_chain",
    "qe_identity",
    "qe_identity_issuer_chain",
    "pck_crl",
    "pck_crl_issuer_chain",
    "root_ca_crl",
)
PCK: Final = "pck_certificate_chain"  # of a quote that does not carry it
PCK_LEAF: Final = "pck_certificate"  # as Intel's service gives it: who issued it issued the PCK CRL as well
_PCK_NAME: Final = "SGX PCK Certificate"
AMD: Final = ("endorsement_key", "ask", "asvk", "ark", "ark_crl")
_AMD_NAMES: Final = (
    (re.compile(r"SEV-(?:VCEK|VLEK)\Z"), "endorsement_key"),
    (re.compile(r"SEV-VLEK-\w+"), "asvk"),
    (re.compile(r"SEV-\w+"), "ask"),
    (re.compile(r"ARK-\w+"), "ark"),
)


def roles_of(data: bytes) -> tuple[str, ...]:
    """Recognize a part by its content and return its possible roles; a signer's chain may have two.

    Raises:
        FormatError: not an endorsement.
    """
    if len(data) > MAX_DOCUMENT:
        raise FormatError(f"part: is more than {MAX_DOCUMENT} bytes", code="too_large")
    if data.startswith(b'{"tcbInfo":'):
        return ("tcb_info",)
    if data.startswith(b'{"enclaveIdentity":'):
        return ("qe_identity",)
    if data.startswith(b"-----BEGIN CERTIFICATE-----"):
        return _roles_of_chain(x509.parse_pem(data, "part"))
    try:
        certificate = x509.parse(data, "part")
    except FormatError:
        issuer = x509.parse_crl(crl_der(data, "part"), "part").issuer
    else:
        return (_role_ofcertificate_of(certificate),)
    if b"SEV-" in issuer or b"ARK-" in issuer:
        return ("ark_crl",)
    return ("root_ca_crl",) if b"SGX Root CA" in issuer else ("pck_crl",)


def recognise(parts: Iterable[bytes]) -> dict[str, bytes]:
    """Assign each part its role.

    Raises:
        FormatError: a part is not an endorsement.
        UsageError: two parts have one role.
    """
    by_name: dict[str, bytes] = {}
    for data in parts:
        for role in roles_of(data):
            if role in by_name and by_name[role] != data:
                raise UsageError(f"parts: two are {role}", hint=f"name them: {role}=FILE")
            by_name[role] = data
    return by_name


def join(parts: Mapping[str, bytes]) -> Fetched:
    """Combine parts by their roles: all of Intel's, or the available ones of AMD's.

    Raises:
        UsageError: a role of neither vendor, or of both.
        UnavailableError: a part of Intel's is missing.
        FormatError: a part does not match its role.
    """
    unknown = sorted(set(parts) - {*INTEL, PCK, PCK_LEAF, *AMD})
    if unknown:
        raise UsageError(f"parts: want {', '.join((*INTEL, PCK, PCK_LEAF, *AMD))}, got {', '.join(unknown)}")
    intel, amd = set(parts) & {*INTEL, PCK, PCK_LEAF}, set(parts) & set(AMD)
    if bool(intel) == bool(amd):
        raise UsageError(f"parts: want Intel's or AMD's, got {'both' if intel else 'neither'}")
    if amd:
        return _amd(parts)
    if missing := [role for role in INTEL if role not in parts]:
        raise UnavailableError(
            f"parts: {', '.join(missing)} missing",
            hint="kluis collateral fetch QUOTE gets all of them",
            code="collateral_missing",
        )
    info, info_signature = split_signed(parts["tcb_info"], "tcbInfo")
    identity, identity_signature = split_signed(parts["qe_identity"], "enclaveIdentity")
    return Collateral(
        pck_crl_issuer_chain=parts["pck_crl_issuer_chain"],
        root_ca_crl=crl_der(parts["root_ca_crl"], "root_ca_crl"),
        pck_crl=crl_der(parts["pck_crl"], "pck_crl"),
        tcb_info_issuer_chain=parts["tcb_info_issuer_chain"],
        tcb_info=info,
        tcb_info_signature=info_signature,
        qe_identity_issuer_chain=parts["qe_identity_issuer_chain"],
        qe_identity=identity,
        qe_identity_signature=identity_signature,
        pck_certificate_chain=_pck_chain(parts),
    )


def parse(data: bytes) -> Bundle:
    """Parse a bundle of either vendor, or of an Azure VM, which may contain both.

    Raises:
        FormatError: not a bundle.
    """
    value = jcs.loads(data, "bundle", max_size=8 << 20)
    if isinstance(value, dict) and "tcb_info" in value:
        return Collateral.from_json(data)
    if isinstance(value, dict) and value.keys() & {"snp", "tdx", "ak"}:
        return AzureEndorsements.from_json(data)
    if isinstance(value, dict) and value and not value.keys() & _MEMBERS:
        raise FormatError(
            f"bundle: want Intel's members, AMD's or an Azure machine's, got {sorted(value)[:8]}",
            hint="kluis collateral bundle puts documents that you have into one",
            code="bad_type",
        )
    return Endorsements.from_json(data)


_MEMBERS: Final = frozenset(field.name for field in dataclasses.fields(Endorsements))


def _amd(parts: Mapping[str, bytes]) -> Endorsements:
    if "ask" in parts and "asvk" in parts:
        raise UsageError("parts: want ask, for a VCEK, or asvk, for a VLEK, and got both")
    crl = parts.get("ark_crl")
    return Endorsements(
        vek=parts.get("endorsement_key"),
        ask=parts.get("ask", parts.get("asvk")),
        ark=parts.get("ark"),
        crl=crl_der(crl, "ark_crl") if crl is not None else None,
    )


def _pck_chain(parts: Mapping[str, bytes]) -> bytes | None:
    """The chain for a quote that does not contain one: as given, or built from its certificate and the
    issuer's.
    """
    if PCK in parts or PCK_LEAF not in parts:
        return parts.get(PCK)
    leaf = certificate_of(parts[PCK_LEAF], PCK_LEAF)
    return x509.write_pem(leaf.der) + parts["pck_crl_issuer_chain"]


def _roles_of_chain(chain: tuple[x509.Certificate, ...]) -> tuple[str, ...]:
    if len(chain) == 1:
        return (_role_ofcertificate_of(chain[0]),)
    names = [one.common_name for one in chain]
    if any("SGX TCB Signing" in name for name in names):
        return ("tcb_info_issuer_chain", "qe_identity_issuer_chain")
    if any(re.search(r"SGX PCK (Platform|Processor) CA", name) for name in names):
        return (PCK,) if any(_PCK_NAME in name for name in names) else ("pck_crl_issuer_chain",)
    raise FormatError(f"part: a chain of {names!a} endorses nothing", code="bad_type")


def _role_ofcertificate_of(one: x509.Certificate) -> str:
    if _PCK_NAME in one.common_name:
        return PCK_LEAF
    for pattern, role in _AMD_NAMES:
        if pattern.search(one.common_name):
            return role
    raise FormatError(f"part: a certificate of {one.common_name!a} endorses nothing", code="bad_type")


def certificate_of(data: bytes, what: str) -> x509.Certificate:
    """Parse a certificate in DER or PEM.

    Raises:
        FormatError: it is neither.
    """
    if data.startswith(b"-----BEGIN "):
        return x509.parse_pem(data, what, most=1)[0]
    return x509.parse(data, what)
