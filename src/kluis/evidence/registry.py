"""Every kind of evidence that Kluis verifies: one line a TEE."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from kluis.errors import UnsupportedError, UsageError
from kluis.evidence.anchors import TrustAnchors
from kluis.evidence.context import CAPACITY, Context, Memory
from kluis.evidence.engine import OPENSSL, Engine
from kluis.evidence.model import Claims
from kluis.evidence.verified import Verified

if TYPE_CHECKING:
    from kluis.evidence.intel.collateral import HeldCollateral
    from kluis.evidence.tpm.activation import Activated
    from kluis.evidence.wrappers.bound import Unwrapped
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
        | Activated
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


def _snp() -> Kind:
    from kluis.evidence.amd import snp
    from kluis.formats.snp.endorsements import Endorsements

    return Kind(snp.KIND, snp.matches, (Endorsements,), snp.verify)


def _sgx() -> Kind:
    from kluis.evidence.intel import sgx
    from kluis.evidence.intel.collateral import HeldCollateral
    from kluis.formats.sgx.collateral import Collateral

    return Kind(sgx.KIND, sgx.matches, (Collateral, HeldCollateral), sgx.verify)


def _tdx() -> Kind:
    from kluis.evidence.intel import tdx
    from kluis.evidence.intel.collateral import HeldCollateral
    from kluis.formats.sgx.collateral import Collateral

    return Kind(tdx.KIND, tdx.matches, (Collateral, HeldCollateral), tdx.verify)


def _nitro() -> Kind:
    from kluis.evidence.nitro import document

    return Kind(document.KIND, document.matches, (), document.verify)


def _nvidia() -> Kind:
    from kluis.evidence.nvidia import report
    from kluis.formats.nvidia.endorsements import NvidiaEndorsements

    return Kind(report.KIND, report.matches, (NvidiaEndorsements,), report.verify)


def _tpm() -> Kind:
    from kluis.evidence.tpm import tpm
    from kluis.evidence.tpm.activation import Activated
    from kluis.formats.tpm.endorsements import TpmEndorsements

    return Kind(tpm.KIND, tpm.matches, (TpmEndorsements, Activated), tpm.verify)


def _azure() -> Kind:
    from kluis.evidence.azure import hcl
    from kluis.evidence.intel.collateral import HeldCollateral
    from kluis.formats.hcl.endorsements import AzureEndorsements
    from kluis.formats.sgx.collateral import Collateral
    from kluis.formats.snp.endorsements import Endorsements

    either = (AzureEndorsements, Endorsements, Collateral, HeldCollateral)
    return Kind(hcl.KIND, hcl.matches, either, hcl.verify)


def _cca() -> Kind:
    from kluis.evidence.cca import token
    from kluis.formats.cca.endorsements import Endorsements

    return Kind(token.KIND, token.matches, (Endorsements,), token.verify)


# Each is loaded when evidence may be of its kind, and not before: a verifier of one maker's evidence
# need not know the others. SNP stands before SGX, whose version and key type it cannot be taken for.
LOADERS: Final[dict[str, Callable[[], Kind]]] = {
    load.__name__: lru_cache(maxsize=1)(load)
    for load in (_snp, _sgx, _tdx, _nitro, _nvidia, _azure, _tpm, _cca)
}
# By its first byte, how evidence begins that comes as it is, and its kind. CBOR begins as no other evidence
# does; an envelope may, too, but the first key of a document, behind heads of at most 16 bytes, stands
# further in there. Of a collection in JSON its first part tells, in base64url.
_DOCUMENT: Final = (re.compile(rb"(?s).{1,16}module_id"), LOADERS["_nitro"])
_BARE: Final = {
    b"\x84": _DOCUMENT,
    b"\xd2": _DOCUMENT,
    b"\xd9": (re.compile(rb".(?:\x01\x8f|\x03\x8b)"), LOADERS["_cca"]),
    b"{": (re.compile(rb'."report":\[(?:"[^"\\]{1,256}"|[0-9]{1,5}),"EeAB_'), LOADERS["_nvidia"]),
}


def kinds() -> Iterator[Kind]:
    """Every kind, loaded one by one."""
    return (load() for load in LOADERS.values())


@lru_cache(maxsize=1)
def _unwrap() -> Callable[[bytes], Unwrapped | None]:
    from kluis.evidence.wrappers.unwrap import unwrap  # the wrappers of every maker

    return unwrap


def _bare(data: bytes) -> Kind | None:
    """The kind of evidence that stands in no envelope and no wrapper; None where it may."""
    likely = _BARE.get(data[:1])
    if likely is None or not likely[0].match(data):
        return None
    kind = likely[1]()
    return kind if kind.matches(data) else None


def kind_of(data: bytes) -> Kind:
    """Recognise evidence by its first bytes.

    Raises:
        UnsupportedError: it is of no kind we verify.
    """
    if (bare := _bare(data)) is not None:
        return bare
    for load in LOADERS.values():
        if (kind := load()).matches(data):
            return kind
    known = ", ".join(kind.name for kind in kinds())
    raise UnsupportedError(f"evidence: is of no known kind; supported: {known}", code="bad_magic")


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
        self._context = Context(anchors, engine, Memory(capacity), lasting=True)

    def verify(self, data: bytes, *, collateral: Endorsements | None, now: datetime) -> Verified[Claims]:
        """Verify evidence of any kind, as :func:`verify` does."""
        return _verify(data, self._context, collateral, now)


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
        UsageError: ``now`` is naive, the evidence no bytes, or the collateral another maker's.
    """
    return _verify(data, Context(anchors), collateral, now)


def _public(kind: type) -> str:
    """A type of collateral as :mod:`kluis.evidence` has it: where they are read two makers' are alike."""
    maker = kind.__module__.split(".")[-2].capitalize() if kind.__name__ == "Endorsements" else ""
    return f"{maker}{kind.__name__}"


def _verify(
    data: bytes, context: Context, collateral: Endorsements | None, now: datetime
) -> Verified[Claims]:
    if now.tzinfo is None:
        raise UsageError("now: want an aware time, got a naive one")
    if not isinstance(data, bytes):
        raise UsageError(
            f"evidence: want bytes, got {type(data).__name__}",
            hint="bytes.fromhex and base64.b64decode make them of text",
        )
    kind = _bare(data)
    unwrapped = None if kind else _unwrap()(data)
    if unwrapped is not None:
        data = unwrapped.inner
    kind = kind or kind_of(data)
    if collateral is not None and not isinstance(collateral, kind.endorsements):
        wanted = " or ".join(map(_public, kind.endorsements)) or "none"
        raise UsageError(f"collateral: want {wanted} for {kind.name}, got {_public(type(collateral))}")
    verified = kind.verify(data, context=context, collateral=collateral, now=now)
    return verified if unwrapped is None else unwrapped.check(verified)
