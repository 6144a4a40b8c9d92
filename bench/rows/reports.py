"""Verify SNP reports whose endorsement was seen before, compared with one plain P-384 verification.

The report, its certificates and its CRL are genuine, the newest recorded one in ``$KLUIS_VECTORS``; or all
are forged, without a CRL.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from bench.harness import Harness, Row, timed
from bench.vectors import forged, genuine, origin
from kluis.evidence import OPENSSL, Engine, SnpEndorsements, TrustAnchors, Verifier, aws_lc
from kluis.formats import x509

TIMES = 10
ROUNDS = 151
AGAINST = "one P-384 verification by cryptography"


def rows(take: Harness) -> list[Row]:
    """Two rows: by each engine, one verifier that caches what it verified and checks the CRL at every
    call.
    """
    report, endorsements, anchors, now, made = _newest()

    def ours(engine: Engine) -> Callable[[], float]:
        verifier = Verifier(anchors, engine=engine)

        def work() -> None:
            for _ in range(TIMES):
                verifier.verify(report, collateral=endorsements, now=now)

        work()
        return lambda: timed(work) / TIMES

    theirs = _alone(endorsements.vek or b"", report)
    return [
        take.compare(name, AGAINST, hold, ours=ours(engine), theirs=theirs, rounds=ROUNDS, also=origin(made))
        for name, hold, engine in (
            ("snp report, endorsement seen before", 1.15, OPENSSL),
            ("snp report, endorsement seen before, AWS-LC", 0.5, aws_lc()),
        )
    ]


def _newest() -> tuple[bytes, SnpEndorsements, TrustAnchors, datetime, bool]:
    """The newest version's report that has a recorded CRL, and whether it is forged."""
    recorded = genuine("snp", "report", "ark_crl")
    if not recorded:
        one = forged("amd.snp")
        return one.data, one.collateral, one.anchors, one.now, True
    meta, parts = max(recorded, key=lambda one: (one[0]["known"]["version"], one[0]["id"]))
    endorsements = SnpEndorsements(
        vek=parts["endorsement_key"], ask=parts["ask"], ark=parts["ark"], crl=parts["ark_crl"]
    )
    now = datetime.fromisoformat(meta["verify_time"])
    return parts["report"], endorsements, TrustAnchors.shipped(), now, False


def _alone(vek: bytes, report: bytes) -> Callable[[], float]:
    """The same signature by the same key, with all inputs prepared."""
    key = load_der_public_key(x509.parse(vek, "VEK certificate").spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    r = int.from_bytes(report[0x2A0:0x2E8], "little")
    s = int.from_bytes(report[0x2E8:0x330], "little")
    signature, signed, algorithm = encode_dss_signature(r, s), report[:0x2A0], ec.ECDSA(hashes.SHA384())

    def work() -> None:
        for _ in range(TIMES):
            key.verify(signature, signed, algorithm)

    return lambda: timed(work) / TIMES
