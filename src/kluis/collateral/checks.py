"""Check that a cached document is authentic and current, before it is served to others.

A relying party checks a document again, with the evidence. Checking first keeps the cache from being
poisoned.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from kluis.collateral.documents import Document, Key, Kind, signed_parts, times
from kluis.errors import AuthenticityError
from kluis.evidence import chain, signatures
from kluis.evidence.amd import chain as amd
from kluis.evidence.context import Context
from kluis.evidence.intel import pck
from kluis.evidence.intel.collateral import SIGNING
from kluis.formats import x509
from kluis.formats.sgx import evaluation
from kluis.formats.sgx.tcb_info import parse_identity, parse_tcb_info
from kluis.formats.snp import extensions
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.snp.extensions import VekExtensions
from kluis.formats.snp.flags import SigningKey
from kluis.formats.x509 import Certificate, Scheme

_QE: Final = {"sgx": "QE", "tdx": "TD_QE"}
_NAMES: Final = {Kind.TCB_INFO: "tcb_info", Kind.QE_IDENTITY: "qe_identity"}

Ask = Callable[[Kind, Key], Document]


def check(kind: Kind, key: Key, document: Document, ask: Ask, context: Context, now: datetime) -> None:
    """Check one document: its vendor signed it, it is the one that ``key`` names, and it is current.

    Args:
        kind: of the document.
        key: the words of its key.
        document: untrusted.
        ask: returns another document that contains this one's signer: AMD's chain, a PCK CRL's.
        context: with the trusted roots.
        now: aware.

    Raises:
        FormatError: it is not such a document.
        AuthenticityError: its vendor did not sign it, or it is not the one that ``key`` names.
        FreshnessError: it is expired or not yet valid.
        UnavailableError: a document that ``ask`` should return is missing.
    """
    what = " ".join((kind, *key))
    match kind:
        case Kind.TCB_INFO | Kind.QE_IDENTITY | Kind.EVALUATION_NUMBERS:
            _signed_document(kind, key, document, what, context, now)
        case Kind.PCK_CRL:
            _pck_crl(key, document, what, context, now)
        case Kind.ROOT_CA_CRL:
            _root_crl(document, what, ask, context, now)
        case Kind.VCEK | Kind.AMD_CHAIN | Kind.AMD_CRL:
            _amd(kind, key, document, what, ask, context, now)


def check_is(kind: Kind, key: Key, document: Document, context: Context) -> None:
    """Check that a document is the one that ``key`` names; its signature is not checked here.

    Raises:
        FormatError: it is not such a document.
        AuthenticityError: it is another one (``collateral_mismatch``).
    """
    what = " ".join((kind, *key))
    match kind:
        case Kind.TCB_INFO | Kind.QE_IDENTITY | Kind.EVALUATION_NUMBERS:
            _check_name(kind, key, signed_parts(kind, document)[0], what)
        case Kind.PCK_CRL:
            name = f"{what}: issuer chain"
            ca, _ = pck.by_role(pck.parse(document.chain, name, context), pck.CA, pck.ROOT, what=name)
            _ca_named(key, ca, what)
        case Kind.VCEK:
            fields = extensions.parse(amd.leaf_of(document.body, SigningKey.VCEK).extensions)
            _chip_named(key, fields, what)
        case Kind.ROOT_CA_CRL | Kind.AMD_CHAIN | Kind.AMD_CRL:
            return  # of whom they are is who signed what they endorse


def _signed_document(
    kind: Kind, key: Key, document: Document, what: str, context: Context, now: datetime
) -> None:
    name = f"{what}: issuer chain"
    signer, root = pck.by_role(pck.parse(document.chain, name, context), SIGNING, pck.ROOT, what=name)
    anchor = pck.match_root(root, context, name)
    pck.check_leaf(signer, root, anchor, "TCB signing certificate", context)
    body, signature = signed_parts(kind, document)
    named = _NAMES.get(kind, "tcb_info")  # the numbers are those of TCB info
    signatures.check_raw(
        signature, body, signer.spki, Scheme.ES256, what, context=context, code=f"{named}_sig"
    )
    chain.valid(signer, "TCB signing certificate", now)
    chain.valid(root, "root certificate", now)
    _check_name(kind, key, body, what)
    stated = times(kind, document)
    chain.in_time(what, stated.issued, stated.until, now, kind=named)
    if key[-1].isdigit() and stated.evaluation != int(key[-1]):
        raise _another(what, f"evaluation data number {stated.evaluation}")


def _check_name(kind: Kind, key: Key, body: bytes, what: str) -> None:
    match kind:
        case Kind.TCB_INFO:
            info = parse_tcb_info(body)
            if (info.tee.lower(), info.fmspc.hex()) != key[:2]:
                raise _another(what, f"{info.tee} {info.fmspc.hex()}")
        case Kind.QE_IDENTITY:
            identity = parse_identity(body).id
            if identity != _QE.get(key[0]):
                raise _another(what, identity)
        case _:
            tee = evaluation.parse(body).tee
            if tee.lower() != key[0]:
                raise _another(what, tee)


def _pck_crl(key: Key, document: Document, what: str, context: Context, now: datetime) -> None:
    name = f"{what}: issuer chain"
    ca, root = pck.by_role(pck.parse(document.chain, name, context), pck.CA, pck.ROOT, what=name)
    anchor = pck.match_root(root, context, name)
    pck.check_ca(ca, root, anchor, "PCK CA certificate", context)
    _ca_named(key, ca, what)
    chain.valid(ca, "PCK CA certificate", now)
    chain.valid(root, "root certificate", now)
    _crl(document, ca, what, pck.SCHEMES, context, now)


def _ca_named(key: Key, ca: Certificate, what: str) -> None:
    if f"PCK {key[0].title()} CA" not in ca.common_name:
        raise _another(what, ca.common_name)


def _chip_named(key: Key, fields: VekExtensions, what: str) -> None:
    tcb = fields.tcb
    parts = (tcb.fmc, tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode)
    versions = "-".join(str(part) for part in parts if part is not None)
    if ((fields.hw_id or b"").hex(), versions) != key[1:]:
        raise _another(what, f"that of another chip, or of TCB {versions}")


def _root_crl(document: Document, what: str, ask: Ask, context: Context, now: datetime) -> None:
    issuer = x509.parse_crl(document.body, what).issuer
    known = [one for anchor in context.anchors for one in anchor.proven.values()]
    root = next((one for one in known if one.subject == issuer == one.issuer), None)
    if root is None:
        beside = ask(Kind.PCK_CRL, ("platform",)).chain
        _, root = pck.by_role(pck.parse(beside, what, context), pck.CA, pck.ROOT, what=what)
        pck.match_root(root, context, what)
    _crl(document, root, what, pck.SCHEMES, context, now)


def _amd(
    kind: Kind, key: Key, document: Document, what: str, ask: Ask, context: Context, now: datetime
) -> None:
    signer = SigningKey.VCEK if kind is Kind.VCEK else SigningKey[key[1].upper()]
    pem = document if kind is Kind.AMD_CHAIN else ask(Kind.AMD_CHAIN, (key[0], signer.name.lower()))
    above = Endorsements.from_chain(None, pem.body)
    authority = amd.verify_authority(above, context=context, now=now)
    if (authority.product.value, authority.kind) != (key[0], signer):
        raise _another(what, authority.ca.common_name)
    if kind is Kind.AMD_CRL:
        _crl(document, authority.root, what, amd.SCHEMES, context, now)
    elif kind is Kind.VCEK:
        vek = amd.verify_vek(document.body, above, SigningKey.VCEK, context)
        amd.check_time(vek.authority, now, vek.certificate)
        _chip_named(key, vek.extensions, what)


def _crl(
    document: Document,
    issuer: Certificate,
    what: str,
    schemes: tuple[Scheme, ...],
    context: Context,
    now: datetime,
) -> None:
    crl = x509.parse_crl(document.body, what)
    chain.check_issued(
        crl, issuer, what, schemes=schemes, context=context, code="crl_sig", name_code="crl_issuer"
    )
    chain.in_time(what, crl.this_update, crl.next_update, now, kind="crl")


def _another(what: str, got: str) -> AuthenticityError:
    return AuthenticityError(f"{what}: want that, got {got}", code="collateral_mismatch")
