"""TCB evaluation: first level reached, and the worse of platform and quoting enclave."""

from __future__ import annotations

import pytest

from kluis.evidence import TcbStatus
from kluis.evidence.intel import tcb

S = TcbStatus

CONVERGED = {
    (S.UP_TO_DATE, S.UP_TO_DATE): S.UP_TO_DATE,
    (S.SW_HARDENING_NEEDED, S.UP_TO_DATE): S.SW_HARDENING_NEEDED,
    (S.UP_TO_DATE, S.OUT_OF_DATE): S.OUT_OF_DATE,
    (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE,
    (S.CONFIGURATION_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    (S.CONFIGURATION_AND_SW_HARDENING_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    (S.OUT_OF_DATE_CONFIGURATION_NEEDED, S.OUT_OF_DATE): S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    (S.OUT_OF_DATE, S.OUT_OF_DATE): S.OUT_OF_DATE,
    (S.UP_TO_DATE, S.REVOKED): S.REVOKED,
    (S.REVOKED, S.UP_TO_DATE): S.REVOKED,
    (S.REVOKED, S.NOT_SUPPORTED): S.NOT_SUPPORTED,
    (S.UP_TO_DATE, S.NOT_SUPPORTED): S.NOT_SUPPORTED,
    (S.NOT_SUPPORTED, S.UP_TO_DATE): S.NOT_SUPPORTED,
    (S.UP_TO_DATE, S.SW_HARDENING_NEEDED): S.SW_HARDENING_NEEDED,
    (S.OUT_OF_DATE, S.CONFIGURATION_NEEDED): S.OUT_OF_DATE,
}


@pytest.mark.parametrize("both", CONVERGED, ids=lambda both: f"{both[0]}+{both[1]}")
def test_converge(both: tuple[TcbStatus, TcbStatus]) -> None:
    """The status of both is as Intel's verifier converges them."""
    assert tcb.converge(*both) is CONVERGED[both]


@pytest.mark.parametrize("platform", TcbStatus)
@pytest.mark.parametrize("quoting", TcbStatus)
def test_converging_never_improves(platform: TcbStatus, quoting: TcbStatus) -> None:
    """Whatever both are, the result is no better than the platform's."""
    order = list(TcbStatus)
    assert order.index(tcb.converge(platform, quoting)) <= order.index(platform)


def test_worst_first() -> None:
    """The enum starts at its worst member and ends at its best."""
    assert next(iter(TcbStatus)) is S.NOT_SUPPORTED
    assert list(TcbStatus)[-1] is S.UP_TO_DATE
