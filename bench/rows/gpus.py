"""Verify NVIDIA reports whose chain was seen before, compared with one plain P-384 verification.

The report and its chain are genuine, the largest recorded ones in ``$KLUIS_VECTORS``, or forged. The evidence
is the collection of both, in base64, as a verifier receives it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509 import load_pem_x509_certificates

from bench.harness import Harness, Row, timed
from bench.vectors import forged, genuine, origin
from kluis.evidence import OPENSSL, Engine, TrustAnchors, Verifier, aws_lc
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.nvidia.report import Report

TIMES = 10
ROUNDS = 151
AGAINST = "one P-384 verification by cryptography"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def rows(take: Harness) -> list[Row]:
    """Two rows: by each engine, one verifier that caches the verified chain."""
    report, chain, evidence, anchors, now, made = _largest()

    def ours(engine: Engine) -> Callable[[], float]:
        verifier = Verifier(anchors, engine=engine)

        def work() -> None:
            for _ in range(TIMES):
                verifier.verify(evidence, collateral=None, now=now)

        work()
        return lambda: timed(work) / TIMES

    theirs = _alone(report, chain)
    return [
        take.compare(name, AGAINST, hold, ours=ours(engine), theirs=theirs, rounds=ROUNDS, also=origin(made))
        for name, hold, engine in (
            ("nvidia report, endorsement seen before", 1.15, OPENSSL),
            ("nvidia report, endorsement seen before, AWS-LC", 0.5, aws_lc()),
        )
    ]


def _largest() -> tuple[bytes, bytes, bytes, TrustAnchors, datetime, bool]:
    """The report, its chain, the collection of both, the root, the time; and whether they are forged."""
    recorded = genuine("nvidia", "report", "cert_chain")
    if not recorded:
        one = forged("nvidia.report")
        parts = Collection.parse(one.data).parts
        report, chain = parts["report"].value, parts["cert_chain"].value
        return report, chain, one.data, one.anchors, one.now, True
    _, largest = max(recorded, key=lambda one: len(one[1]["report"]))
    report, chain = largest["report"], largest["cert_chain"]
    evidence = Collection({"report": Part(OCTETS, report), "cert_chain": Part(OCTETS, chain)}).encode()
    return report, chain, evidence, TrustAnchors.shipped(), NOW, False


def _alone(report: bytes, chain: bytes) -> Callable[[], float]:
    """The same signature by the same key, with all inputs prepared."""
    key = load_pem_x509_certificates(chain)[0].public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    parsed = Report.parse(report)
    r, s = (int.from_bytes(parsed.signature[at : at + 48], "big") for at in (0, 48))
    signature, signed, algorithm = (
        encode_dss_signature(r, s),
        parsed.signed_bytes(),
        ec.ECDSA(hashes.SHA384()),
    )

    def work() -> None:
        for _ in range(TIMES):
            key.verify(signature, signed, algorithm)

    return lambda: timed(work) / TIMES
