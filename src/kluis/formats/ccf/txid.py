"""Transaction ids: ``VIEW.SEQNO``, both decimal.

Spec: CCF, "Transaction ID".
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

from kluis.errors import FormatError

HEADER: Final = "x-ms-ccf-transaction-id"
"""Of an answer over HTTP: the transaction that was written, or whose state was read."""
MAX_VIEW: Final = (1 << 31) - 1
MAX_SEQNO: Final = (1 << 63) - 1
_TEXT: Final = re.compile(r"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,18})")


class TxId(NamedTuple):
    """One entry: its view, and its place in the ledger, from 1 on."""

    view: int
    seqno: int

    @classmethod
    def parse(cls, text: str, what: str = "transaction id") -> Self:
        """Read an id.

        Raises:
            FormatError: another form, or numbers that no entry has.
        """
        match = _TEXT.fullmatch(text)
        view, seqno = (int(match[1]), int(match[2])) if match else (-1, 0)
        if not (0 <= view <= MAX_VIEW and seqno <= MAX_SEQNO):
            raise FormatError(f"{what}: want VIEW.SEQNO, got {text[:60]!a:.60}", code="bad_encoding")
        return cls(view, seqno)

    def __str__(self) -> str:
        return f"{self.view}.{self.seqno}"
