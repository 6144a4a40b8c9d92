"""Every error class: whose fault, which exit code, which HTTP status, and a row in the reference."""

from __future__ import annotations

import traceback

import pytest

from kluis.errors import MOST_CHARACTERS, KluisError
from scripts import reference

CODES = {2, 3, 4, 5, 6, 7, 70}
STATUSES = {400, 401, 403, 404, 409, 422, 500, 502, 503, 504}
CLASSES = reference.error_classes()


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_has_a_code_an_exit_code_and_a_status(one: type[KluisError]) -> None:
    """Every class has a snake_case code, an exit code of the eight, and a status."""
    assert one.code == one.code.lower().replace("-", "_").replace(" ", "_")
    assert one.exit_code in CODES
    assert one.http_status in STATUSES


def test_no_subclass_ends_otherwise_than_its_kind() -> None:
    """A finer class keeps the exit code of the kind it refines."""
    for one in CLASSES:
        kind = next((base for base in one.__bases__ if issubclass(base, KluisError)), KluisError)
        if kind is not KluisError:
            assert one.exit_code == kind.exit_code, one.__name__


def test_the_reference_is_what_the_program_says() -> None:
    """docs/reference/errors.md has a row for every class, with its code, exit code and status."""
    assert (reference.REFERENCE / "errors.md").read_text() == reference.errors()


def test_a_message_is_bounded() -> None:
    """What is wrong with very long input is told by its beginning and its end."""
    long = "it: got " + "a" * (1 << 20) + ", want b"
    for told in (KluisError(long).message, str(KluisError(long))):
        assert len(told) < MOST_CHARACTERS
        assert told.startswith("it: got aaa")
        assert told.endswith("aaa, want b")
        assert "a .. a" in told
    whole = "a" * MOST_CHARACTERS
    assert KluisError(whole).message == whole


def test_a_traceback_tells_the_hint() -> None:
    """Whoever runs a script sees what mends it, and once."""
    try:
        raise KluisError("quote: want 48 bytes, got 3", hint="kluis inspect QUOTE")
    except KluisError as error:
        shown = "".join(traceback.format_exception(error))
    assert shown.endswith("kluis.errors.KluisError: quote: want 48 bytes, got 3\nhint: kluis inspect QUOTE\n")
    assert "hint" not in "".join(traceback.format_exception(KluisError("nothing mends it")))
