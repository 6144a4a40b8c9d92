"""TCB baselines: the minimum state of Intel's platforms that an SGX policy can require.

A baseline is one of Intel's TCB recoveries, identified by its evaluation data number. A platform meets it if
its TCB level is of the recovery's date or later, whatever was published since. Spec: Microsoft Azure
Attestation, "Custom TCB baseline enforcement".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from kluis.evidence import Claims
from kluis.services.attestation.faults import InvalidEvidence, InvalidParameter

PROPERTY: Final = "x-ms-sgx-tcbidentifier"
DEFAULT: Final = "azuredefault"


class Baseline(NamedTuple):
    """One baseline.

    Attributes:
        number: Intel's evaluation data number.
        release: of the recovery.
        psw_linux: least version of Intel's platform software.
        psw_windows: least version of Intel's platform software; empty if it is not documented.
    """

    number: int
    release: datetime
    psw_linux: str
    psw_windows: str


_ALL: Final = tuple(
    Baseline(number, datetime.fromisoformat(day).replace(tzinfo=UTC), linux, windows)
    for number, day, linux, windows in (
        (10, "2020-11-10", "2.9", ""),
        (11, "2021-06-08", "2.13.3", "2.13.100.2"),
        (12, "2021-11-10", "2.13.3", ""),
        (13, "2022-08-09", "2.17", ""),
        (14, "2022-11-08", "2.17", ""),
        (15, "2023-02-14", "2.17", ""),
    )
)
_BY_NAME: Final = {str(each.number): each for each in _ALL} | {DEFAULT: _ALL[0]}


def baseline(value: object) -> Baseline:
    """The baseline that a policy names.

    Raises:
        InvalidParameter: no baseline has this name.
    """
    selected = _BY_NAME.get(str(value).lower())
    if selected is None:
        raise InvalidParameter(
            f"{PROPERTY}: want one of {', '.join(map(repr, _BY_NAME))}, got {str(value)[:40]!a}"
        )
    return selected


def check(claims: Claims, wanted: Baseline) -> None:
    """Refuse a platform that is older than the baseline.

    Raises:
        InvalidEvidence: code ``tcb_baseline``.
    """
    date = claims.tcb.date
    if date is not None and date >= wanted.release:
        return
    got = "none" if date is None else f"{date:%Y-%m-%d}"
    raise InvalidEvidence(
        "The specified quote was invalid because the device on which the quote was generated does not meet "
        f"the Azure baseline requirements: TCB: want one of {wanted.release:%Y-%m-%d} or later "
        f"(baseline {wanted.number}), got {got}",
        hint="update the platform's firmware and microcode",
        code="tcb_baseline",
    )


def list_baselines(selected: Baseline) -> list[dict[str, Any]]:
    """All baselines, newest first, in the service's list format.

    Args:
        selected: by the instance's policy.
    """
    return [
        {
            "tcbIdentifier": str(each.number),
            "tcbEvaluationDataNumber": each.number,
            "tcbReleaseDate": each.release.strftime("%Y-%m-%dT%H:%M:%S"),
            "minimumPswLinuxVersion": each.psw_linux,
            **({"minimumPswWindowsVersion": each.psw_windows} if each.psw_windows else {}),
            "isSelectedTcb": each == selected,
        }
        for each in reversed(_ALL)
    ]
