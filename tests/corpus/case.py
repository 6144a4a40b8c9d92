"""Convert a record's files to a verifier's inputs: evidence, endorsements, and the roots among them.

Each TEE defines the roles that its files may have. A file of another role is left out, and reported by
:func:`unknown_roles`: if the outcome depends on it, the record differs.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from kluis.collateral import bundle
from kluis.errors import KluisError, UsageError
from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.evidence.tpm.key import area_of
from kluis.formats import x509
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.ietf import cose, jose
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.formats.x509 import PublicKey
from tests.corpus import moment

# The chain of a quote that does not carry it, by the names that sources give it.
_PCK: Final = ("pck_chain", "pck_cert_chain", "pck_certificate_chain")
# Only its certificate: its issuer is in the CRL's chain.
_LEAF: Final = ("pck_cert", "pck_certificate", "pck_leaf")
_SIGNERS: Final = ("pck_sign_chain", "pck_signing_chain")
_ROOTS: Final = ("root", "root_ca", "trusted_root")
# Who signed Intel's documents and lists, by the names that Intel's own samples give the files.
_TCB_SIGNERS: Final = ("tcb_sign_chain", "tcb_signing_chain")
_ISSUERS: Final = {
    "pck_crl_issuer_chain": _SIGNERS,
    "tcb_info_issuer_chain": _TCB_SIGNERS,
    "qe_identity_issuer_chain": _TCB_SIGNERS,
}
_QUOTE: Final = (*bundle.INTEL, *_PCK, *_LEAF, *_SIGNERS, *_TCB_SIGNERS, *_ROOTS)
# How the parts of Azure's evidence are called in a collection, and by their records.
_HCL: Final = {
    "hcl_report": "hcl_report",
    "td_quote": "td_quote",
    "tpm_quote": "tpm_quote_msg",
    "tpm_signature": "tpm_quote_sig",
    "pcrs": "pcrs",
    "event_log": "event_log",
}
# A bare TPM public area begins with its type, RSA or ECC.
_AREAS: Final = (b"\x00\x01", b"\x00\x23")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The inputs of a verifier.

    Attributes:
        evidence: one piece; None if the record only has endorsements.
        endorsements: of the evidence's vendor, or None.
        roots: PEM of each root certificate among the files.
        keys: PEM of each bare key that the relying party believes by itself, and what for.
        fuller: endorsements with certificates that the record's time was not chosen for, or None:
            they are verified once more, at a time inside every window.
    """

    evidence: bytes | None
    endorsements: Any
    roots: tuple[bytes, ...] = ()
    keys: tuple[tuple[bytes, ProtectionLevel], ...] = ()
    fuller: Any = None

    @property
    def anchors(self) -> TrustAnchors:
        """The relying party's anchors: the vendors, and those keys."""
        believed = (TrustAnchors.from_pem(key, level) for key, level in self.keys)
        return functools.reduce(operator.or_, believed, TrustAnchors.shipped())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """How one TEE's files are put together; ``aside`` are roles that no verifier takes."""

    evidence: tuple[str, ...]
    endorsements: tuple[str, ...]
    aside: tuple[str, ...]
    make: Callable[[Mapping[str, bytes]], Case]


def case_of(tee: str, files: Mapping[str, bytes]) -> Case:
    """Put a record's files together.

    Raises:
        UsageError: the TEE is not known, or a role is missing.
        FormatError: an endorsement is malformed.
    """
    mapping = MAPPINGS.get(tee)
    if mapping is None:
        raise UsageError(f"TEE {tee!a}: is not known; known: {', '.join(sorted(MAPPINGS))}")
    try:
        return mapping.make(files)
    except KeyError as missing:
        raise UsageError(f"{tee}: role {missing} is missing") from None


