"""Transaction ids."""

from __future__ import annotations

import pytest

from kluis.errors import FormatError
from kluis.formats.ccf.txid import MAX_SEQNO, MAX_VIEW, TxId


@pytest.mark.parametrize("text", ["0.0", "2.17", f"{MAX_VIEW}.{MAX_SEQNO}"])
def test_read_and_written(text: str) -> None:
    """An id is written as it was read."""
    assert str(TxId.parse(text)) == text
    assert TxId.parse("2.17") == TxId(2, 17) == (2, 17)


@pytest.mark.parametrize(
    "text",
    [
        "", "2", "2.", ".17", "2.17.1", "02.17", "2.017", "-2.17", "2.17 ", "2.17\n", "+2.17", "²2.17",
        "2,17", f"{MAX_VIEW + 1}.1", f"2.{MAX_SEQNO + 1}", "9" * 100 + ".1",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    """Another form, or a number that no entry has, is refused."""
    with pytest.raises(FormatError) as caught:
        TxId.parse(text)
    assert str(caught.value) == f"transaction id: want VIEW.SEQNO, got {text!a:.60}"
