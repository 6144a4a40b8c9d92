"""Enrol from the command line: relay between the platform, which has no network, and the service."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kluis import installing
from kluis.authority.state import FMSPC
from kluis.cli import tls
from kluis.cli.evidence import files
from kluis.errors import UnavailableError
from kluis.evidence import TrustAnchors
from kluis.evidence.intel.collateral import hold
from kluis.formats import x509
from kluis.formats.sgx.collateral import Collateral
from kluis.hashes import sha256
from kluis.tee.platform.client import Platform


def enroll_with(platform: Platform, url: str, root: Path, ca: Path | None) -> dict[str, Any]:
    """Let the service at ``url`` certify ``platform``.

    Args:
        platform: of this machine.
        url: of the service.
        root: file of its root certificate.
        ca: file of its TLS authority; None for the usual ones.

    Returns:
        The platform's status afterwards.

    Raises:
        UnavailableError: the service cannot be reached, or its owner must approve the platform first.
        PolicyError: the service refuses.
        AuthenticityError: its documents do not verify under ``root``.
    """
    try:
        from kluis.collateral.enrolment import Enrolling
    except ModuleNotFoundError as missing:
        raise UnavailableError(
            f"platform enroll: want the package {missing.name}, got none",
            hint=installing.command_for("collateral"),
        ) from None
    pem, now = files.read(root), datetime.now(UTC)
    anchors = TrustAnchors.from_pem(pem)
    (certificate,) = x509.parse_pem(pem, "root certificate")
    with Enrolling(url, trust=tls.trust(ca)) as service:
        collateral = service.collateral(FMSPC, now)
        checked = hold(collateral, anchors)
        checked.check(now)
        asks = platform.order(
            "enrolment", root=sha256(certificate.der).hex(), pcesvn=checked.tcb_info.levels[0].tcb.pcesvn
        )
        chain = service.enrol(asks["request"].encode())
        if chain is None:
            raise UnavailableError(
                f"platform enroll: {service.name} lets this platform wait for its owner",
                hint=f"send the owner: ppid {asks['ppid']}, key {asks['key']}; once approved, run this again",
                code="enrolment_pending",
            )
        return _adopt(platform, service.name, pem, collateral, chain)


def _adopt(
    platform: Platform, service: str, root: bytes, collateral: Collateral, chain: bytes
) -> dict[str, Any]:
    return platform.order(
        "adopt",
        service=service,
        root=root.decode(),
        collateral=collateral.to_json().decode(),
        chain=chain.decode(),
    )
