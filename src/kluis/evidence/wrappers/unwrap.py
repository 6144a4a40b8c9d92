"""Remove wrappers around evidence, and list what the verified evidence must bind.

A wrapper is never trusted: it names the evidence within and what that should bind. The evidence is verified
as if it were bare, and then compared with the wrapper's claims. Names, times and signatures of certificates
that carry evidence are ignored; the evidence must bind their key.
"""

from __future__ import annotations

import hashlib
from typing import Final

from kluis.errors import AuthenticityError, FormatError, UnsupportedError
from kluis.evidence.wrappers.bound import (
    CONFIGURATION,
    CUSTOM_CLAIMS,
    EVENT_LOG,
    NONCE,
    PUBLIC_KEY,
    REPORT_DATA,
    Bound,
    Unwrapped,
)
from kluis.formats import x509
from kluis.formats.ietf import cmw, cmw_cbor
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.wrappers import (
    coco,
    coco_parts,
    dstack,
    dstack_scale,
    gosev,
    gotpm,
    nvtrust,
    oe,
    ratls,
    tsm,
)
from kluis.formats.wrappers.dstack_scale import Attestation, Platform
from kluis.formats.x509 import Certificate
from kluis.formats.x509.structure import Structure, structure_of
from kluis.hashes import sha256

MAX_CERTIFICATES: Final = 6
MAX_LAYERS: Final = 4
_WHAT: Final = "certificate"
_TOKEN: Final = b"ey"  # of base64url of JSON, as a JWT begins
_EAT: Final = b'"eat_'
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
_BANKS: Final = (HashId.SHA512, HashId.SHA384, HashId.SHA256)


def unwrap(data: bytes) -> Unwrapped | None:
    """Remove nested envelopes, and within them one vendor-specific wrapper; None if there is no wrapper.

    Raises:
        FormatError: a malformed wrapper, or more than 4 nested envelopes.
        UnsupportedError: a wrapper of an unsupported kind or version.
        AuthenticityError: an envelope without evidence, or a certificate whose claims name another key.
    """
    layers: list[Unwrapped] = []
    while (layer := peel(data)) is not None:
        if len(layers) == MAX_LAYERS:
            raise FormatError(f"{layer.name}: is wrapped more than {MAX_LAYERS} deep", code="too_deep")
        layers.append(layer)
        data = layer.inner
        if not layer.envelope:
            break
    if not layers:
        return None
    name = " in ".join(layer.name for layer in reversed(layers))
    return Unwrapped(name, data, tuple(bound for layer in layers for bound in layer.bounds))


def peel(data: bytes) -> Unwrapped | None:
    """Remove one wrapper; None if there is none.

    Raises:
        FormatError: a malformed wrapper.
        UnsupportedError: a wrapper of an unsupported kind or version.
        AuthenticityError: an envelope without evidence, or a certificate whose claims name another key.
    """
    if data[:1] == b"{" and _EAT in data[:4096]:
        return _envelope(data)
    return _of_vendor(data) or _envelope(data)


def _envelope(data: bytes) -> Unwrapped | None:
    if not data[:1] or not (data[:1] in b"{[" or data[0] > 0x7F or data.startswith(_TOKEN)):
        return None
    from kluis.evidence.wrappers import envelope  # not used for most vendors' evidence

    return envelope.peel(data)


def _of_vendor(data: bytes) -> Unwrapped | None:
    first = data[:1]
    if first in (b"{", b"["):
        return _document(data)
    if data.startswith(_PEM) or (first == b"0" and structure_of(data) is Structure.CERTIFICATE):
        return _certificate(data)
    if dstack_scale.matches(data):
        return _dstack_attestation(dstack_scale.parse(data))
    if first in (b"\x0a", b"r", b" ", b"\n") and gosev.matches(data):
        return Unwrapped(gosev.WHAT, gosev.parse(data))
    if first == b"\x0a":
        return _go_tpm(data) if gotpm.matches(data) else None
    if oe.matches_report(data):
        return Unwrapped("Open Enclave report", oe.parse_report(data))
    if oe.matches_bare(data):
        quote, claims = oe.split_claims(data)
        return Unwrapped("Open Enclave evidence", quote, _claims_of(claims))
    return _oe_evidence(data) if oe.matches_evidence(data) else None


