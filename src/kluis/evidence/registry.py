"""The registry of evidence kinds that Kluis verifies: one line for each TEE."""

from __future__ import annotations

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
from kluis.evidence.wrappers.bound import Unwrapped
from kluis.frozen import frozen

if TYPE_CHECKING:
    from kluis.evidence.intel.collateral import HeldCollateral
    from kluis.evidence.tpm.activation import Activated
    from kluis.formats.cca.endorsements import Endorsements as CcaEndorsements
    from kluis.formats.hcl.endorsements import AzureEndorsements
    from kluis.formats.kluis.evidence_file import EvidenceFile
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


class VendorVerifier(Protocol):
    """The verifier of one vendor's evidence; no argument has a default."""

    def __call__(self, data: bytes, *, context: Context, collateral: Any, now: datetime) -> Verified[Claims]:
        """Verify one piece of evidence, or raise."""
        ...


@frozen
class Kind:
    """One kind of evidence.

    Attributes:
        name: for messages.
        matches: whether data is of this kind, judged by its first bytes.
        endorsements: the types of collateral that its verifier takes.
        verify: the verifier.
        endorsement: returns the endorsement of the root by a machine's TEE in the collateral; None without
            one, and for kinds whose roots no machine's TEE endorses.
    """

    name: str
    matches: Callable[[bytes], bool]
    endorsements: tuple[type, ...]
    verify: VendorVerifier
    endorsement: Callable[[Any], bytes | None] | None = None


def _snp() -> Kind:
    from kluis.evidence.amd import snp
    from kluis.formats.snp.endorsements import Endorsements

    return Kind(snp.KIND, snp.matches, (Endorsements,), snp.verify)


def _sgx() -> Kind:
    from kluis.evidence.intel import sgx
    from kluis.evidence.intel.collateral import HeldCollateral
    from kluis.formats.sgx.collateral import Collateral

    def endorsement(collateral: Any) -> bytes | None:
        return collateral.endorsement if isinstance(collateral, Collateral) else None

    return Kind(sgx.KIND, sgx.matches, (Collateral, HeldCollateral), sgx.verify, endorsement)


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


# Each is loaded only when evidence may be of its kind: verifying one vendor's evidence does not load the
# others. SNP comes before SGX: its version and key type cannot be mistaken for SGX's.
LOADERS: Final[dict[str, Callable[[], Kind]]] = {
    load.__name__: lru_cache(maxsize=1)(load)
    for load in (_snp, _sgx, _tdx, _nitro, _nvidia, _azure, _tpm, _cca)
}
# The kind of bare evidence, by its first byte. CBOR starts like no other evidence. An envelope may start like
# it too, but there the first key of a document is further in, after heads of at most 16 bytes. A JSON
# collection is identified by its first part, in base64url. Open Enclave appends claims to an SGX quote, so
# only a quote that fills its length is bare.
_DOCUMENT: Final = (re.compile(rb"(?s).{1,16}module_id").match, LOADERS["_nitro"])
_SGX_V3: Final = b"\3\0\2\0\0\0\0\0"
_SGX_LENGTH_AT: Final = 432


def _is_sgx_quote(data: bytes) -> bool:
    start = _SGX_LENGTH_AT + 4
    size = int.from_bytes(data[_SGX_LENGTH_AT:start], "little")
    return data.startswith(_SGX_V3) and len(data) == start + size


_BARE: Final[dict[bytes, tuple[Callable[[bytes], object], Callable[[], Kind]]]] = {
    b"\3": (_is_sgx_quote, LOADERS["_sgx"]),
    b"\x84": _DOCUMENT,
    b"\xd2": _DOCUMENT,
    b"\xd9": (re.compile(rb".(?:\x01\x8f|\x03\x8b)").match, LOADERS["_cca"]),
    b"{": (re.compile(rb'."report":\[(?:"[^"\\]{1,256}"|[0-9]{1,5}),"EeAB_').match, LOADERS["_nvidia"]),
}


def kinds() -> Iterator[Kind]:
    """All kinds, loaded one by one."""
    return (load() for load in LOADERS.values())


@lru_cache(maxsize=1)
def _unwrap() -> Callable[[bytes], Unwrapped | None]:
    from kluis.evidence.wrappers.unwrap import unwrap  # the wrappers of every vendor

    return unwrap


def unwrap_if_wrapped(data: bytes) -> Unwrapped | None:
    """Remove wrappers, like :func:`kluis.evidence.wrappers.unwrap.unwrap`; loads only what the data needs.

    Raises:
        KluisError: as that function.
    """
    if _bare(data) is not None:
        return None
    if data[:1] == b"{":
        from kluis.evidence.wrappers import own_file

        outer = own_file.peel(data)
        if outer is not None and _bare(outer.inner) is not None:
            return outer
    return _unwrap()(data)


