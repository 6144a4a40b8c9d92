"""The provisioning service's operations and their application."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kluis.collateral.paths import Vendor as FromHost
from kluis.enclave.store.model import Storage
from kluis.evidence import TrustAnchors
from kluis.services import issuers
from kluis.services.clock import Clock
from kluis.services.provisioning import owner
from kluis.services.provisioning.authority import Authority
from kluis.services.provisioning.intel import Intel
from kluis.services.provisioning.owner import Owner
from kluis.services.provisioning.platforms import Platforms
from kluis.services.provisioning.vendor import Vendor
from kluis.services.provisioning.vendor_paths import PREFIX, VendorPaths
from kluis.services.provisioning.vouching import Vouch, VouchedRoot
from kluis.services.web import Answer, Bearer, Call, Gate, Issuer, Operation, Service

READ, WRITE = "provisioning/read", "provisioning/write"
ROLES: Final = {
    "Provisioning Contributor": frozenset({READ, WRITE}),
    "Provisioning Reader": frozenset({READ}),
}
MAX_UPLOAD: Final = 8 << 20
# Only 4 KiB of an enrolment are used; larger posts of Intel's tools with a manifest get an explanation.
MAX_ENROLMENT: Final = 128 << 10
SGX, TDX = "/sgx/certification/v4", "/tdx/certification/v4"

Handler = Callable[[Call], Answer]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a provisioning service.

    Attributes:
        level: protection level of the platforms that its authority certifies, ``process`` or
            ``process-user``; None: it has no authority, and only serves the vendors' documents.
        issuer: authenticates its owner and readers; None: orders are not accepted. Fixed at the first start.
        insecure_changing_issuer: whether another start may name another issuer, or other keys of it. Then
            anyone who runs the service can certify and revoke platforms.
    """

    level: str | None = "process"
    issuer: Issuer | None = None
    insecure_changing_issuer: bool = False


def service(
    settings: Settings,
    storage: Storage,
    clock: Clock,
    *,
    from_host: FromHost | None = None,
    document: bytes = b"",
    vouch: Vouch | None = None,
    anchors: TrustAnchors | None = None,
) -> Service:
    """Build the service, and create its authority at the first start.

    Args:
        settings: of the service.
        storage: its own, sealed.
        clock: returns the time.
        from_host: the host's copies of vendors' documents: path and query to headers and body; not trusted.
        document: the settings document that the service was started with.
        vouch: makes evidence of this enclave; None if there is none.
        anchors: the vendors' roots; None: the shipped ones.

    Raises:
        UsageError: an invalid level.
        FormatError: the issuer's keys are invalid, or the store's authority has another level.
        UnavailableError: the store cannot be read or written.
        PolicyError: the store was created under another issuer.
    """
    issuers.fix(storage, issuers.canonical(settings.issuer, changing=settings.insecure_changing_issuer))
    vendor = Vendor(storage, anchors or TrustAnchors.shipped(), from_host)
    documents = VendorPaths(vendor, clock)
    operations = (*_amd(documents), *_intel(documents, PREFIX), _upload(vendor, clock))
    if settings.level is None:
        operations += _intel(documents, "")
    else:
        authority = Authority(storage, settings.level)
        authority.open(clock.now())
        platforms = Platforms(storage, authority)
        operations += _list_own(Intel(authority, platforms, clock))
        operations += _owner(Owner(authority, platforms, clock))
        operations += _root_operations(VouchedRoot(authority, document, vouch, clock))
    bearer = Bearer(settings.issuer) if settings.issuer is not None else None
    return Service(
        "provisioning",
        "Kluis provisioning service",
        operations,
        gate=Gate(bearer, ROLES, clock),
        clock=clock,
        ready=lambda: _read_something(storage),
    )


def _read_something(storage: Storage) -> None:
    """Raise the store's error if it cannot be read."""
    storage.get("authority", "own")


def _list_own(intel: Intel) -> tuple[Operation, ...]:
    """Operations on Intel's paths, under the service's own authority."""
    return (
        _get("TcbInfo", f"{SGX}/tcb", intel.tcb, "TCB info of the emulated platforms."),
        _get("QeIdentity", f"{SGX}/qe/identity", intel.qe_identity, "Identity of the quoting enclave."),
        _get("QveIdentity", f"{SGX}/qve/identity", intel.qve_identity, "There is none."),
        _get(
            "EvaluationNumbers",
            f"{SGX}/tcbevaluationdatanumbers",
            intel.evaluation_numbers,
            "The TCB evaluation data number in force.",
        ),
        _get("PckCrl", f"{SGX}/pckcrl", intel.pck_crl, "The platform CA's CRL."),
        _get("RootCaCrl", f"{SGX}/rootcacrl", intel.root_crl, "The root's CRL."),
        _get("RootCaCrlDer", "/IntelSGXRootCA.der", intel.root_crl_der, "The root's CRL, DER."),
        _get("Crl", f"{SGX}/crl", intel.crl, "The CRL at an address that a certificate names, DER."),
        _get("Fmspcs", f"{SGX}/fmspcs", intel.fmspcs, "The kinds of platform that are certified."),
        _get("PckCert", f"{SGX}/pckcert", intel.pck_certificate, "A platform's certificate for its TCB."),
        _get("PckCerts", f"{SGX}/pckcerts", intel.pck_certificates, "All certificates of a platform."),
        _get("TdxTcbInfo", f"{TDX}/tcb", intel.no_tdx, "There is none."),
        _get("TdxQeIdentity", f"{TDX}/qe/identity", intel.no_tdx, "There is none."),
        _get("TdxEvaluationNumbers", f"{TDX}/tcbevaluationdatanumbers", intel.no_tdx, "There is none."),
        _get("Root", "/kluis/root", intel.root, "The root certificate of the emulated platforms."),
    )