def _document(data: bytes) -> Unwrapped | None:
    if cmw.matches(data):
        return Unwrapped("configfs-tsm report", tsm.parse(data)[1]) if tsm.matches(data) else None
    if tsm.matches_object(data):
        return Unwrapped("configfs-tsm report", tsm.parse_object(data)[1])
    if dstack.matches_response(data):
        return _dstack_response(data)
    if coco.matches_snp(data):
        return Unwrapped("CoCo SEV-SNP evidence", coco.parse_snp(data))
    if coco_parts.matches_azure(data):
        return Unwrapped(coco_parts.AZURE, coco_parts.parse_azure(data).encode())
    if coco_parts.matches_tpm(data):
        return Unwrapped(coco_parts.TPM, coco_parts.parse_tpm(data).encode())
    if coco.matches_cca(data):
        return Unwrapped("CoCo CCA evidence", coco.parse_cca(data))
    if coco.matches_quote(data):
        return Unwrapped("CoCo quote", coco.parse_quote(data).quote)
    if nvtrust.matches(data):
        return _nvidia("NVIDIA SDK evidence", nvtrust.only(nvtrust.parse(data)))
    if nvtrust.matches_coco(data):
        return _nvidia("CoCo NVIDIA evidence", nvtrust.only(nvtrust.parse_coco(data)))
    return None


def _nvidia(name: str, device: nvtrust.Device) -> Unwrapped:
    parts = {"report": Part(OCTETS, device.report), "cert_chain": Part(OCTETS, device.chain)}
    bounds = () if device.nonce is None else (Bound(what=NONCE, value=device.nonce, nonce=device.nonce),)
    return Unwrapped(name, Collection(parts).encode(), bounds)


def _dstack_response(data: bytes) -> Unwrapped:
    response = dstack.parse_response(data)
    bounds = [_event_log(response.event_log)]
    if response.report_data is not None:
        report_data = response.report_data
        bounds.append(Bound(what=REPORT_DATA, value=report_data, report_data=(report_data,)))
    return Unwrapped("dstack quote", response.quote, tuple(bounds))


def _dstack_attestation(attestation: Attestation) -> Unwrapped:
    """Only a TDX domain's events are proven, by its registers; a report binds its configuration."""
    report_data = attestation.report_data
    bounds = [Bound(what=REPORT_DATA, value=report_data, report_data=(report_data,))]
    if attestation.platform is Platform.TDX:
        bounds.append(_event_log(attestation.log()))
        logged = [
            (event.name, event.payload) for event in attestation.events if event.kind == dstack.RUNTIME_EVENT
        ]
        if attestation.events and attestation.runtime and logged != list(attestation.runtime):
            raise AuthenticityError(
                "dstack attestation: its log has other events than its recorded list", code="event_log"
            )
    if attestation.host_data is not None:
        bounds.append(
            Bound(what=CONFIGURATION, value=attestation.config.encode(), host_data=attestation.host_data)
        )
    return Unwrapped("dstack attestation", attestation.evidence, tuple(bounds))


def _event_log(log: bytes) -> Bound:
    registers = dstack.replay(dstack.parse_log(log))
    return Bound(what=EVENT_LOG, value=log, registers={f"rtmr{i}": v for i, v in registers.items()})


def _oe_evidence(data: bytes) -> Unwrapped:
    evidence = oe.parse_evidence(data)
    return Unwrapped("Open Enclave evidence", evidence.quote, _claims_of(evidence.claims))


def _claims_of(claims: bytes | None) -> tuple[Bound, ...]:
    if claims is None:
        return ()
    return (Bound(what=CUSTOM_CLAIMS, value=claims, report_data=(sha256(claims) + bytes(32),)),)


