"""Every kind of evidence that Kluis verifies: one line a TEE."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias

from kluis.errors import UnsupportedError, UsageError
from kluis.evidence.amd import snp
from kluis.evidence.anchors import TrustAnchors
from kluis.evidence.azure import hcl
from kluis.evidence.cca import token as cca
from kluis.evidence.context import CAPACITY, Context, Memory
from kluis.evidence.engine import OPENSSL, Engine
from kluis.evidence.intel import sgx, tdx
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.model import Claims
from kluis.evidence.nitro import document as nitro
from kluis.evidence.nvidia import report as nvidia
from kluis.evidence.tpm import tpm
from kluis.evidence.verified import Verified
from kluis.evidence.wrappers.unwrap import unwrap
from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.nvidia.endorsements import NvidiaEndorsements
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp.endorsements import Endorsements as SnpEndorsements
from kluis.formats.tpm.endorsements import TpmEndorsements

Endorsements: TypeAlias = (
    AzureEndorsements
    | CcaEndorsements
    | Collateral
    | HeldCollateral
    | NvidiaEndorsements
    | SnpEndorsements
    | TpmEndorsements
)


class MakersVerifier(Protocol):
    """How each maker's evidence is verified; nothing has a default."""

    def __call__(self, data: bytes, *, context: Context, collateral: Any, now: datetime) -> Verified[Claims]:
        """Verify one piece of evidence, or raise."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One kind of evidence.

    Attributes:
        name: for people.
        matches: whether data is of this kind, by its first bytes.
        endorsements: the types of collateral that its verifier takes.
        verify: it.
    """

    name: str
    matches: Callable[[bytes], bool]
    endorsements: tuple[type, ...]
    verify: MakersVerifier


KINDS: Final[tuple[Kind, ...]] = (
    # Before SGX: a report's four bytes of version are no quote's version and key type.
    Kind(snp.KIND, snp.matches, (SnpEndorsements,), snp.verify),
    Kind(sgx.KIND, sgx.matches, (Collateral, HeldCollateral), sgx.verify),
    Kind(nvidia.KIND, nvidia.matches, (NvidiaEndorsements,), nvidia.verify),
    Kind(nitro.KIND, nitro.matches, (), nitro.verify),
    Kind(tdx.KIND, tdx.matches, (Collateral, HeldCollateral), tdx.verify),
    Kind(hcl.KIND, hcl.matches, (AzureEndorsements, SnpEndorsements, Collateral, HeldCollateral), hcl.verify),
    Kind(tpm.KIND, tpm.matches, (TpmEndorsements,), tpm.verify),
    Kind(cca.KIND, cca.matches, (CcaEndorsements,), cca.verify),
)


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


class Verifier:
    """Verifies one piece of evidence after another, and remembers what it has proven.

    It keeps keys and chains by the exact bytes that proved them. Time, revocation and status are
    judged anew at every call. Many threads may use one verifier.

    Args:
        anchors: the roots that the relying party believes; ``TrustAnchors.shipped()`` are makers'.
        engine: who does the arithmetic.
        capacity: of its memory, in entries.
    """

    def __init__(self, anchors: TrustAnchors, *, engine: Engine = OPENSSL, capacity: int = CAPACITY) -> None:
        self._context = Context(anchors, engine, Memory(capacity))

    def verify(self, data: bytes, *, collateral: Endorsements | None, now: datetime) -> Verified[Claims]:
        """Verify evidence of any kind, as :func:`verify` does."""
        if now.tzinfo is None:
            raise UsageError("now: want an aware time, got a naive one")
        unwrapped = unwrap(data)
        if unwrapped is not None:
            data = unwrapped.inner
        kind = kind_of(data)
        if collateral is not None and not isinstance(collateral, kind.endorsements):
            raise UsageError(
                f"collateral: want {' or '.join(each.__name__ for each in kind.endorsements)} for "
                f"{kind.name}, got {type(collateral).__name__}"
            )
        verified = kind.verify(data, context=self._context, collateral=collateral, now=now)
        return verified if unwrapped is None else unwrapped.check(verified)


def verify(
    data: bytes, *, anchors: TrustAnchors, collateral: Endorsements | None, now: datetime
) -> Verified[Claims]:
    """Verify evidence of any kind: is it authentic, and what does it say?

    Args:
        data: the evidence, as it is or in a wrapper that is known (:mod:`kluis.evidence.wrappers.unwrap`).
        anchors: the roots that the relying party believes; ``TrustAnchors.shipped()`` are makers'.
        collateral: what endorses it, as the maker publishes it; None where there is nothing.
        now: the time to verify at, aware.

    Returns:
        Claims that are proven; whether they are the wanted ones is appraisal's question.

    Raises:
        FormatError: malformed, or of an unsupported kind.
        AuthenticityError: nobody in ``anchors`` vouches for it.
        FreshnessError: a certificate or the collateral is out of its time.
        UnavailableError: an endorsement is missing.
        UsageError: ``now`` is naive, or the collateral is another maker's.
    """
    return Verifier(anchors).verify(data, collateral=collateral, now=now)