def unknown_roles(tee: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Roles of unused files, because the TEE is not known to have them."""
    mapping = MAPPINGS.get(tee)
    known = {*mapping.evidence, *mapping.endorsements, *mapping.aside} if mapping else set(files)
    return tuple(sorted(set(files) - known))


def _intel(files: Mapping[str, bytes]) -> Case:
    parts = {role: files[role] for role in (*bundle.INTEL, bundle.PCK) if role in files}
    for role, others in _ISSUERS.items():
        given = [files[other] for other in others if other in files]
        if role not in parts and given:
            parts[role] = given[0]
    roots = [root for role in _ISSUERS if role in parts for root in _roots_in(parts[role])]
    roots += [_as_pem(files[role]) for role in _ROOTS if role in files]
    chains = [files[role] for role in _PCK if role in files]
    leaves = [files[role] for role in _LEAF if role in files]
    if leaves:
        parts[bundle.PCK_LEAF] = leaves[0]
    if chains:
        parts[bundle.PCK] = chains[0]
    return Case(
        evidence=files["quote"],
        endorsements=_collateral(parts),
        roots=tuple(dict.fromkeys(roots)),
    )


def _collateral(parts: Mapping[str, bytes]) -> Any:
    """Intel's parts together; None if one is missing: evidence is not more decided by the others."""
    return bundle.join(parts) if parts.keys() >= set(bundle.INTEL) else None


def _amd(files: Mapping[str, bytes]) -> Case:
    parts = {role: files[role] for role in bundle.AMD if role in files}
    if "ask" in parts and "asvk" in parts:  # one of them issued the key that signed
        vlek = any(
            b"SEV-VLEK-" in one.issuer for one in moment.certificates(parts.get("endorsement_key", b""))
        )
        del parts["ask" if vlek else "asvk"]
    return Case(
        evidence=files.get("report"),
        endorsements=bundle.join(parts) if parts else None,
        roots=(files["ark"],) if "ark" in files else (),
    )


def _nitro(files: Mapping[str, bytes]) -> Case:
    return Case(evidence=files["document"], endorsements=None, roots=_root(files))


def _nvidia(files: Mapping[str, bytes]) -> Case:
    parts = {name: Part(OCTETS, files[name]) for name in ("report", "cert_chain")}
    return Case(evidence=Collection(parts).encode(), endorsements=None, roots=_root(files))


def _tpm(files: Mapping[str, bytes]) -> Case:
    parts = {"tpm_quote": files["quote_msg"], "tpm_signature": files["quote_sig"]}
    original, certified = files.get("original", b""), _certified(files)
    named = TpmEndorsements(public=original if original[:2] in _AREAS else None)
    parts["pcrs"] = files.get("pcrs") or (original if _is_pcrs(original) else b"{}")
    parts |= {name: files[name] for name in ("event_log",) if name in files}
    return Case(
        evidence=Collection({name: Part(OCTETS, data) for name, data in parts.items()}).encode(),
        endorsements=named if "ak_pub" in files else certified,
        fuller=certified if "ak_pub" in files else None,
        roots=tuple(_roots_in(files.get("ak_chain", b""))),
        keys=((_attestation_key(files["ak_pub"]), ProtectionLevel.VTPM),) if "ak_pub" in files else (),
    )


def _certified(files: Mapping[str, bytes]) -> TpmEndorsements | None:
    if "ak_cert" not in files or "ak_chain" not in files:
        return None
    return TpmEndorsements(certificate=files["ak_cert"], chain=files["ak_chain"])


def _attestation_key(data: bytes) -> bytes:
    """PEM of a TPM's key, from any form of a public key, or a public area with or without its size."""
    sized = int.from_bytes(data[:2], "big") == len(data) - 2
    if sized or data[:2] in _AREAS:
        return x509.write_pem(area_of(data).spki, "PUBLIC KEY")
    return x509.write_pem(_public_key(data).spki, "PUBLIC KEY")


def _is_pcrs(data: bytes) -> bool:
    try:
        return bool(pcrs.parse(data))
    except KluisError:
        return False


def _azure(files: Mapping[str, bytes]) -> Case:
    intel = {role: files[role] for role in bundle.INTEL if role in files}
    amd = {role: files[role] for role in bundle.AMD if role in files}
    ak = _certified(files)
    given = [_collateral(intel), bundle.join(amd) if amd else None]
    parts = {part: files[role] for part, role in _HCL.items() if role in files}
    report = files["hcl_report"]
    collection = Collection({name: Part(OCTETS, data) for name, data in parts.items()})
    endorsements = AzureEndorsements(
        tdx=given[0] if isinstance(given[0], Collateral) else None,
        snp=given[1] if isinstance(given[1], SnpEndorsements) else None,
    )
    return Case(
        evidence=report if len(parts) == 1 else collection.encode(),
        endorsements=endorsements,
        fuller=dataclasses.replace(endorsements, ak=ak) if ak is not None else None,
        roots=(files["ark"],) if "ark" in files else (),
    )


def _cca(files: Mapping[str, bytes]) -> Case:
    if "cpak" not in files:
        return Case(evidence=files["token"], endorsements=None)
    spki = _public_key(files["cpak"]).spki
    return Case(
        evidence=files["token"],
        endorsements=CcaEndorsements(cpak=spki),
        keys=((x509.write_pem(spki, "PUBLIC KEY"), ProtectionLevel.HARDWARE_CCA),),
    )


def _public_key(data: bytes) -> PublicKey:
    """A public key as PEM, DER, JWK or COSE_Key."""
    if data.lstrip()[:1] == b"{":
        return jose.parse_jwk(data, "key")
    if data[:1] in (b"-", b"\x30"):
        return x509.parse_public_key(data, "key")
    return cose.parse_key(data, "key")


def _as_pem(data: bytes) -> bytes:
    """A certificate as PEM, ended by a line's end, from PEM or DER."""
    if data[:1] == b"-":
        return data.rstrip() + b"\n"
    return x509.write_pem(data)


def _event_log(files: Mapping[str, bytes]) -> Case:
    return Case(evidence=files["event_log"], endorsements=None)


def _root(files: Mapping[str, bytes]) -> tuple[bytes, ...]:
    return (files["root"],) if "root" in files else ()


def _roots_in(chain: bytes) -> list[bytes]:
    """PEM of each self-issued certificate: chains come in either order."""
    return [_as_pem(one.der) for one in moment.certificates(chain) if one.issuer == one.subject]


MAPPINGS: Final[dict[str, Roles]] = {
    "sgx": Roles(evidence=("quote",), endorsements=_QUOTE, aside=("original_file",), make=_intel),
    "tdx": Roles(evidence=("quote",), endorsements=_QUOTE, aside=("original_file",), make=_intel),
    "nitro": Roles(evidence=("document",), endorsements=(), aside=("root", "original_file"), make=_nitro),
    "nvidia": Roles(
        evidence=("report", "cert_chain"), endorsements=(), aside=("root", "original_file"), make=_nvidia
    ),
    "azure": Roles(
        evidence=tuple(_HCL.values()),
        endorsements=(*bundle.INTEL, *bundle.AMD, "ak_cert", "ak_chain"),
        aside=("runtime_data", "original_file"),
        make=_azure,
    ),
    "cca": Roles(evidence=("token",), endorsements=("cpak",), aside=("original_file",), make=_cca),
    "tpm": Roles(
        evidence=("quote_msg", "quote_sig", "pcrs", "event_log"),
        endorsements=("ak_pub", "ak_cert", "ak_chain"),
        aside=("original", "original_file"),
        make=_tpm,
    ),
    "eventlog": Roles(
        evidence=("event_log",),
        endorsements=("td_quote",),
        aside=("nonce", "ccel_table", "original_file"),
        make=_event_log,
    ),
    "snp": Roles(
        evidence=("report",), endorsements=bundle.AMD, aside=("current_ask", "original_file"), make=_amd
    ),
}
