"""Verify AWS Nitro attestation documents and return their claims.

Spec: AWS "Nitro Enclaves: Attestation Process", "Attestation Document Validation"; the steps are numbered
once, here, and each has a forged case in the tests. AWS uses no revocation lists ("CRL must be disabled"):
instead a leaf is valid for three hours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from kluis.errors import FreshnessError
from kluis.evidence import signatures
from kluis.evidence.context import Context
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NOT_JUDGED, Claims, Platform, Tee, VendorClaims
from kluis.evidence.nitro import cabundle
from kluis.evidence.nitro.cabundle import Cabundle
from kluis.evidence.verified import Verified, mint
from kluis.formats.encoding.brief import instant
from kluis.formats.nitro.document import PCR_SIZE, Document, DocumentKind
from kluis.formats.x509 import Scheme
from kluis.frozen import frozen
from kluis.hashes import Digest

KIND: Final = "Nitro document"
PRODUCTS: Final = {DocumentKind.ENCLAVE: "Nitro Enclaves", DocumentKind.NITROTPM: "NitroTPM"}
# Allowed difference between the module's clock and those of the authority and the relying party.
SKEW: Final = timedelta(minutes=5)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO: Final = bytes(PCR_SIZE)
_ZERO_DIGEST: Final = Digest("sha384", _ZERO)
_NAMES: Final = tuple(f"pcr{index}" for index in range(32))
_TAGGED: Final = b"\xd2\x84"
_MEMORY: Final = "nitro module"


@frozen(kw_only=True)
class NitroClaims(VendorClaims):
    """The vendor-specific claims of a Nitro document.

    Attributes:
        document: of an enclave, or of an instance's NitroTPM.
        module_id: ``i-`` and the instance, then ``-enc`` or ``-tpm`` and the module.
        timestamp: the module's time of signing, in milliseconds; aware.
        public_key: 1..1024 bytes, chosen by the enclave, or None.
        user_data: at most 1024 bytes, chosen by the enclave, or None.
        nonce: at most 1024 bytes, or None.
        instance_measured: whether PCR4 is that of the instance in ``module_id``; None without PCR4, and for a
            NitroTPM, whose PCR4 is its boot loader's.
    """

    document: DocumentKind
    module_id: str
    timestamp: datetime
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    instance_measured: bool | None


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a COSE_Sign1, tagged or not."""
    return data[:1] == b"\x84" or data[:2] == _TAGGED


def verify(data: bytes, *, context: Context, collateral: None, now: datetime) -> Verified[Claims]:
    """Verify one Nitro document.

    1. It parses: only ES384 in the protected header, no other header, and exactly the keys of an enclave's
       document or of a NitroTPM's.
    2. The first certificate of its bundle has the key of an anchor that may certify Nitro.
    3. Every certificate was issued by the one before it, the root by itself: name, profile, path
       length, a key on P-384, ECDSA with SHA-384. The leaf is an end entity that signs data.
    4. Every certificate is in its validity period.
    5. The leaf's key signed the document.
    6. The document's timestamp is in the leaf's validity period, and not after ``now``; both within 5
       minutes.

    Appraisal decides how old a document may be. The timestamp proves little: the same key signs it, so anyone
    who steals the key can backdate documents.

    Args:
        data: the document, under tag 18 or none.
        context: the trusted roots and the rest of the verifier's state.
        collateral: None; a document carries its certificates.
        now: aware.

    Raises:
        FormatError: the document or a certificate is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or the document is expired or not yet valid.
    """
    document = Document.parse(data)  # 1
    certificates = cabundle.verify(document, context)  # 2, 3
    certificates.check_time(now)  # 4
    signatures.check_raw(  # 5
        document.message.signature,
        document.message.signed_bytes(),
        certificates.leaf.spki,
        Scheme.ES384,
        document.kind.what,
        context=context,
        code="sig_cose",
    )
    timestamp = _EPOCH + timedelta(milliseconds=document.timestamp)
    _check_timestamp(timestamp, document, certificates, now)  # 6
    fields = _read(document, certificates, context)
    return mint(_claims(document, certificates, fields, timestamp, now))


