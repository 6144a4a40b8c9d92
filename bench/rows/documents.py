"""Verifying Nitro documents and CCA tokens whose endorsement was seen before, against P-384 alone.

Both are recorded ones in ``$KLUIS_VECTORS``. A Nitro document is one signature once its chain is
proven. A CCA token is two: the platform's part, which stays the same bytes for a realm's life and is
proven once, and the realm's part, which is made for each challenge.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.harness import Harness, Row, timed
from bench.vectors import genuine
from kluis.evidence import (
    OPENSSL,
    CcaEndorsements,
    Engine,
    ProtectionLevel,
    TrustAnchors,
    Verifier,
    aws_lc,
)

TIMES = 10
ROUNDS = 151
AGAINST = "one P-384 verification by cryptography"


def rows(take: Harness) -> list[Row]:
    """Four rows: both kinds of evidence, by each engine, by a verifier that keeps what it proved."""
    found = []
    for name, anchors, data, collateral, now in (_nitro(), _cca()):
        theirs = _alone(data)
        for engine, suffix, hold in ((OPENSSL, "", 1.15), (aws_lc(), ", AWS-LC", 0.5)):
            ours = _ours(anchors, engine, data, collateral, now)
            label = f"{name}, endorsement seen before{suffix}"
            found.append(take.compare(label, AGAINST, hold, ours=ours, theirs=theirs, rounds=ROUNDS))
    return found


def _nitro() -> tuple[str, TrustAnchors, bytes, None, datetime]:
    """The newest recorded document."""
    meta, parts = max(genuine("nitro"), key=lambda one: str(one[0]["verify_time"]))
    now = datetime.fromisoformat(meta["verify_time"])
    return "nitro document", TrustAnchors.shipped(), parts["document"], None, now


def _cca() -> tuple[str, TrustAnchors, bytes, CcaEndorsements, datetime]:
    """The largest recorded token."""
    _, parts = max(genuine("cca"), key=lambda one: len(one[1]["token"]))
    spki = CcaEndorsements(cpak=parts["cpak"]).key.spki
    pem = json.loads(CcaEndorsements(cpak=spki).to_json())["cpak"].encode()
    anchors = TrustAnchors.shipped() | TrustAnchors.from_pem(pem, ProtectionLevel.HARDWARE_CCA)
    return "cca token", anchors, parts["token"], CcaEndorsements(cpak=pem), datetime(2026, 6, 1, tzinfo=UTC)


def _ours(
    anchors: TrustAnchors, engine: Engine, data: bytes, collateral: CcaEndorsements | None, now: datetime
) -> Callable[[], float]:
    verifier = Verifier(anchors, engine=engine)

    def work() -> None:
        for _ in range(TIMES):
            verifier.verify(data, collateral=collateral, now=now)

    work()
    return lambda: timed(work) / TIMES


def _alone(data: bytes) -> Callable[[], float]:
    """One signature over as many bytes, by a key that is loaded."""
    private, algorithm = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384())
    signature, key = private.sign(data, algorithm), private.public_key()

    def work() -> None:
        for _ in range(TIMES):
            key.verify(signature, data, algorithm)

    return lambda: timed(work) / TIMES
