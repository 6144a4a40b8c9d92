"""Verify NVIDIA reports of GPUs and NVLink switches and return their claims.

The evidence is a CMW collection of two parts: ``report``, the bytes from the driver, and ``cert_chain``, PEM,
leaf first. Measurements are not judged here: they become registers, ``block1`` and on, that appraisal
compares with reference values.

Spec: NVIDIA attestation SDK 2026-05, "local verifier"; DMTF DSP0274 1.1; the steps are numbered
once, here, and each has a forged case in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from kluis.errors import AuthenticityError
from kluis.evidence import signatures
from kluis.evidence.context import MOST_BYTES, Context
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NOT_JUDGED, Claims, Platform, Tee, VendorClaims
from kluis.evidence.nvidia import device as devices
from kluis.evidence.nvidia import ocsp
from kluis.evidence.nvidia.device import Chain, Device
from kluis.evidence.verified import Verified, mint
from kluis.formats.ietf import cmw
from kluis.formats.ietf.cmw import Collection, Part
from kluis.formats.nvidia import dice
from kluis.formats.nvidia.endorsements import NvidiaEndorsements
from kluis.formats.nvidia.opaque import Feature, Field, Opaque
from kluis.formats.nvidia.report import Frame, Report
from kluis.formats.x509 import Scheme
from kluis.frozen import frozen
from kluis.hashes import Digest

KIND: Final = "NVIDIA report"
PARTS: Final = ("report", "cert_chain")
_FIRST: Final = b'{"report":'
_CHAIN: Final = b',"cert_chain":["'
# Bytes of an end used as a lookup key: enough to include the leaf's serial number.
_NAME_SIZE: Final = 512
_ENDS: Final = "nvidia end"
_MEMORY: Final = "nvidia device"
# Base64url of the first bytes of a request.
_REPORT: Final = re.compile(rb'"report":\[(?:"[^"\\]{1,256}"|[0-9]{1,5}),"EeAB_')


@frozen(kw_only=True)
class NvidiaClaims(VendorClaims):
    """The vendor-specific claims of an NVIDIA report and its chain.

    Attributes:
        device: a GPU or a switch.
        driver_version: of a GPU, such as ``590.12``; None for a switch.
        vbios_version: such as ``96.00.A5.00.01``.
        project: the board's project, its SKU and the chip's, as in the names of the vendor's reference
            values; None if the device does not report them.
        fwid: 48 bytes, SHA-384 of the firmware that owns the signing key; None if neither report nor
            certificate has it.
        flags: DICE operational flags, 32 bits; None if the certificate has none. Hopper has none: there, only
            the measurements show developer tools.
        feature: how the device is passed through; None if the driver does not report it.
        protected_pcie: whether links to other devices run in the clear; None if it is not reported.
        switches: 8-byte ids of the switches linked with the device, in the order of links.
        device_nonce: 32 bytes, chosen by the device.
        revocation_checked: whether NVIDIA confirmed that none of its certificates in the chain is revoked.
        trailing_bytes: count of bytes after the signature: 0 or 1.
    """

    device: Device
    driver_version: str | None
    vbios_version: str
    project: tuple[str, str, str] | None
    fwid: bytes | None
    flags: int | None
    feature: Feature | None
    protected_pcie: bool | None
    switches: tuple[bytes, ...]
    device_nonce: bytes
    revocation_checked: bool
    trailing_bytes: int


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a collection of a report and its chain."""
    return cmw.matches(data) and b'"cert_chain":[' in data and _REPORT.search(data) is not None


def verify(
    data: bytes, *, context: Context, collateral: NvidiaEndorsements | None, now: datetime
) -> Verified[Claims]:
    """Verify one report of a GPU or a switch.

    1. The evidence is a collection of a report and a chain, and both parse; the fields of the report
       only after its signature.
    2. The chain is one leaf that signs, and CAs, all with keys on P-384.
    3. The root's key is one of the context's anchors, and that anchor is for GPUs.
    4. Each certificate is issued by the next: name and signature.
    5. Each certificate is in its validity period.
    6. Each given OCSP response is about this chain, signed by the issuer or its delegate, and current. It
       reports the certificate as good: neither revoked nor on hold.
    7. The leaf's key signed the report: request and answer.
    8. The firmware id in the report is the one in the leaf.
    9. A GPU's report states the driver, a switch's does not; both state the VBIOS.

    The request's nonce is a claim: the requester compares it. Only a nonce that the processor's evidence
    covers binds a GPU to a processor.

    Args:
        data: the collection.
        context: the trusted roots and the rest of the verifier's state.
        collateral: NVIDIA's OCSP responses; with None, ``revocation_checked`` is False.
        now: aware.

    Raises:
        FormatError: malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate or an OCSP response is expired or not yet valid.
        UnavailableError: NVIDIA does not have a certificate.
    """
    raw, chain = _parts(data, context)  # 1 to 4
    frame = Frame.parse(raw)
    chain.check_time(now)  # 5
    revocation = _revocation(collateral, chain, now, context)  # 6
    signatures.check_raw(  # 7
        frame.signature,
        raw[: len(raw) - len(frame.signature) - len(frame.trailing)],
        chain.leaf.spki,
        Scheme.ES384,
        KIND,
        context=context,
        code="sig_report",
    )
    fields = _read(frame, chain, context)  # 8, 9; the fields that step 1 leaves
    return mint(_claims(frame, chain, fields, revocation, now))


