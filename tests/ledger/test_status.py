"""Status of transaction ids, and views."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import UsageError
from kluis.formats.ccf.txid import TxId
from kluis.ledger.status import Status, Views, status_of
from tests.strategies import PROPERTY

C, I, P, U = Status.COMMITTED, Status.INVALID, Status.PENDING, Status.UNKNOWN  # noqa: E741


@pytest.mark.parametrize(
    ("txid", "local_view", "committed", "status"),
    [
        (TxId(2, 5), 2, TxId(2, 5), C),
        (TxId(2, 5), 2, TxId(4, 9), C),
        (TxId(2, 5), 4, TxId(4, 9), I),
        (TxId(3, 5), 2, TxId(2, 5), I),
        (TxId(2, 6), 2, TxId(2, 5), P),
        (TxId(2, 6), 0, TxId(2, 5), U),
        (TxId(3, 6), 2, TxId(2, 5), U),
        (TxId(2, 6), 4, TxId(2, 5), U),
        (TxId(2, 6), 4, TxId(4, 5), I),
        (TxId(9, 99), 0, TxId(2, 5), U),
    ],
)
def test_rule(txid: TxId, local_view: int, committed: TxId, status: Status) -> None:
    """The rule of CCF."""
    assert status_of(txid, local_view, committed) is status


@given(
    st.lists(st.sampled_from(["add", "commit", "elect"]), max_size=30), st.integers(2, 6), st.integers(1, 12)
)
@PROPERTY
def test_final(steps: list[str], view: int, seqno: int) -> None:
    """However a ledger goes on, ``Committed`` and ``Invalid`` never change."""
    local: list[int] = []
    committed, now, final = TxId(0, 0), 2, None
    for step in steps:
        if step == "add":
            local.append(now)
        elif step == "commit" and local:
            committed = TxId(local[-1], len(local))
        elif step == "elect":
            del local[committed.seqno :]
            now += 1
        status = status_of(TxId(view, seqno), local[seqno - 1] if seqno <= len(local) else 0, committed)
        assert final is None or status is final
        if status in (C, I):
            final = status


def test_views() -> None:
    """An entry is of the latest view that began at it or before."""
    views = Views([TxId(2, 1), TxId(4, 10), TxId(5, 11)])
    assert [views.of(seqno) for seqno in (0, 1, 9, 10, 11, 99)] == [0, 2, 2, 4, 5, 5]
    for wrong in itertools.product((5, 4), (12,)):
        with pytest.raises(UsageError):
            views.begin(TxId(*wrong))
    with pytest.raises(UsageError):
        views.begin(TxId(6, 11))
