"""Open envelopes, which contain evidence or other envelopes: conceptual message wrappers and EATs.

An envelope's own claims are not trusted, signed or not. It is opened only if it contains exactly one piece of
evidence: several would each need an appraisal. Of an EAT's claims, only its nonce is compared with the
evidence.

Spec: RFC 9999, "Decapsulation Algorithm"; RFC 9711, "Nonce Claim", "Submodules".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kluis.errors import AuthenticityError, KluisError, UnsupportedError
from kluis.evidence.wrappers import own_file
from kluis.evidence.wrappers.bound import EAT_NONCE, Bound, Unwrapped
from kluis.formats.cca import token as cca_token
from kluis.formats.encoding.cbor import Key
from kluis.formats.hcl import report as hcl
from kluis.formats.ietf import cmw, cmw_cbor
from kluis.formats.ietf.cmw import Indicator, Part
from kluis.formats.sgx import quote as dcap
from kluis.formats.snp import response as snp
from kluis.formats.wrappers import coco, coco_parts, dstack, dstack_scale, eat, gosev, gotpm, nvtrust, oe, tsm

# Evidence in several parts that belong together, recognized by the label of one of them.
TOGETHER: Final = ("tpm_quote", "tpm_signature", "pcrs", "hcl_report", "cert_chain")
_LABELS: Final = frozenset(label.encode() for label in TOGETHER)
_LABEL_END: Final = b'":['
_COSE: Final = (b"\xd2\x84", b"\x84\x44")


def peel(data: bytes) -> Unwrapped | None:
    """Open one envelope; None if there is none, or if its parts belong together.

    Raises:
        FormatError: malformed.
        UnsupportedError: several pieces of evidence, or an unsupported form.
        AuthenticityError: no evidence (code ``no_evidence``).
    """
    if eat.matches(data):
        return _token(eat.parse(data))
    if cmw.matches_record(data):
        return _record(Part.parse(data))
    if (file := own_file.peel(data)) is not None:
        return file
    if cmw.matches(data):
        if _together(data) or tsm.matches(data):
            return None
        return _collection(cmw.Collection.parse(data).parts)
    if cmw_cbor.matches(data) or is_collection(data):
        message = cmw_cbor.parse(data)
        if isinstance(message, cmw_cbor.Record):
            return _record(message.part)
        return _as_json(message.parts) or _collection(message.parts)
    return None


def is_collection(data: bytes) -> bool:
    """Whether bytes are a collection in CBOR, which is a map without a mark."""
    if not b"\xa0" < data[:1] < b"\xbc":
        return False
    try:
        cmw_cbor.parse(data)
    except KluisError as error:
        # Signed parts are distinguished from other bytes.
        return isinstance(error, UnsupportedError)
    return True


def _together(data: bytes) -> bool:
    """Whether a JSON collection has parts that belong together, which their verifier parses.

    No text in it contains a quote, and it contains no other collection: what looks like a label is a label.
    """
    if data.find(b"{", 1) > 0:
        return False
    end = 0
    for _ in range(cmw.MAX_PARTS):
        end = data.find(_LABEL_END, end + 1)
        if end < 0:
            return False
        if data[data.rfind(b'"', 0, end) + 1 : end] in _LABELS:
            return True
    return False


def _record(part: Part) -> Unwrapped:
    if part.indicator is not None and not _may_be_evidence(part):
        flags = " and ".join((flag.name or "").lower() for flag in Indicator if flag & part.indicator)
        raise AuthenticityError(f"CMW record: want evidence, got {flags}", code="no_evidence")
    return Unwrapped("CMW record", part.value, envelope=True)


def _collection(parts: Mapping[str, Part] | Mapping[Key, Part]) -> Unwrapped | None:
    if any(label in parts for label in TOGETHER):
        return None
    return Unwrapped("CMW collection", _one(parts.values(), "CMW collection").value, envelope=True)


def _as_json(parts: Mapping[Key, Part]) -> Unwrapped | None:
    """Parts that belong together, in the form that their verifiers parse."""
    labelled = {
        label: part for label, part in parts.items() if isinstance(label, str) and cmw.is_label(label)
    }
    if len(labelled) != len(parts) or not any(label in labelled for label in (*TOGETHER, *tsm.PARTS)):
        return None
    return Unwrapped("CMW collection", cmw.Collection(labelled).encode(), envelope=True)


def _token(token: eat.Eat) -> Unwrapped:
    name = f"EAT ({token.form})"
    if token.device is not None and not token.held:
        raise UnsupportedError(f"{name}: is a {token.device}, which is not verified here", code="bad_magic")
    chosen = _one((token_part.part for token_part in token.held.values()), name)
    (token_part,) = (token_part for token_part in token.held.values() if token_part.part is chosen)
    bounds = (Bound(what=EAT_NONCE, value=each[0], challenge=each) for each in token_part.nonces)
    return Unwrapped(name, chosen.value, tuple(bounds), envelope=True)


_NAMED: Final = (
    "parts have names: tpm_quote with tpm_signature and pcrs; hcl_report, with or without these;"
    " report with cert_chain"
)
_RESULT: Final = (
    "pass the evidence behind it; a service's token is a result, which kluis token verify FILE --keys"
    " FILE checks"
)


def _one(parts: Iterable[Part], name: str) -> Part:
    candidates = [part for part in parts if _may_be_evidence(part) and _is_evidence(part.value)]
    if not candidates:
        raise AuthenticityError(
            f"{name}: want evidence inside, got no evidence: its content is unsigned",
            hint=_NAMED if name == "CMW collection" else _RESULT,
            code="no_evidence",
        )
    if len(candidates) > 1:
        raise UnsupportedError(
            f"{name}: want one piece of evidence within, got {len(candidates)}",
            hint="each is separate evidence: take them apart (kluis inspect shows them), and verify each",
            code="bad_length",
        )
    return candidates[0]


def _may_be_evidence(part: Part) -> bool:
    return part.indicator is None or Indicator.EVIDENCE in part.indicator


def _is_evidence(data: bytes) -> bool:
    return any(matches(data) for matches in _EVIDENCE)


_EVIDENCE: Final[tuple[Callable[[bytes], bool], ...]] = (
    *(snp.matches_signed, dcap.begins, hcl.matches, oe.matches_report, oe.matches_evidence, gotpm.matches),
    *(cmw.matches, cmw.matches_record, cmw_cbor.matches, eat.matches, is_collection),
    *(dstack.matches_response, dstack_scale.matches, coco.matches_snp, coco.matches_quote, nvtrust.matches),
    *(nvtrust.matches_coco, gosev.matches, tsm.matches_object),
    *(coco_parts.matches_azure, coco_parts.matches_tpm, coco.matches_cca),
    lambda data: cca_token.matches(data) or data[:2] in _COSE,
)