def _parts(data: bytes, context: Context) -> tuple[bytes, Chain]:
    """The report and the chain, parsed and checked once for the same end of a collection.

    No text in a collection contains a quote, so a comma followed by a label starts a part. If the end was
    seen before, everything before it is one part, which is the report.
    """
    cut = data.find(_CHAIN) if data.startswith(_FIRST) else -1
    end = data[cut:] if cut > 0 else b""
    remembered: tuple[bytes, Chain] | None = context.memory.get(_ENDS, end[:_NAME_SIZE])
    if remembered is not None and remembered[0] == end:
        return Part.parse(data[len(_FIRST) : cut], "CMW collection.report").value, remembered[1]
    parts = Collection.parse(data).values(PARTS)
    chain = devices.check(parts["cert_chain"], context)
    if 0 < len(end) <= MOST_BYTES and list(parts) == list(PARTS):
        context.memory.put(_ENDS, end[:_NAME_SIZE], (end, chain))
    return parts["report"], chain


@frozen
class _Revocation:
    """The combined result of NVIDIA's responses.

    Attributes:
        checked: whether they include every certificate in the chain that NVIDIA issued.
        issued: of the oldest; None if there are none.
        until: when the first of certificates and responses expires.
    """

    checked: bool
    issued: datetime | None
    until: datetime


def _revocation(
    collateral: NvidiaEndorsements | None, chain: Chain, now: datetime, context: Context
) -> _Revocation:
    if collateral is None or not collateral.ocsp:
        return _Revocation(False, None, chain.end)
    answers = [ocsp.check(response, chain.certificates, now, context) for response in collateral.ocsp]
    # The device itself issues the leaf, and the root has no issuer: NVIDIA answers for the certificates
    # between.
    expected = set(range(1, len(chain.certificates) - 1))
    return _Revocation(
        {answer.index for answer in answers} >= expected,
        min(answer.start for answer in answers),
        min(chain.end, *(answer.end for answer in answers)),
    )


def _firmware(opaque: Opaque, chain: Chain) -> bytes | None:
    want, got = chain.dice.fwid if chain.dice else None, opaque.get(Field.FWID)
    if got is not None and got != want:
        raise AuthenticityError(
            f"{KIND}.FWID: want {want.hex() if want else 'none'}, got {got.hex()}", code="key_binding"
        )
    return want


def _versions(opaque: Opaque, device: Device) -> tuple[str | None, str]:
    driver, vbios = opaque.text(Field.DRIVER_VERSION), opaque.vbios_version
    if vbios is None or (driver is None) != (device is Device.SWITCH):
        raise AuthenticityError(
            f"{KIND}: want the versions of a {device}'s firmware, got driver {driver} and VBIOS {vbios}",
            code="product_mismatch",
        )
    return driver, vbios


@frozen(kw_only=True)
class _Fields:
    """A device's claims that do not change from report to report.

    Attributes:
        parts: the bytes of a report that contain them.
        measurement: SHA-384 of all measurements, in order.
        registers: every measurement by name.
        debug: whether its firmware is debuggable, or not secure.
        platform: the device.
        vendor: the fields of :class:`NvidiaClaims`, by name, except those of one report.
    """

    parts: tuple[int, bytes, bytes]
    measurement: Digest
    registers: Mapping[str, Digest]
    debug: bool
    platform: Platform
    vendor: Mapping[str, Any]


def _read(frame: Frame, chain: Chain, context: Context) -> _Fields:
    """Parse measurements and fields, once for the same bytes of a device with the same chain."""
    parts = (frame.count, frame.record, frame.opaque)
    # Another certificate of the same key may name another device, other firmware and other flags.
    fields: _Fields | None = context.memory.get(_MEMORY, chain.leaf.der)
    if fields is None or fields.parts != parts:
        fields = _say(frame, chain, parts)
        context.memory.put(_MEMORY, chain.leaf.der, fields)
    return fields


def _say(frame: Frame, chain: Chain, parts: tuple[int, bytes, bytes]) -> _Fields:
    report = Report.of(frame)
    opaque = report.opaque
    fwid = _firmware(opaque, chain)  # 8
    driver, vbios = _versions(opaque, chain.device)  # 9
    project, sku, chip = (opaque.text(each) for each in (Field.PROJECT, Field.PROJECT_SKU, Field.CHIP_SKU))
    values = report.measurements()
    blocks = {f"block{number}": Digest("sha384", value) for number, value in values.items()}
    flags = chain.dice.flags if chain.dice else None
    return _Fields(
        parts=parts,
        measurement=Digest.of("sha384", b"".join(values.values())),
        registers=MappingProxyType(blocks),
        debug=bool((flags or 0) & (dice.Flag.DEBUG | dice.Flag.NOT_SECURE)),
        platform=Platform(id=chain.identity.serial, product=chain.identity.product),
        vendor={
            "device": chain.device,
            "driver_version": driver,
            "vbios_version": vbios,
            "project": (project, sku, chip) if project and sku and chip else None,
            "fwid": fwid,
            "flags": flags,
            "feature": opaque.feature,
            "protected_pcie": opaque.protected_pcie,
            "switches": opaque.pdis,
        },
    )


def _claims(frame: Frame, chain: Chain, fields: _Fields, revocation: _Revocation, now: datetime) -> Claims:
    return Claims(
        kind=KIND,
        tee=Tee.NVIDIA,
        level=ProtectionLevel.NONE if fields.debug else chain.anchor.level,
        anchor=chain.anchor.name,
        debug=fields.debug,
        measurement=fields.measurement,
        signer=None,
        product_id=None,
        svn=None,
        config_id=None,
        family_id=None,
        registers=fields.registers,
        report_data=b"",
        nonce=frame.nonce,
        tcb=NOT_JUDGED,
        platform=fields.platform,
        collateral_issued=revocation.issued,
        valid_until=revocation.until,
        verified_at=now,
        vendor=NvidiaClaims(
            **fields.vendor,
            device_nonce=frame.device_nonce,
            revocation_checked=revocation.checked,
            trailing_bytes=len(frame.trailing),
        ),
    )
