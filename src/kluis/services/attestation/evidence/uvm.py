"""Check endorsements of utility VMs, sent with a report, against the operator's list of endorsers.

Spec: Microsoft Azure Attestation, "Attest Sev Snp Vm": ``Endorsements`` is JSON, ``Uvm`` its COSE_Sign1s.
"""

from __future__ import annotations

from typing import Any, Final

from kluis.errors import KluisError, UnsupportedError
from kluis.evidence import Claims
from kluis.evidence.azure import uvm
from kluis.evidence.context import Context
from kluis.formats.azure.uvm import MAX_SIZE, Endorsement, parse
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter
from kluis.services.attestation.octets import decode_base64, json_object
from kluis.services.attestation.settings import UvmEndorser

MOST: Final = 4
MEMBER: Final = "report.Endorsements"


def find_endorsement(
    bundle: bytes, claims: Claims, endorsers: tuple[UvmEndorser, ...], context: Context
) -> Endorsement | None:
    """Find the endorsement of a guest's launch by a listed endorser; None if there is none.

    Without listed endorsers, endorsements are only parsed, and nothing in them is trusted or reported;
    unknown kinds are accepted. With listed endorsers, every endorsement is verified.

    Args:
        bundle: JSON, with the report of ``claims``.
        claims: of the guest, verified.
        endorsers: the operator's.
        context: of the verifier.

    Raises:
        InvalidParameter: the member is malformed.
        InvalidEvidence: an endorsement fails verification.
    """
    endorsements = _endorsements_in(bundle)
    if not endorsers:
        for each in endorsements:
            _check_form(each)
        return None
    newest: Endorsement | None = None
    for each in endorsements:
        try:
            read = uvm.verify(each, context=context)
        except KluisError as error:
            raise _refusal(error) from None
        if read.measurement == claims.measurement.value and _is_listed(read, endorsers):
            newest = read if newest is None or read.svn > newest.svn else newest
    return newest


def uvm_claims(endorsement: Endorsement | None) -> dict[str, Any]:
    """The claims of an endorsement, for policies and tokens."""
    if endorsement is None:
        return {}
    return {
        "x-kluis-uvm-issuer": endorsement.issuer,
        "x-kluis-uvm-feed": endorsement.feed,
        "x-kluis-uvm-svn": endorsement.svn,
    }


def _endorsements_in(bundle: bytes) -> list[bytes]:
    """The endorsements in a bundle, not yet parsed."""
    text = json_object(bundle, "report").get("Endorsements")
    if text in (None, ""):
        return []
    if not isinstance(text, str):
        raise InvalidParameter(f"{MEMBER}: want text, got {type(text).__name__}")
    texts = json_object(decode_base64(text, MEMBER, most=MOST * MAX_SIZE), MEMBER).get("Uvm", [])
    if not isinstance(texts, list) or len(texts) > MOST or not all(isinstance(each, str) for each in texts):
        raise InvalidParameter(f"{MEMBER}.Uvm: want a list of at most {MOST} texts")
    return [decode_base64(each, f"{MEMBER}.Uvm", most=MAX_SIZE) for each in texts]


def _check_form(data: bytes) -> None:
    try:
        parse(data)
    except UnsupportedError:
        return
    except KluisError as error:
        raise _refusal(error) from None


def _refusal(error: KluisError) -> InvalidEvidence:
    return InvalidEvidence(
        f"The specified report was invalid: {error.message}", hint=error.hint, code=error.code
    )


def _is_listed(endorsement: Endorsement, endorsers: tuple[UvmEndorser, ...]) -> bool:
    return any(
        (each.issuer, each.feed) == (endorsement.issuer, endorsement.feed)
        and endorsement.svn >= each.least_svn
        for each in endorsers
    )
