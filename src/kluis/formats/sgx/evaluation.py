"""Parse TCB evaluation data numbers: the TCB recoveries that Intel still publishes. Nothing here is verified.

Spec: Intel PCS API v4, "Retrieve TCB Evaluation Data Numbers" (version 1).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.sgx.tcb_info import SGX, TDX
from kluis.frozen import frozen

MAX_NUMBERS: Final = 64
_WHAT: Final = "TCB evaluation data numbers"


@frozen
class Evaluation:
    """One TCB recovery.

    Attributes:
        number: grows with every TCB recovery.
        recovery: when the recovery began; aware.
        date: when its fixed versions were published; aware.
    """

    number: int
    recovery: datetime
    date: datetime


@frozen(kw_only=True)
class Evaluations:
    """The recoveries of one TEE.

    Attributes:
        tee: ``SGX`` or ``TDX``.
        issued: aware.
        next_update: aware.
        numbers: in the signed order; at least one, no duplicates.
    """

    tee: str
    issued: datetime
    next_update: datetime
    numbers: tuple[Evaluation, ...]


def parse(signed: bytes) -> Evaluations:
    """Parse the document from the signed bytes.

    Raises:
        UnsupportedError: another version or TEE.
        FormatError: a member that is missing, repeated or of the wrong kind, or no number.
    """
    document = Members(jcs.loads(signed, _WHAT), _WHAT)
    document.version(1)
    tee = document.text("id")
    if tee not in (SGX, TDX):
        raise UnsupportedError(f"{_WHAT}.id: want {SGX} or {TDX}, got {tee!a}", code="bad_type")
    numbers = tuple(
        Evaluation(
            item.integer("tcbEvaluationDataNumber"), item.time("tcbRecoveryEventDate"), item.time("tcbDate")
        )
        for item in document.objects("tcbEvalNumbers", most=MAX_NUMBERS)
    )
    if not numbers:
        raise FormatError(f"{_WHAT}.tcbEvalNumbers: want at least 1, got 0", code="bad_length")
    if len({item.number for item in numbers}) != len(numbers):
        raise FormatError(f"{_WHAT}.tcbEvalNumbers: a number appears twice", code="duplicate_key")
    return Evaluations(
        tee=tee, issued=document.time("issueDate"), next_update=document.time("nextUpdate"), numbers=numbers
    )