def _certificate(data: bytes) -> Unwrapped | None:
    if data.startswith(_PEM):
        certificate = x509.parse(x509.split_pem(data, _WHAT, MAX_CERTIFICATES)[0], _WHAT)
    else:
        certificate = x509.parse(data, _WHAT)
    extensions, key = certificate.extensions, certificate.spki
    if dstack.ATTESTATION_OID in extensions:
        inner = dstack.octets(extensions[dstack.ATTESTATION_OID], "dstack attestation")
        attestation = _dstack_attestation(dstack_scale.parse(inner))
        bound = Bound(what=PUBLIC_KEY, value=key, report_data=(dstack.key_report_data(key),))
        return Unwrapped("dstack certificate", attestation.inner, (bound, *attestation.bounds))
    if dstack.QUOTE_OID in extensions:
        return _dstack_certificate(certificate)
    for name in (*oe.EVIDENCE_OIDS, *oe.REPORT_OIDS):
        if name in extensions:
            return _oe_certificate(extensions[name], name in oe.EVIDENCE_OIDS, key)
    for name in (cmw_cbor.CERTIFICATE_OID, ratls.DICE_OID):
        if name in extensions and (message := cmw_cbor.of_extension(extensions[name])) is not None:
            return Unwrapped("certificate with a CMW", message, (_hash_of(key),), envelope=True)
    carried = ratls.read(extensions, key)
    if carried is None:
        return None
    bound = Bound(what=PUBLIC_KEY, value=key, report_data=(sha256(carried.bound) + bytes(32),))
    return Unwrapped("RA-TLS certificate", carried.evidence, (bound,))


def _hash_of(key: bytes) -> Bound:
    """The key of a certificate, by any hash: no specification names one."""
    hashes = (hashlib.sha256, hashlib.sha384, hashlib.sha512)
    wanted = tuple(each(key).digest().ljust(64, b"\0") for each in hashes)
    return Bound(what=PUBLIC_KEY, value=key, report_data=wanted)


def _dstack_certificate(certificate: Certificate) -> Unwrapped:
    extensions, key = certificate.extensions, certificate.spki
    bounds = [Bound(what=PUBLIC_KEY, value=key, report_data=(dstack.key_report_data(key),))]
    if dstack.EVENT_LOG_OID in extensions:
        bounds.append(_event_log(dstack.octets(extensions[dstack.EVENT_LOG_OID], "dstack event log")))
    quote = dstack.octets(extensions[dstack.QUOTE_OID], "dstack quote")
    return Unwrapped("dstack certificate", quote, tuple(bounds))


def _oe_certificate(extension: bytes, evidence: bool, key: bytes) -> Unwrapped:
    """Open Enclave binds a key as PEM text: its hash in a report, or the text as custom claims."""
    text = oe.pem_of(key)
    texts = (text, text.removesuffix(b"\0"))
    name = "Open Enclave certificate"
    if evidence:
        parsed = oe.parse_evidence(extension)
        if parsed.claims is not None and parsed.claims not in texts:
            raise AuthenticityError(
                f"{name}: its claims are not of the certificate's key", code="key_binding"
            )
        quote = parsed.quote
    else:
        quote = oe.parse_report(extension)
    wanted = tuple(sha256(each) + bytes(32) for each in texts)
    return Unwrapped(name, quote, (Bound(what=PUBLIC_KEY, value=key, report_data=wanted),))


def _go_tpm(data: bytes) -> Unwrapped:
    """The quote of the strongest bank; a TEE report in the same attestation is ignored."""
    attestation = gotpm.parse(data)
    by_bank = {quote.bank: quote for quote in attestation.quotes}
    bank = next((bank for bank in _BANKS if bank in by_bank), None)
    if bank is None:
        raise UnsupportedError(
            f"go-tpm-tools attestation: want a quote of {', '.join(b.label for b in _BANKS)}, "
            f"got banks {sorted(by_bank)}",
            code="bad_type",
        )
    quote = by_bank[bank]
    parts = {
        "tpm_quote": Part(OCTETS, quote.message),
        "tpm_signature": Part(OCTETS, quote.signature),
        "pcrs": Part("application/json", pcrs.dumps({bank: quote.pcrs})),
    }
    if attestation.ak_public:
        parts["tpm_public"] = Part(OCTETS, attestation.ak_public)
    if attestation.event_log:
        parts["event_log"] = Part(OCTETS, attestation.event_log)
    name = "go-tpm-tools attestation"
    return Unwrapped(
        f"{name}, whose {attestation.tee} report is not looked at" if attestation.tee else name,
        Collection(parts).encode(),
    )