def _bare(data: bytes) -> Kind | None:
    """The kind of bare evidence, without envelope or wrapper; None if there may be one."""
    likely = _BARE.get(data[:1])
    if likely is None or not likely[0](data):
        return None
    kind = likely[1]()
    return kind if kind.matches(data) else None


def kind_of(data: bytes) -> Kind:
    """Recognise evidence by its first bytes.

    Raises:
        UnsupportedError: not a supported kind.
    """
    if (bare := _bare(data)) is not None:
        return bare
    for load in LOADERS.values():
        if (kind := load()).matches(data):
            return kind
    known = ", ".join(kind.name for kind in kinds())
    raise UnsupportedError(f"evidence: is of no known kind; supported: {known}", code="bad_magic")


class Verifier:
    """Verifies evidence repeatedly, and caches what it has proven.

    It caches keys and chains by the exact bytes that proved them. Time, revocation and status are checked
    again at every call. A verifier is thread-safe.

    Args:
        anchors: the trusted roots; ``TrustAnchors.shipped()`` are the vendors'.
        engine: does the arithmetic of signature checks.
        capacity: of its cache, in entries.
    """

    def __init__(self, anchors: TrustAnchors, *, engine: Engine = OPENSSL, capacity: int = CAPACITY) -> None:
        self._context = Context(anchors, engine, Memory(capacity), lasting=True)

    def verify(self, data: bytes, *, collateral: Endorsements | None, now: datetime) -> Verified[Claims]:
        """Verify evidence of any kind, like :func:`verify`."""
        return _verify(data, self._context, collateral, now)


def verify(
    data: bytes, *, anchors: TrustAnchors, collateral: Endorsements | None, now: datetime
) -> Verified[Claims]:
    """Verify evidence of any kind and return its claims.

    Args:
        data: the evidence, bare or in a known wrapper (:mod:`kluis.evidence.wrappers.unwrap`).
        anchors: the trusted roots; ``TrustAnchors.shipped()`` are the vendors'.
        collateral: its endorsements, as the vendor publishes them; None if there are none.
        now: the time to verify at, aware.

    Returns:
        Proven claims; whether they are acceptable is for appraisal to decide.

    Raises:
        FormatError: malformed, or of an unsupported kind.
        AuthenticityError: no anchor in ``anchors`` certifies it.
        FreshnessError: a certificate or the collateral is expired or not yet valid.
        UnavailableError: an endorsement is missing.
        UsageError: ``now`` is naive, the evidence is not bytes, or the collateral is another vendor's.
    """
    return _verify(data, Context(anchors), collateral, now)


def collateral_of(file: EvidenceFile) -> Endorsements | None:
    """The collateral in an evidence file, for :func:`verify`; None if the file has none. Nothing is verified.

    Raises:
        FormatError: malformed, or the file's evidence is of an unsupported kind.
        UsageError: evidence of this kind takes no collateral.
    """
    if file.collateral is None:
        return None
    outer = unwrap_if_wrapped(file.evidence)
    kind = kind_of(outer.inner if outer is not None else file.evidence)
    if not kind.endorsements:
        raise UsageError(f"evidence file.collateral: evidence of kind {kind.name} takes no collateral")
    form: Any = kind.endorsements[0]
    collateral: Endorsements = form.from_json(file.collateral)
    return collateral


def _public(kind: type) -> str:
    """The public name of a collateral type in :mod:`kluis.evidence`: two vendors' classes have the same name
    in their modules.
    """
    vendor = kind.__module__.split(".")[-2].capitalize() if kind.__name__ == "Endorsements" else ""
    return f"{vendor}{kind.__name__}"


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
    outer = unwrap_if_wrapped(data)
    if outer is not None:
        data = outer.inner
    kind = kind_of(data)
    if collateral is not None and not isinstance(collateral, kind.endorsements):
        wanted = " or ".join(map(_public, kind.endorsements)) or "none"
        raise UsageError(f"collateral: want {wanted} for {kind.name}, got {_public(type(collateral))}")
    endorsement = kind.endorsement(collateral) if kind.endorsement is not None else None
    if endorsement is None:
        verified = kind.verify(data, context=context, collateral=collateral, now=now)
    else:
        from kluis.evidence import endorsed  # the verifiers of every machine's TEE

        endorser: Any = collateral
        verified = endorsed.verify(
            data, endorsement=endorsement, context=context, collateral=endorser, now=now
        )
    return verified if outer is None else outer.check(verified)
