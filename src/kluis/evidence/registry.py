"""Every kind of evidence that Kluis verifies: one line a TEE."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from kluis.errors import UnsupportedError
from kluis.evidence.anchors import TrustAnchors
from kluis.evidence.intel import sgx
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.model import Claims
from kluis.evidence.verified import Verified
from kluis.formats.sgx.collateral import Collateral

Endorsements: TypeAlias = Collateral | HeldCollateral


class Verifier(Protocol):
    """How each maker's evidence is verified; nothing has a default."""

    def __call__(
        self, data: bytes, *, anchors: TrustAnchors, collateral: Endorsements, now: datetime
    ) -> Verified[Claims]:
        """Verify one piece of evidence, or raise."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One kind of evidence: its name, how it is recognised, how it is verified."""

    name: str
    matches: Callable[[bytes], bool]
    verify: Verifier


KINDS: Final[tuple[Kind, ...]] = (Kind(sgx.KIND, sgx.matches, sgx.verify),)


def kind_of(data: bytes) -> Kind:
    """Recognise evidence by its first bytes.

    Raises:
        UnsupportedError: it is of no kind we verify.
    """
    for kind in KINDS:
        if kind.matches(data):
            return kind
    raise UnsupportedError(
        f"evidence: is of no known kind; supported: {[kind.name for kind in KINDS]}", code="bad_magic"
    )


def verify(
    data: bytes, *, anchors: TrustAnchors, collateral: Endorsements, now: datetime
) -> Verified[Claims]:
    """Verify evidence of any kind: is it authentic, and what does it say?

    Args:
        data: the evidence.
        anchors: the roots that the relying party believes; ``TrustAnchors.shipped()`` are makers'.
        collateral: what the maker publishes beside it, as fetched or held.
        now: the time to verify at, aware.

    Returns:
        Claims that are proven; whether they are the wanted ones is appraisal's question.

    Raises:
        FormatError: malformed, or of an unsupported kind.
        AuthenticityError: nobody in ``anchors`` vouches for it.
        FreshnessError: a certificate or the collateral is out of its time.
        UnavailableError: an endorsement is missing.
    """
    return kind_of(data).verify(data, anchors=anchors, collateral=collateral, now=now)
