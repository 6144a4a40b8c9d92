"""Parity with another verifier: every disagreement has a written reason, and exactly one."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import FormatError, KluisError
from kluis.evidence import Claims, Collateral, TdxClaims, TrustAnchors
from kluis.evidence.intel.claims import IntelClaims
from kluis.formats import x509
from kluis.formats.sgx import quote as dcap_quote
from tests.evidence.test_vectors import FOUND, SHIPPED, VECTORS, Vector, verify

dcap_qvl = pytest.importorskip("dcap_qvl")
pytestmark = pytest.mark.skipif(not FOUND, reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")

PAGE = Path(__file__).resolve().parents[3] / "docs" / "quality" / "parity.md"
MUTATIONS = 2000
TEXTS = (
    "pck_crl_issuer_chain",
    "tcb_info_issuer_chain",
    "tcb_info",
    "qe_identity_issuer_chain",
    "qe_identity",
)
BYTES = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")


@dataclasses.dataclass(frozen=True)
class Both:
    """One piece of evidence, and what both verifiers make of it.

    Attributes:
        changed: the part that was changed, or None.
        ours: claims, or our error.
        theirs: status and advisories, or None where it was refused.
    """

    quote: bytes
    collateral: Collateral
    changed: str | None
    ours: Claims | KluisError
    theirs: tuple[str, tuple[str, ...]] | None

    @property
    def agree(self) -> bool:
        """Whether both refuse, or both accept with the same status and advisories."""
        if isinstance(self.ours, KluisError):
            return self.theirs is None
        return self.theirs == (str(self.ours.tcb.status), self.ours.tcb.advisories)

    @property
    def ours_alone(self) -> Claims | None:
        """Claims that we alone accept."""
        return self.ours if isinstance(self.ours, Claims) and self.theirs is None else None

    @property
    def refused_alone(self) -> KluisError | None:
        """Our error, where we alone refuse."""
        return self.ours if isinstance(self.ours, KluisError) and self.theirs is not None else None

    @property
    def version_2(self) -> bool:
        """Whether the TCB info is of version 2."""
        return bool(json.loads(self.collateral.tcb_info)["version"] == 2)


def _judge(quote: bytes, collateral: Collateral, vector: Vector, changed: str | None = None) -> Both:
    try:
        ours: Claims | KluisError = verify(
            quote, anchors=SHIPPED, collateral=collateral, now=vector.now
        ).value
    except KluisError as error:
        ours = error
    try:
        given = dcap_qvl.QuoteCollateralV3.from_json(collateral.to_json().decode())
        report = dcap_qvl.verify(quote, given, int(vector.now.timestamp()))
        theirs = (report.status, tuple(sorted(set(report.advisory_ids))))
    except ValueError:
        theirs = None
    return Both(quote, collateral, changed, ours, theirs)


def _tdx(claims: Claims | None) -> TdxClaims | None:
    vendor = claims.vendor if claims is not None and not claims.debug else None
    return vendor if isinstance(vendor, TdxClaims) else None


def _text_around(both: Both) -> bool:
    error = both.refused_alone
    return error is not None and str(error).endswith("is not a PEM certificate") and not _of_pck_ca(both)


def _of_pck_ca(both: Both) -> bool:
    return both.refused_alone is not None and both.changed == "pck_crl_issuer_chain"


ROOTS = {
    each.der
    for anchor in TrustAnchors.shipped()
    for each in anchor.proven.values()
    if each.subject == each.issuer
}


def _root_alone(both: Both) -> bool:
    """Whether a chain reads as certificates, and the last of them is no root certificate of Intel's."""
    error = both.refused_alone
    if error is None or _of_pck_ca(both) or _text_around(both):
        return False
    try:
        chains = [dcap_quote.parse(both.quote).certification_data]
        chains += [both.collateral.tcb_info_issuer_chain, both.collateral.qe_identity_issuer_chain]
        return any(x509.split_pem(chain, "chain")[-1] not in ROOTS for chain in chains)
    except FormatError:
        return False


