"""Parts of real evidence of Azure VMs, each genuine, put together as no VM made them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, UnavailableError
from kluis.evidence import AzureEndorsements, TrustAnchors, Verifier
from kluis.evidence.azure import hardware
from kluis.formats.hcl import report as hcl_report
from tests.evidence.azure.test_vectors import endorsements
from tests.evidence.tpm.forge import collection
from tests.vectors import MISSING, Vector, found

ROLES = {
    "hcl_report": "hcl_report",
    "td_quote": "td_quote",
    "tpm_quote": "tpm_quote_msg",
    "tpm_signature": "tpm_quote_sig",
    "pcrs": "pcrs",
}
FOUND = [each for each in found("azure") if each.outcome in ("valid", "indeterminate", "parse-only")]
VALID = [each for each in FOUND if each.outcome == "valid"]
VERIFIER = Verifier(TrustAnchors.shipped())
SOME_TIME = datetime(2025, 6, 1, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not FOUND, reason=MISSING)


def parts(vector: Vector) -> dict[str, bytes]:
    return {part: vector.part(role) for part, role in ROLES.items() if role in vector}


def ends(given: dict[str, bytes], beside: AzureEndorsements, now: datetime) -> KluisError | None:
    try:
        VERIFIER.verify(collection(given), collateral=beside, now=now)
    except KluisError as error:
        return error
    return None


def bound(given: dict[str, bytes]) -> bytes:
    """The data that the hardware's report binds."""
    return hardware.report_data(hcl_report.parse(given["hcl_report"]))


def refused(error: KluisError | None) -> bool:
    """Whether evidence is wrong, or its endorsement is missing, in whichever step."""
    return isinstance(error, AuthenticityError | FormatError | FreshnessError | UnavailableError)


def pairs() -> Iterator[tuple[Vector, Vector]]:
    for one, other in itertools.product(VALID, FOUND):
        if one is not other:
            yield one, other


def test_each_is_good_as_it_was() -> None:
    """What is taken apart here verifies whole."""
    assert [each.name for each in VALID if ends(parts(each), endorsements(each), each.now)] == []
    assert len(VALID) >= 4


@pytest.mark.parametrize("role", ROLES)
def test_one_part_of_another_vm(role: str) -> None:
    """One part that another VM made, or this one at another time, is refused, or it is the same part."""
    swapped = 0
    for one, other in pairs():
        given, alien = parts(one), parts(other)
        if role not in alien or given.get(role) == alien[role]:
            continue
        if role == "hcl_report" and bound(given) == bound(alien):
            continue  # the same VM, attested again: its report binds the same key
        swapped += 1
        error = ends({**given, role: alien[role]}, endorsements(one), one.now)
        assert refused(error), (one.name, other.name)
    assert swapped


def test_a_quote_of_another_vm_with_all_that_belongs_to_it() -> None:
    """A consistent quote, signature and PCRs are refused with the report of another VM."""
    names = ("tpm_quote", "tpm_signature", "pcrs")
    swapped = 0
    for one, other in pairs():
        given, alien = parts(one), parts(other)
        if "tpm_quote" not in alien or hcl_report.parse(given["hcl_report"]).runtime == (
            hcl_report.parse(alien["hcl_report"]).runtime
        ):
            continue
        swapped += 1
        error = ends({**given, **{name: alien[name] for name in names}}, endorsements(one), one.now)
        assert isinstance(error, AuthenticityError), (one.name, other.name)
        # A later boot of the same VM keeps its key; any other VM has another.
        assert error.code == "sig_tpm", (one.name, other.name)
    assert swapped


def test_reports_put_together() -> None:
    """The hardware's report of one VM around the runtime data, or under the header, of another is refused."""
    swapped = 0
    for one, other in pairs():
        mine, theirs = (hcl_report.parse(parts(each)["hcl_report"]) for each in (one, other))
        for name in ("hardware", "runtime"):
            if getattr(mine, name) == getattr(theirs, name):
                continue
            if bound(parts(one)) == bound(parts(other)):
                continue
            made = dataclasses.replace(mine, **{name: getattr(theirs, name)})
            swapped += 1
            error = ends({**parts(one), "hcl_report": made.encode()}, endorsements(one), one.now)
            assert refused(error), (one.name, other.name, name)
    assert swapped


def test_what_endorses_another() -> None:
    """Endorsements of another VM's processor, however genuine, endorse none but their own."""
    swapped = 0
    for one, other in itertools.permutations(VALID, 2):
        mine, theirs = endorsements(one), endorsements(other)
        if mine == theirs or (mine.snp is None) != (theirs.snp is None):
            continue
        swapped += 1
        error = ends(parts(one), theirs, one.now)
        same = mine.snp is None or theirs.snp is None or mine.snp.vek == theirs.snp.vek
        assert refused(error) or same, (one.name, other.name)
    assert swapped