def _check_timestamp(timestamp: datetime, document: Document, certificates: Cabundle, now: datetime) -> None:
    leaf = certificates.leaf
    # Compare differences: adding to the calendar's last day would overflow.
    if leaf.not_before - timestamp <= SKEW and timestamp - min(leaf.not_after, now) <= SKEW:
        return
    raise FreshnessError(
        f"{document.kind.what}.timestamp: want {instant(leaf.not_before)} to "
        f"{instant(min(leaf.not_after, now))}, within 5 minutes, got {instant(timestamp)}",
        code="freshness",
    )


@frozen(kw_only=True)
class _Fields:
    """A module's claims that do not change from document to document.

    Attributes:
        parts: of a document, that contain them.
        registers: every PCR by name.
        debug: whether the PCR of an enclave's code is zero.
        measurement: of the code, or of the boot loader.
        signer: of an enclave's image file.
        platform: the module.
        instance_measured: as in :class:`NitroClaims`.
    """

    parts: tuple[DocumentKind, str, Mapping[int, bytes]]
    registers: Mapping[str, Digest]
    debug: bool
    measurement: Digest
    signer: Digest | None
    platform: Platform
    instance_measured: bool | None


def _read(document: Document, certificates: Cabundle, context: Context) -> _Fields:
    """Read the claims that do not change from document to document, once for each certificate."""
    parts = (document.kind, document.module_id, document.pcrs)
    fields: _Fields | None = context.memory.get(_MEMORY, certificates.leaf.der)
    if fields is None or fields.parts != parts:
        fields = _say(document, parts)
        context.memory.put(_MEMORY, certificates.leaf.der, fields)
    return fields


def _say(document: Document, parts: tuple[DocumentKind, str, Mapping[int, bytes]]) -> _Fields:
    kind, module_id, pcrs = parts
    enclave = kind is DocumentKind.ENCLAVE
    registers = {
        _NAMES[index]: _ZERO_DIGEST if value == _ZERO else Digest("sha384", value)
        for index, value in pcrs.items()
    }
    return _Fields(
        parts=parts,
        registers=MappingProxyType(registers),
        # An enclave in debug mode has zeros instead of its code's PCR. Absent PCRs prove nothing either.
        debug=pcrs.get(0, _ZERO) == pcrs.get(1, _ZERO) == pcrs.get(2, _ZERO) == _ZERO,
        measurement=registers.get("pcr0" if enclave else "pcr4", _ZERO_DIGEST),
        signer=_signer(registers) if enclave else None,
        platform=Platform(id=module_id.encode(), product=PRODUCTS[kind]),
        instance_measured=_instance_measured(document),
    )


def _claims(
    document: Document, certificates: Cabundle, fields: _Fields, timestamp: datetime, now: datetime
) -> Claims:
    kind = document.kind
    return Claims(
        kind=kind.what,
        tee=Tee.NITRO,
        level=_level(certificates.anchor.level, kind, fields.debug),
        anchor=certificates.anchor.name,
        debug=fields.debug,
        measurement=fields.measurement,
        signer=fields.signer,
        product_id=None,
        svn=None,
        config_id=None,
        family_id=None,
        registers=fields.registers,
        report_data=document.user_data or b"",
        nonce=document.nonce,
        tcb=NOT_JUDGED,
        platform=fields.platform,
        collateral_issued=None,
        valid_until=certificates.end,
        verified_at=now,
        vendor=NitroClaims(
            document=kind,
            module_id=document.module_id,
            timestamp=timestamp,
            public_key=document.public_key,
            user_data=document.user_data,
            nonce=document.nonce,
            instance_measured=fields.instance_measured,
        ),
    )


def _level(level: ProtectionLevel, kind: DocumentKind, debug: bool) -> ProtectionLevel:
    """The anchor's level, lowered: a debug enclave protects nothing; a NitroTPM measures but does not
    isolate.
    """
    if debug:
        return ProtectionLevel.NONE
    if kind is DocumentKind.NITROTPM and level is ProtectionLevel.HARDWARE_NITRO:
        return ProtectionLevel.VTPM
    return level


def _signer(registers: Mapping[str, Digest]) -> Digest | None:
    """PCR8, of the certificate that signed the image file; None if it is zero."""
    digest = registers.get("pcr8", _ZERO_DIGEST)
    return None if digest is _ZERO_DIGEST else digest


def _instance_measured(document: Document) -> bool | None:
    value = document.pcrs.get(4)
    if document.kind is DocumentKind.NITROTPM or value is None:
        return None
    instance = document.module_id.partition("-enc")[0]
    return hashlib.sha384(_ZERO + instance.encode()).digest() == value
