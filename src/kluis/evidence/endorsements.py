"""Verify an endorsement: evidence of a machine's TEE over the key of the platform's root.

Spec: docs/decisions/0034-a-machine-is-a-platform.md; the steps are numbered once, here, and each has a forged
case in the tests.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError
from kluis.evidence.amd import snp
from kluis.evidence.azure import hcl
from kluis.evidence.context import Context
from kluis.evidence.intel import tdx
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims
from kluis.evidence.nitro import document
from kluis.evidence.tpm import tpm
from kluis.formats import x509
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.kluis import machine, runtime_data
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.machine import MachineConfiguration
from kluis.formats.nitro.document import DocumentKind
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm.endorsements import TpmEndorsements
from kluis.frozen import frozen

NONCE_SIZE: Final = 32
_AMD_CHAIN: Final = 3
_MOST_CERTIFICATES: Final = 5
# Levels of a platform's root, which is endorsed and endorses nothing.
_ENDORSED: Final = (ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER)
_TPM: Final = {"quote": "tpm_quote", "signature": "tpm_signature", "pcrs": "pcrs", "event_log": "event_log"}
_AZURE: Final = {"hcl": "hcl_report", "td_quote": "td_quote", **_TPM}

Parts: TypeAlias = Mapping[str, bytes]


@frozen
class Endorsed:
    """A verified endorsement.

    Attributes:
        kind: of the endorsement.
        claims: of the machine's evidence.
        configuration: which the evidence binds.
    """

    kind: str
    claims: Claims
    configuration: MachineConfiguration


@frozen
class _Kind:
    """The parts of one kind of evidence, and its verifier."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    verify: Callable[[Parts, bytes, Context, datetime], Claims]


def read(data: bytes) -> Endorsement:
    """Step 1 of :func:`verify`.

    Raises:
        FormatError: it is malformed, or a part is missing or of another kind.
    """
    endorsement = Endorsement.parse(data)
    _kind_of(endorsement)
    return endorsement


def verify(
    endorsement: Endorsement, *, context: Context, now: datetime, known: MachineConfiguration | None = None
) -> Endorsed:
    """Verify one endorsement, up to the key that it names.

    1. It parses, and is of a known kind; it has the parts of this kind and no part of another TEE's evidence.
    2. Its evidence is verified under the anchors, as if it came without a quote.
    3. The evidence binds the runtime data: by its report data, or by the nonce of a TPM's quote.
    4. The anchor is not the root of a platform: those are endorsed, and endorse nothing.
    5. The runtime data are of purpose ``platform``, and their payload is a machine's configuration.

    Args:
        endorsement: from :func:`read`, which is step 1.
        context: the trusted roots and the rest of the verifier's state.
        now: aware.
        known: the configuration, if step 5 was done for the same endorsement.

    Raises:
        FormatError: a part is malformed, missing or of another kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate, CRL or document is expired or not yet valid.
        UnavailableError: a certificate is missing.
    """
    kind = _kind_of(endorsement)  # 1
    bound = runtime_data.report_data(endorsement.runtime_data)
    try:
        claims = kind.verify(endorsement.parts, bound, context, now)  # 2, 3
        _check_level(claims)  # 4
        configuration = known or machine.of_runtime_data(endorsement.runtime_data)  # 5
    except KluisError as error:
        raise type(error)(f"endorsement: {error.message}", hint=error.hint, code=error.code) from None
    return Endorsed(endorsement.kind, claims, configuration)


def _check_level(claims: Claims) -> None:
    if claims.level in _ENDORSED:
        raise AuthenticityError(
            f"want a root of a machine's TEE, got {claims.anchor}, of {claims.level}",
            hint="the root of a platform endorses nothing",
            code="root_untrusted",
        )


def _kind_of(endorsement: Endorsement) -> _Kind:
    kind = KINDS.get(endorsement.kind)
    if kind is None:
        raise UnsupportedError(
            f"endorsement.kind: want one of {', '.join(KINDS)}, got {endorsement.kind!a}", code="bad_type"
        )
    names = set(endorsement.parts)
    if missing := [name for name in kind.required if name not in names]:
        raise FormatError(f"endorsement.parts: {endorsement.kind} needs {missing[0]}", code="bad_type")
    if more := sorted(names - {*kind.required, *kind.optional}):
        raise FormatError(f"endorsement.parts: {endorsement.kind} has no {more[0]}", code="bad_type")
    return kind


def _snp(parts: Parts, bound: bytes, context: Context, now: datetime) -> Claims:
    claims = snp.verify(parts["report"], context=context, collateral=_of_amd(parts), now=now).value
    _check_bound(claims.report_data, bound, "report: report data")
    return claims


