"""Verify Nitro documents and CCA tokens whose endorsement was seen before, compared with plain P-384.

Both are recorded ones in ``$KLUIS_VECTORS``, or forged. A Nitro document needs one signature check once its
chain is verified. A CCA token needs two: the platform's part, which stays the same for a realm's life and is
verified once, and the realm's part, which is made for each challenge.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.harness import Harness, Row, timed
from bench.vectors import forged, genuine, origin
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
    """Four rows: both kinds of evidence, by each engine, by a verifier that caches what it verified."""
    found = []
    for name, (anchors, data, collateral, now), made in (
        ("nitro document", *(_nitro() or _forged("nitro.document"))),
        ("cca token", *(_cca() or _forged("cca.token"))),
    ):
        theirs = _alone(data)
        for engine, suffix, hold in ((OPENSSL, "", 1.15), (aws_lc(), ", AWS-LC", 0.5)):
            ours = _ours(anchors, engine, data, collateral, now)
            label = f"{name}, endorsement seen before{suffix}"
            also = origin(made)
            found.append(
                take.compare(label, AGAINST, hold, ours=ours, theirs=theirs, rounds=ROUNDS, also=also)
            )
    return found


Evidence: TypeAlias = tuple[TrustAnchors, bytes, CcaEndorsements | None, datetime]


def _forged(kind: str) -> tuple[Evidence, bool]:
    one = forged(kind)
    return (one.anchors, one.data, one.collateral, one.now), True


def _nitro() -> tuple[Evidence, bool] | None:
    """The newest recorded document."""
    recorded = genuine("nitro")
    if not recorded:
        return None
    meta, parts = max(recorded, key=lambda one: str(one[0]["verify_time"]))
    now = datetime.fromisoformat(meta["verify_time"])
    return (TrustAnchors.shipped(), parts["document"], None, now), False


def _cca() -> tuple[Evidence, bool] | None:
    """The largest recorded token."""
    recorded = genuine("cca")
    if not recorded:
        return None
    _, parts = max(recorded, key=lambda one: len(one[1]["token"]))
    spki = CcaEndorsements(cpak=parts["cpak"]).key.spki
    pem = json.loads(CcaEndorsements(cpak=spki).to_json())["cpak"].encode()
    anchors = TrustAnchors.shipped() | TrustAnchors.from_pem(pem, ProtectionLevel.HARDWARE_CCA)
    return (anchors, parts["token"], CcaEndorsements(cpak=pem), datetime(2026, 6, 1, tzinfo=UTC)), False


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
    """One signature over the same number of bytes, by a key that is already loaded."""
    private, algorithm = ec.generate_private_key(ec.SECP384R1()), ec.ECDSA(hashes.SHA384())
    signature, key = private.sign(data, algorithm), private.public_key()

    def work() -> None:
        for _ in range(TIMES):
            key.verify(signature, data, algorithm)

    return lambda: timed(work) / TIMES