def _root_operations(root: VouchedRoot) -> tuple[Operation, ...]:
    """Operations that prove that the root's key is the enclave's."""
    return (
        _get("VouchedRoot", "/kluis/root/vouched", root.certificate, "The root's key, with evidence of it."),
        _get("Settings", "/kluis/settings", root.settings, "The service's settings."),
    )


def _intel(documents: VendorPaths, prefix: str) -> tuple[Operation, ...]:
    """Operations on Intel's paths, from stored documents of Intel."""
    paths = {
        "TcbInfo": f"{SGX}/tcb",
        "QeIdentity": f"{SGX}/qe/identity",
        "EvaluationNumbers": f"{SGX}/tcbevaluationdatanumbers",
        "PckCrl": f"{SGX}/pckcrl",
        "RootCaCrl": f"{SGX}/rootcacrl",
        "RootCaCrlDer": "/IntelSGXRootCA.der",
        "Crl": f"{SGX}/crl",
        "TdxTcbInfo": f"{TDX}/tcb",
        "TdxQeIdentity": f"{TDX}/qe/identity",
        "TdxEvaluationNumbers": f"{TDX}/tcbevaluationdatanumbers",
    }
    summary = "As Intel signed it, if it is kept here."
    handlers = dict.fromkeys(paths.values(), documents.answer) | {f"{SGX}/crl": documents.crl}
    return tuple(
        _get(f"Intel{name}" if prefix else name, prefix + path, handlers[path], summary)
        for name, path in paths.items()
    )


def _amd(documents: VendorPaths) -> tuple[Operation, ...]:
    """Operations on AMD's paths."""
    summary = "As AMD signed it, if it is kept here."
    return (
        _get("Vcek", "/vcek/v1/{product}/{hwid}", documents.answer, summary),
        _get("VcekChain", "/vcek/v1/{product}/cert_chain", documents.answer, summary),
        _get("VcekCrl", "/vcek/v1/{product}/crl", documents.answer, summary),
        _get("VlekChain", "/vlek/v1/{product}/cert_chain", documents.answer, summary),
        _get("VlekCrl", "/vlek/v1/{product}/crl", documents.answer, summary),
    )


def _owner(orders: Owner) -> tuple[Operation, ...]:
    """Operations for enrolment, and for the owner's orders."""
    return (
        Operation(
            name="EnrolPlatform",
            method="POST",
            path=f"{SGX}/platforms",
            handler=orders.enrol,
            summary="Certify a platform that proves that it holds its key, or let it wait.",
            versioned=False,
            result=owner.Enrolled,
            status=201,
            most_bytes=MAX_ENROLMENT,
        ),
        Operation(
            name="ListPlatforms",
            method="GET",
            path="/kluis/platforms",
            handler=orders.platforms,
            summary="The platforms that are certified, revoked, or wait.",
            access=READ,
            versioned=False,
            result=owner.Listing,
        ),
        _order("Recover", orders.recover, "Require more of platforms.", owner.Recovery, owner.Required),
        _order(
            "Certify",
            orders.certify,
            "Certify a waiting platform, or certify a platform again.",
            owner.Certification,
            owner.Enrolled,
        ),
        _order("Refuse", orders.refuse, "Forget a platform that waits.", owner.Named),
        _order("Revoke", orders.revoke, "Revoke a platform's key.", owner.Named),
        _order("Terms", orders.terms, "Say who is certified unasked.", owner.Terms, owner.Terms),
    )


def _upload(vendor: Vendor, clock: Clock) -> Operation:
    handler = functools.partial(owner.upload, vendor, clock)
    return _order("Collateral", handler, "Store vendors' documents.", owner.Upload, most_bytes=MAX_UPLOAD)


def _get(name: str, path: str, handler: Handler, summary: str) -> Operation:
    return Operation(name, "GET", path, handler, summary, versioned=False)


def _order(
    name: str, handler: Handler, summary: str, body: Any, result: Any = None, most_bytes: int = 64 << 10
) -> Operation:
    return Operation(
        name=name,
        method="POST",
        path=f"/kluis/{name.lower()}",
        handler=handler,
        summary=summary,
        access=WRITE,
        versioned=False,
        body=body,
        result=result,
        status=200 if result is not None else 204,
        most_bytes=most_bytes,
    )
