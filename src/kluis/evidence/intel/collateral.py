"""Verify collateral once and reuse it: signatures now, time and revocation at every use.

Steps 8 (CRLs) and 9 (documents) of the verification of a quote, except the parts that need a quote.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from operator import attrgetter
from typing import Final

from kluis.errors import AuthenticityError
from kluis.evidence import chain, signatures
from kluis.evidence.anchors import Anchor, TrustAnchors
from kluis.evidence.context import Context
from kluis.evidence.intel import pck, tcb
from kluis.formats import x509
from kluis.formats.sgx.collateral import Collateral, crl_der
from kluis.formats.sgx.tcb_info import Identity, TcbInfo, parse_identity, parse_tcb_info
from kluis.formats.x509 import Certificate, Crl, Scheme
from kluis.frozen import frozen
from kluis.hashes import sha256

_KIND: Final = "collateral"
_PLACES: Final = 64
_PARTS: Final = attrgetter(*(field.name for field in dataclasses.fields(Collateral)))
SIGNING: Final = ("SGX TCB Signing",)
_ROOT_CRL: Final = "root CA CRL"
_PCK_CRL: Final = "PCK CRL"
_SIGNER: Final = "TCB signing certificate"
_CERTIFICATES: Final = ("root certificate", "PCK CA certificate", _SIGNER, _SIGNER)


@frozen
class Window:
    """The validity period of a part of the collateral; ``kind`` is the prefix of its error codes."""

    what: str
    kind: str
    start: datetime
    end: datetime


@frozen(kw_only=True, eq=False)
class HeldCollateral:
    """Collateral whose signatures are verified, for any number of quotes.

    Only :func:`verify` makes one. It does not include time: call :meth:`check` at each use.

    Attributes:
        anchor: of its chain.
        root: its root certificate.
        pck_ca: the CA that issues PCK certificates and their CRL.
        signers: of TCB info and QE identity.
        root_crl: of the root.
        pck_crl: of ``pck_ca``.
        tcb_info: of one kind of platform.
        identity: of the quoting enclave.
        start: the latest start of all validity periods.
        end: the earliest end.
        issued: the oldest issue date of the parts that Intel re-issues each month: TCB info, QE identity and
            PCK CRL. The root's CRL is valid for a year, and has a separate end.
        pck_certificate_chain: PEM, as given and not verified; or None.
    """

    anchor: Anchor
    root: Certificate
    pck_ca: Certificate
    signers: tuple[Certificate, ...]
    root_crl: Crl
    pck_crl: Crl
    tcb_info: TcbInfo
    identity: Identity
    start: datetime
    end: datetime
    issued: datetime
    pck_certificate_chain: bytes | None

    @property
    def windows(self) -> tuple[Window, ...]:
        """The validity period of each part."""
        info, identity, certificates = self.tcb_info, self.identity, (self.root, self.pck_ca, *self.signers)
        return (
            Window("TCB info", "tcb_info", info.issued, info.next_update),
            Window("QE identity", "qe_identity", identity.issued, identity.next_update),
            Window(_ROOT_CRL, "crl", self.root_crl.this_update, self.root_crl.next_update),
            Window(_PCK_CRL, "crl", self.pck_crl.this_update, self.pck_crl.next_update),
            *(
                Window(what, "cert", certificate.not_before, certificate.not_after)
                for what, certificate in zip(_CERTIFICATES, certificates, strict=False)
            ),
        )

    def check(self, now: datetime) -> None:
        """Steps 7 and 9, at ``now``: every part is valid, and no CA or signer is revoked.

        Raises:
            FreshnessError: a part is expired or not yet valid.
            AuthenticityError: a certificate is on the root's CRL.
        """
        # Outside the common period, at least one part raises.
        for window in () if self.start <= now <= self.end else self.windows:
            chain.in_time(window.what, window.start, window.end, now, kind=window.kind)
        chain.not_revoked(self.pck_ca, self.root_crl, "PCK CA certificate")
        for signer in self.signers:
            chain.not_revoked(signer, self.root_crl, _SIGNER, code="signing_cert_revoked")


def hold(collateral: Collateral, anchors: TrustAnchors) -> HeldCollateral:
    """Verify collateral once, for any number of quotes.

    Raises:
        FormatError: a part is malformed.
        AuthenticityError: a check fails.
    """
    return verify(collateral, Context(anchors))


def recall(collateral: Collateral, context: Context) -> HeldCollateral:
    """Verify collateral, or return the cached result for the same bytes.

    Time and revocation are checked at every use. At most 64 are cached, since each is large.

    Raises:
        KluisError: as for :func:`verify`.
    """
    if not context.lasting:
        return verify(collateral, context)
    parts = [part or b"" for part in _PARTS(collateral)]
    sizes = repr([len(part) for part in parts]).encode()
    name = sha256(b"".join((sizes, *parts)))
    place = bytes((name[0] % _PLACES,))
    remembered: tuple[bytes, HeldCollateral] | None = context.memory.get(_KIND, place)
    if remembered is not None and remembered[0] == name:
        return remembered[1]
    made = verify(collateral, context)
    context.memory.put(_KIND, place, (name, made))
    return made


def verify(collateral: Collateral, context: Context) -> HeldCollateral:
    """Verify everything in ``collateral`` that does not depend on time or on a quote.

    1. Each issuer chain is one signer (or CA) and one root; an anchor has the root's key.
    2. CA and signers have their profile, and the root's signature.
    3. The root's CRL is the root's, the PCK CRL is the CA's.
    4. TCB info and QE identity are signed, over the bytes received, and have a known format.

    Raises:
        FormatError: a part is malformed.
        AuthenticityError: a check fails.
    """
    issuers = pck.parse(collateral.pck_crl_issuer_chain, "PCK CRL issuer chain", context)
    pck_ca, root = pck.by_role(issuers, pck.CA, pck.ROOT, what="PCK CRL issuer chain")
    anchor = pck.match_root(root, context, "PCK CRL issuer chain")  # 1
    pck.check_ca(pck_ca, root, anchor, "PCK CA certificate", context)  # 2
    tcb_signer = _signer(
        collateral.tcb_info_issuer_chain, root, anchor, "TCB info issuer chain", context
    )  # the same two steps of its chain
    same = collateral.qe_identity_issuer_chain == collateral.tcb_info_issuer_chain
    qe_signer = (
        tcb_signer
        if same
        else _signer(collateral.qe_identity_issuer_chain, root, anchor, "QE identity issuer chain", context)
    )
    root_crl, pck_crl = _crl(collateral.root_ca_crl, _ROOT_CRL), _crl(collateral.pck_crl, _PCK_CRL)
    _check_crl(root_crl, root, _ROOT_CRL, context)  # 3
    _check_crl(pck_crl, pck_ca, _PCK_CRL, context)
    signatures.check_raw(  # 4
        collateral.tcb_info_signature,
        collateral.tcb_info,
        tcb_signer.spki,
        Scheme.ES256,
        "TCB info",
        context=context,
        code="tcb_info_sig",
    )
    signatures.check_raw(
        collateral.qe_identity_signature,
        collateral.qe_identity,
        qe_signer.spki,
        Scheme.ES256,
        "QE identity",
        context=context,
        code="qe_identity_sig",
    )
    info, identity = parse_tcb_info(collateral.tcb_info), parse_identity(collateral.qe_identity)
    tcb.check_statuses(info, identity)
    signers = (tcb_signer,) if same else (tcb_signer, qe_signer)
    documents, lists, certificates = (info, identity), (root_crl, pck_crl), (root, pck_ca, *signers)
    return HeldCollateral(
        anchor=anchor,
        root=root,
        pck_ca=pck_ca,
        signers=signers,
        root_crl=root_crl,
        pck_crl=pck_crl,
        tcb_info=info,
        identity=identity,
        start=max(
            *[document.issued for document in documents],
            *[crl.this_update for crl in lists],
            *[certificate.not_before for certificate in certificates],
        ),
        end=min(
            *[part.next_update for part in (*documents, *lists)],
            *[certificate.not_after for certificate in certificates],
        ),
        issued=min(info.issued, identity.issued, pck_crl.this_update),
        pck_certificate_chain=collateral.pck_certificate_chain,
    )


def _signer(pem: bytes, root: Certificate, anchor: Anchor, what: str, context: Context) -> Certificate:
    signer, own_root = pck.by_role(pck.parse(pem, what, context, known=(root,)), SIGNING, pck.ROOT, what=what)
    if own_root.spki != root.spki:
        raise AuthenticityError(f"{what}: its root is not that of the PCK CRL", code="root_untrusted")
    pck.check_leaf(signer, root, anchor, _SIGNER, context)
    return signer


def _crl(data: bytes, what: str) -> Crl:
    return x509.parse_crl(crl_der(data, what), what)


def _check_crl(crl: Crl, issuer: Certificate, what: str, context: Context) -> None:
    chain.check_issued(
        crl, issuer, what, schemes=pck.SCHEMES, context=context, code="crl_sig", name_code="crl_issuer"
    )
