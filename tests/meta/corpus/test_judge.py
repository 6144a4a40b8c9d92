"""Each outcome is checked exactly: a record that ends otherwise differs, with a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kluis.formats.eventlog.event_type import EventType
from kluis.formats.hcl.report import ReportType
from tests.corpus.judge import OUTCOMES, judge
from tests.corpus.record import read
from tests.evidence.forge import Forge
from tests.formats.eventlog.logs import event, log
from tests.formats.hcl.reports import hcl_report
from tests.meta.corpus import samples

DAMAGED_AT = 100


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


def judged(folder: Path, parts: dict[str, bytes], outcome: str, **more: Any) -> tuple[str, ...]:
    return judge(read(samples.write(folder, "record", parts, outcome=outcome, **more)))


def damaged(parts: dict[str, bytes]) -> dict[str, bytes]:
    quote = bytearray(parts["quote"])
    quote[DAMAGED_AT] ^= 1
    return {**parts, "quote": bytes(quote)}


def test_a_test_root(tmp_path: Path, forge: Forge) -> None:
    """Under a test root: refused under the vendors' roots, verified under the one in its files."""
    assert judged(tmp_path, samples.files(forge), "valid-under-test-root") == ()


def test_a_test_root_that_does_not_vouch(tmp_path: Path, forge: Forge) -> None:
    """Evidence that does not verify under its own root differs."""
    (said,) = judged(tmp_path, damaged(samples.files(forge)), "valid-under-test-root")
    assert said.startswith("want verified under the root in its files, got AuthenticityError sig_quote: ")


def test_a_valid_record_that_is_refused(tmp_path: Path, forge: Forge) -> None:
    """A record marked valid that does not verify under a vendor's root differs."""
    (said,) = judged(tmp_path, samples.files(forge), "valid")
    assert said.startswith("want verified, got AuthenticityError root_untrusted: ")


@pytest.mark.parametrize("outcome", ["invalid", "invalid-strict"])
def test_an_invalid_record(tmp_path: Path, forge: Forge, outcome: str) -> None:
    """What is refused is as expected of an invalid record."""
    assert judged(tmp_path, samples.files(forge), outcome) == ()


@pytest.mark.parametrize("outcome", ["indeterminate", "parse-only", "realm-only"])
def test_what_cannot_be_decided(tmp_path: Path, forge: Forge, outcome: str) -> None:
    """A record that cannot be decided is neither refused nor verified: the missing part is named."""
    quote = {"quote": forge.requote(certification_type=3)}
    assert judged(tmp_path / "a", quote, outcome) == ()
    (said,) = judged(tmp_path / "b", samples.files(forge), outcome)
    assert said.startswith("want that nothing can be decided, got AuthenticityError root_untrusted: ")


def test_a_lack_is_no_refusal(tmp_path: Path, forge: Forge) -> None:
    """An invalid record that only misses an endorsement differs: it was not refused."""
    (said,) = judged(tmp_path, {"quote": forge.requote(certification_type=3)}, "invalid")
    assert said.startswith("want refused, got UnavailableError ")


def test_either(tmp_path: Path, forge: Forge) -> None:
    """A record that its source disputes may end in either way, with one of our errors or none."""
    assert judged(tmp_path / "a", samples.files(forge), "ambiguous") == ()
    assert judged(tmp_path / "b", damaged(samples.files(forge)), "ambiguous") == ()


def test_an_unknown_outcome_differs(tmp_path: Path, forge: Forge) -> None:
    """An outcome that is not known is not passed over."""
    assert judged(tmp_path, samples.files(forge), "fine") == ("outcome 'fine' is not known",)


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_an_unknown_role_is_left_aside(tmp_path: Path, forge: Forge, outcome: str) -> None:
    """A file whose role is not known changes nothing, whatever the outcome."""
    files = samples.files(forge)
    with_it = judged(tmp_path / "a", {**files, "something": b"x"}, outcome)
    assert with_it == judged(tmp_path / "b", files, outcome)


def test_a_claim_that_differs(tmp_path: Path, forge: Forge) -> None:
    """A recorded value that the claims do not have is reported, with the expected and actual value."""
    known = {"mrenclave": "00" * 32, "isvsvn": 3, "isvprodid": 7, "debug": False}
    (said,) = judged(tmp_path, samples.files(forge), "valid-under-test-root", known=known)
    assert said.startswith(f"mrenclave: want {'00' * 32}, got sha256:")


def test_a_status_that_differs(tmp_path: Path, forge: Forge) -> None:
    """The expected status, date and advisories are compared."""
    expected = {"tcb_status": "OutOfDate", "advisory_ids": ["INTEL-SA-00001"], "debug": True}
    said = judged(tmp_path, samples.files(forge), "valid-under-test-root", expected=expected)
    assert [line.partition(":")[0] for line in said] == ["tcb_status", "advisory_ids", "debug"]


def test_no_time_is_a_time_inside_every_certificate(tmp_path: Path, forge: Forge) -> None:
    """A record without a time is verified at one inside every certificate among its files."""
    (said,) = judged(tmp_path, samples.files(forge), "valid", now=None)
    assert said.startswith("want verified, got AuthenticityError root_untrusted: ")


def test_what_no_tee_stands_behind(tmp_path: Path) -> None:
    """A machine without a TEE has nothing to verify, as its record states; a broken one differs."""
    report = hcl_report(bytes(1184), b"{}", ReportType.VBS).encode()
    assert judged(tmp_path / "a", {"hcl_report": report}, "parse-only", tee="azure") == ()
    (said,) = judged(tmp_path / "b", {"hcl_report": report[:100]}, "parse-only", tee="azure")
    assert said.startswith("want that nothing can be decided, got FormatError ")
    (said,) = judged(tmp_path / "c", {"hcl_report": report}, "indeterminate", tee="azure")
    assert said.startswith("want that nothing can be decided, got UnsupportedError ")


def test_an_empty_report_is_refused(tmp_path: Path) -> None:
    """Empty input is malformed evidence, and not a bare chain."""
    (said,) = judged(tmp_path, {"report": b""}, "valid", tee="snp")
    assert said.startswith("want verified, got UnsupportedError bad_magic: ")


def test_a_log_that_nothing_is_recorded_of(tmp_path: Path) -> None:
    """A disputed log need only be read or refused; of any other, something must be recorded."""
    data = log(event(7, EventType.SEPARATOR, bytes(4))).encode()
    for name, bytes_, outcome in (
        ("a", data, "ambiguous"),
        ("b", data[:-1], "ambiguous"),
        ("c", data[:-1], "invalid"),
    ):
        assert judged(tmp_path / name, {"event_log": bytes_}, outcome, tee="eventlog", known={}) == ()
    (said,) = judged(tmp_path / "d", {"event_log": data}, "replays", tee="eventlog", known={})
    assert said.startswith("want verified, got UsageError ")
