"""TCB evaluation data numbers: which TCB recoveries are still published."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.sgx import evaluation
from kluis.formats.sgx.evaluation import Evaluation
from tests.strategies import PROPERTY, mutations

GOOD: dict[str, Any] = {
    "id": "TDX",
    "version": 1,
    "issueDate": "2026-06-01T00:00:00Z",
    "nextUpdate": "2026-07-01T00:00:00Z",
    "tcbEvalNumbers": [
        {
            "tcbEvaluationDataNumber": number,
            "tcbRecoveryEventDate": f"202{number - 15}-02-11T00:00:00Z",
            "tcbDate": f"202{number - 15}-02-12T00:00:00Z",
        }
        for number in (20, 19)
    ],
}
DATA = json.dumps(GOOD).encode()


def test_fields() -> None:
    """Each recovery has a number and two dates."""
    read = evaluation.parse(DATA)
    assert (read.tee, read.issued) == ("TDX", datetime(2026, 6, 1, tzinfo=UTC))
    assert read.numbers[0] == Evaluation(
        20, datetime(2025, 2, 11, tzinfo=UTC), datetime(2025, 2, 12, tzinfo=UTC)
    )
    assert [each.number for each in read.numbers] == [20, 19]


def _changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(DATA)
    change(document)
    return json.dumps(document).encode()


REFUSED = {
    "version": (_changed(lambda d: d.update(version=2)), ".version: want one of [1], got 2"),
    "TEE": (_changed(lambda d: d.update(id="SNP")), ".id: want SGX or TDX, got 'SNP'"),
    "none": (_changed(lambda d: d.update(tcbEvalNumbers=[])), ".tcbEvalNumbers: want at least 1, got 0"),
    "twice": (
        _changed(lambda d: d["tcbEvalNumbers"].append(d["tcbEvalNumbers"][0])),
        ".tcbEvalNumbers: a number appears twice",
    ),
    "key twice": (DATA.replace(b'"id"', b'"version": 1, "id"'), ": key 'version' appears twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Each failure names the member."""
    data, message = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        evaluation.parse(data)
    assert str(caught.value) == f"TCB evaluation data numbers{message}"


@PROPERTY
@given(mutations(DATA))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the reader."""
    try:
        evaluation.parse(data)
    except KluisError:
        return
