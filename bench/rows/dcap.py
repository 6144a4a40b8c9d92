"""Verify genuine SGX and TDX quotes: nothing known, collateral held, platform seen before.

The quotes and their collateral are the newest recorded ones in ``$KLUIS_VECTORS`` that dcap-qvl, run here and
now on the same bytes, accepts too; if none are recorded they are forged. Seconds are one core's processor
time. dcap-qvl's collateral is always a parsed object; Kluis's is bytes, or held.
"""

from __future__ import annotations

import functools
import operator
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import dcap_qvl
from cryptography.hazmat.primitives.serialization import Encoding

from bench.harness import Harness, Row, timed
from bench.vectors import genuine, origin
from fuzz.pool import our_tests
from kluis.evidence import OPENSSL, Collateral, Engine, HeldCollateral, TrustAnchors, Verifier, aws_lc
from kluis.evidence.context import Context
from kluis.evidence.intel import collateral as holding
from kluis.evidence.intel import sgx, tdx
from kluis.formats.sgx import collateral as bundle

TIMES = 10
ROUNDS = 151
QUOTES = 10_000
VERIFICATIONS = 100_000
PLATFORMS = 8
AGAINST = "dcap-qvl on the same quote"
SHIPPED = TrustAnchors.shipped()


class Recorded(NamedTuple):
    """A quote, its collateral, and the time of verification; for a forged one also its root, in DER."""

    quote: bytes
    collateral: Collateral
    now: datetime
    tee: str
    anchors: TrustAnchors = SHIPPED
    root: bytes | None = None

    @property
    def forged(self) -> bool:
        """Whether this project made it."""
        return self.root is not None


def rows(take: Harness) -> list[Row]:
    """For each TEE a row for nothing known, by each engine, held, and seen before; and one for threads."""
    recorded = _recorded() or [*_forgeries()]
    found = []
    with _one_core():
        for tee in ("sgx", "tdx"):
            newest = max((each for each in recorded if each.tee == tee), key=lambda each: each.now)
            found += _rows_of(take, newest)
    return [*found, _threads(take, recorded)]


def _rows_of(take: Harness, one: Recorded) -> list[Row]:
    held = holding.hold(one.collateral, one.anchors)
    given = dcap_qvl.QuoteCollateralV3.from_json(one.collateral.to_json().decode())
    seconds = int(one.now.timestamp())

    def theirs() -> None:
        for _ in range(TIMES):
            if one.root is None:
                dcap_qvl.verify(one.quote, given, seconds)
            else:
                dcap_qvl.verify_with_root_ca(one.quote, given, one.root, seconds)

    def fresh(engine: Engine, collateral: Collateral | HeldCollateral) -> Callable[[], None]:
        def work() -> None:
            for _ in range(TIMES):
                context = Context(one.anchors, engine)
                verifier.verify(one.quote, context=context, collateral=collateral, now=one.now)

        return work

    def again(collateral: Collateral | HeldCollateral) -> Callable[[], None]:
        seen = Verifier(one.anchors)

        def work() -> None:
            for _ in range(TIMES):
                seen.verify(one.quote, collateral=collateral, now=one.now)

        return work

    verifier = {"sgx": sgx, "tdx": tdx}[one.tee]
    kinds: tuple[tuple[str, float, Callable[[], None]], ...] = (
        ("cold", 1.1, fresh(OPENSSL, one.collateral)),
        ("cold, AWS-LC", 1.1, fresh(aws_lc(), one.collateral)),
        ("held", 0.6, fresh(OPENSSL, held)),
        ("seen before, collateral as bytes", 0.3, again(one.collateral)),
        ("seen before", 0.25, again(held)),
    )
    made = []
    for name, hold, ours in kinds:
        ours()
        made.append(
            take.compare(
                f"{one.tee} quote {name}",
                AGAINST,
                hold,
                ours=lambda ours=ours: _processor(ours) / TIMES,
                theirs=lambda: _processor(theirs) / TIMES,
                rounds=ROUNDS,
                also=origin(one.forged),
            )
        )
    return made


def _threads(take: Harness, recorded: list[Recorded]) -> Row:
    """Two threads that share one verifier, over quotes of every recorded platform."""
    anchors = functools.reduce(operator.or_, (each.anchors for each in recorded))
    verifier = Verifier(anchors)
    held = [(each.quote, holding.hold(each.collateral, anchors), each.now) for each in recorded]

    def work(count: int) -> None:
        for index in range(count):
            quote, collateral, now = held[index % len(held)]
            verifier.verify(quote, collateral=collateral, now=now)

    def two() -> None:
        threads = [threading.Thread(target=work, args=(QUOTES // 2,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def memory() -> dict[str, str]:
        work(len(held))
        before = _resident()
        work(VERIFICATIONS)
        grown = _resident() - before
        return {
            "platforms": str(len(held)),
            f"memory after {VERIFICATIONS:,} verifications": f"{before / 1024:.1f} MiB, {grown:+d} KiB",
            **origin(recorded[0].forged)(),
        }

    work(len(held))
    return take.compare(
        "10,000 quotes, two threads",
        "the same by one thread",
        0.8,
        ours=lambda: timed(two),
        theirs=lambda: timed(lambda: work(QUOTES)),
        rounds=3,
        also=memory,
    )


def _recorded() -> list[Recorded]:
    """Every recorded quote that both verifiers accept."""
    found = []
    for meta, parts in (*genuine("sgx", "quote"), *genuine("tdx", "quote")):
        theirs = (meta.get("crosscheck") or {}).get("dcap_qvl_0_7_0") or {}
        if "status" in theirs:
            now = datetime.fromisoformat(meta["verify_time"])
            found.append(Recorded(parts["quote"], _collateral(parts), now, meta["tee"]))
    return found


def _forgeries() -> Iterator[Recorded]:
    """Quotes of platforms that the tests' forger makes, each under its own root."""
    our_tests()
    from tests.evidence.forge import Forge
    from tests.evidence.intel.forge import TdxForge

    for tee, maker in (("sgx", Forge), ("tdx", TdxForge)):
        for _ in range(PLATFORMS):
            forge = maker()
            yield Recorded(
                forge.quote(),
                forge.collateral(),
                forge.now,
                tee,
                forge.anchors,
                forge.root.public_bytes(Encoding.DER),
            )


def _collateral(parts: dict[str, bytes]) -> Collateral:
    info, info_signature = bundle.split_signed(parts["tcb_info"], "tcbInfo")
    identity, identity_signature = bundle.split_signed(parts["qe_identity"], "enclaveIdentity")
    names = (
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "qe_identity_issuer_chain",
    )
    return Collateral(
        **{name: parts[name] for name in names},
        tcb_info=info,
        tcb_info_signature=info_signature,
        qe_identity=identity,
        qe_identity_signature=identity_signature,
    )


@contextmanager
def _one_core() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _processor(work: Callable[[], object]) -> float:
    """The processor seconds of one call: other work on a shared core is not counted."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _resident() -> int:
    """This process's resident memory, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
