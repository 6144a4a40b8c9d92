"""Verify a DCAP quote with its collateral held, compared with dcap-qvl on the same quote."""

from __future__ import annotations

from datetime import UTC, datetime

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.harness import Harness, Row, timed
from bench.images import image
from kluis import evidence
from kluis.evidence.intel import collateral as intel
from kluis.host import load
from kluis.tee.platform.client import Platform

TIMES = 200


def rows(take: Harness) -> list[Row]:
    """One row: a genuine quote of this platform, verified by both."""
    platform = Platform.connect()
    root = platform.root_pem()
    collateral = platform.collateral()
    with load(image("empty")) as enclave:
        quote = enclave.evidence(nonce=bytes(32)).quote
    now = datetime.now(UTC)
    anchors = evidence.TrustAnchors.from_pem(root)
    held = intel.hold(evidence.Collateral.from_json(collateral), anchors)
    theirs_held = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
    der = x509.load_pem_x509_certificate(root).public_bytes(Encoding.DER)
    seconds = int(now.timestamp())

    def ours() -> None:
        for _ in range(TIMES):
            evidence.verify(quote, anchors=anchors, collateral=held, now=now)

    def theirs() -> None:
        for _ in range(TIMES):
            dcap_qvl.verify_with_root_ca(quote, theirs_held, der, seconds)

    return [
        take.compare(
            "quote verification, collateral held",
            "dcap-qvl on the same quote",
            1.0,
            ours=lambda: timed(ours) / TIMES,
            theirs=lambda: timed(theirs) / TIMES,
        )
    ]