def _tdx(parts: Parts, bound: bytes, context: Context, now: datetime) -> Claims:
    claims = tdx.verify(parts["quote"], context=context, collateral=_of_intel(parts), now=now).value
    _check_bound(claims.report_data, bound, "quote: report data")
    return claims


def _azure(parts: Parts, bound: bytes, context: Context, now: datetime) -> Claims:
    endorsements = AzureEndorsements(snp=_of_amd(parts), tdx=_of_intel(parts))
    claims = hcl.verify(_collection(parts, _AZURE), context=context, collateral=endorsements, now=now).value
    _check_bound(claims.nonce, bound[:NONCE_SIZE], "quote: nonce")
    return claims


def _tpm(parts: Parts, bound: bytes, context: Context, now: datetime) -> Claims:
    names = {**_TPM, "ak": "tpm_public"}
    endorsement = None
    if "certificates" in parts:
        leaf, *issuers = x509.split_pem(parts["certificates"], "certificates", most=_MOST_CERTIFICATES)
        chain = b"".join(map(x509.write_pem, issuers))
        crls = (parts["crl"],) if "crl" in parts else ()
        endorsement = TpmEndorsements(certificate=leaf, chain=chain, crls=crls)
    claims = tpm.verify(_collection(parts, names), context=context, collateral=endorsement, now=now).value
    _check_bound(claims.nonce, bound[:NONCE_SIZE], "quote: nonce")
    return claims


def _nitro(parts: Parts, bound: bytes, context: Context, now: datetime) -> Claims:
    return _document(DocumentKind.ENCLAVE, parts, bound, context, now)


def _nitro_tpm(parts: Parts, bound: bytes, context: Context, now: datetime) -> Claims:
    return _document(DocumentKind.NITROTPM, parts, bound, context, now)


def _document(kind: DocumentKind, parts: Parts, bound: bytes, context: Context, now: datetime) -> Claims:
    claims = document.verify(parts["document"], context=context, collateral=None, now=now).value
    product, wanted = claims.platform.product, document.PRODUCTS[kind]
    if product != wanted:
        raise FormatError(f"document: want one of {wanted}, got {product}", code="bad_type")
    _check_bound(claims.report_data, bound, "document: user data")
    return claims


_QUOTED: Final = ("quote", "signature", "pcrs")
KINDS: Final[Mapping[str, _Kind]] = {
    "snp": _Kind(("report",), ("certificates", "crl"), _snp),
    "tdx": _Kind(("quote",), ("collateral",), _tdx),
    "azure-snp": _Kind(("hcl", "certificates", *_QUOTED), ("crl", "event_log"), _azure),
    "azure-tdx": _Kind(("hcl", "td_quote", *_QUOTED), ("collateral", "event_log"), _azure),
    "nitro": _Kind(("document",), (), _nitro),
    "nitro-tpm": _Kind(("document",), (), _nitro_tpm),
    "tpm": _Kind(_QUOTED, ("ak", "certificates", "crl", "event_log"), _tpm),
}


def _collection(parts: Parts, names: Mapping[str, str]) -> bytes:
    renamed = {new: Part(OCTETS, parts[old]) for old, new in names.items() if old in parts}
    return Collection(renamed).encode()


def _of_amd(parts: Parts) -> SnpEndorsements:
    if "certificates" not in parts:
        return SnpEndorsements(crl=parts.get("crl"))  # the report's own table may have them
    chain = x509.split_pem(parts["certificates"], "certificates", most=_AMD_CHAIN)
    if len(chain) != _AMD_CHAIN:
        raise FormatError(
            f"certificates: want {_AMD_CHAIN}, VCEK or VLEK, ASK and ARK, got {len(chain)}", code="bad_length"
        )
    vek, ask, ark = chain
    return SnpEndorsements(vek=vek, ask=ask, ark=ark, crl=parts.get("crl"))


def _of_intel(parts: Parts) -> Collateral | None:
    if "collateral" not in parts:
        return None  # its verifier names what is missing
    collateral = Collateral.from_json(parts["collateral"])
    if collateral.endorsement is not None:
        raise AuthenticityError(
            "collateral.endorsement: an endorsement is not itself endorsed", code="endorsement_nested"
        )
    return collateral


def _check_bound(got: bytes | None, want: bytes, what: str) -> None:
    if got is None or not hmac.compare_digest(got, want):
        shown = got.hex()[:16] + ".." if got else "none"
        raise AuthenticityError(
            f"{what}: want the hash of the runtime data, {want.hex()[:16]}.., got {shown}",
            code="endorsement_binding",
        )