# Each reason by the name that the page gives it; no two of them can be true of one disagreement.
REASONS: dict[str, Callable[[Both], bool]] = {
    "tcb-info-version-2": lambda both: both.ours_alone is not None and both.version_2,
    "debug": lambda both: both.ours_alone is not None and not both.version_2 and both.ours_alone.debug,
    "sept-ve-disable": lambda both: (
        (td := _tdx(both.ours_alone)) is not None
        and not td.sept_ve_disable
        and not any(td.mrservicetd or b"")
    ),
    "service-domain": lambda both: (td := _tdx(both.ours_alone)) is not None and any(td.mrservicetd or b""),
    "bytes-after-the-quote": lambda both: (
        both.refused_alone is not None and ".padding at " in str(both.refused_alone)
    ),
    "text-around-certificates": _text_around,
    "issuer-of-the-pck-crl": _of_pck_ca,
    "root-certificate": _root_alone,
    "not-yet-valid": lambda both: (
        both.refused_alone is not None and both.refused_alone.code.endswith("_not_yet_valid")
    ),
}


def _reasons(both: Both) -> list[str]:
    return [name for name, holds in REASONS.items() if holds(both)]


def _unchanged() -> list[tuple[Vector, bytes, Collateral]]:
    vectors = map(Vector, FOUND)
    return [(vector, vector.part("quote"), vector.collateral()) for vector in vectors]


@pytest.fixture(scope="module")
def disagreements() -> list[Both]:
    """Every disagreement over what is recorded, and over what is made of it."""
    recorded = [(_judge(quote, collateral, vector), vector) for vector, quote, collateral in _unchanged()]
    good = [both_and for both_and in recorded if both_and[0].agree and both_and[0].theirs is not None]
    assert len(good) > 50
    dice = random.Random(20260624)
    made = [_judge(*_changed(dice, good)) for _ in range(MUTATIONS)]
    return [both for both in (*(both for both, _ in recorded), *made) if not both.agree]


def _changed(dice: random.Random, good: list[tuple[Both, Vector]]) -> tuple[bytes, Collateral, Vector, str]:
    """One part of good evidence, changed: a bit flipped, cut short, gone on with, or mixed with another's."""
    (both, vector), (other, _) = dice.choice(good), dice.choice(good)
    part = dice.choice(("quote", "quote", "quote", *TEXTS, *BYTES))
    data, source = bytearray(_part(both, part)), _part(other, part)
    at = dice.randrange(len(data))
    match dice.choice(("flip", "flip", "flip", "cut", "extend", "splice")):
        case "flip":
            data[at] ^= 1 << dice.randrange(7 if part in TEXTS else 8)
        case "cut":
            del data[at:]
        case "extend":
            data += dice.choice((b"\0", b"\n", b" ", b"A")) * dice.randint(1, 9)
        case _:
            size = dice.choice((1, 2, 4, 8, 16, 48, 64, 384))
            start = dice.randrange(max(1, len(source) - size))
            data[start : start + size] = source[start : start + size]
    if part == "quote":
        return bytes(data), both.collateral, vector, part
    return both.quote, dataclasses.replace(both.collateral, **{part: bytes(data)}), vector, part


def _part(both: Both, name: str) -> bytes:
    return both.quote if name == "quote" else getattr(both.collateral, name)  # type: ignore[no-any-return]


def test_every_disagreement_has_one_reason(disagreements: list[Both]) -> None:
    """Whatever one verifier accepts and the other does not, or judges otherwise, is of one written reason."""
    told: list[Any] = [
        (both.changed, both.ours if isinstance(both.ours, KluisError) else both.ours.tcb.status, both.theirs)
        for both in disagreements
        if len(_reasons(both)) != 1
    ]
    assert told == []


def test_every_reason_is_needed(disagreements: list[Both]) -> None:
    """No reason is written of which there is no case."""
    assert {name for both in disagreements for name in _reasons(both)} == set(REASONS)


def test_we_accept_alone_what_is_genuine(disagreements: list[Both]) -> None:
    """What we accept alone is recorded evidence, unchanged: strictness is never the other's."""
    for both in disagreements:
        if both.ours_alone is not None:
            assert both.changed is None
            assert isinstance(both.ours_alone.vendor, IntelClaims)


def test_the_page_lists_the_reasons() -> None:
    """The page has a heading for each reason, and no other."""
    assert set(re.findall(r"^### `([a-z0-9-]+)`", PAGE.read_text(), re.MULTILINE)) == set(REASONS)
