"""Transactions that are named by a client: whether they are committed, and what they wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kluis.errors import FormatError
from kluis.formats.ccf.domain import Writes
from kluis.formats.ccf.txid import TxId
from kluis.ledger.log_head import MOST_READ
from kluis.ledger.status import Status
from kluis.services.ledger.running.log import HostLog, Part, read_entries
from kluis.services.ledger.running.state import Ledger
from kluis.services.web import Refusal


def parse_txid(text: str, what: str = "transaction id") -> TxId:
    """Parse the transaction id that a client sent.

    Raises:
        Refusal: 400, it is malformed.
    """
    try:
        return TxId.parse(text, what)
    except FormatError:
        raise Refusal(400, "InvalidTransactionId", f"{what}: want VIEW.SEQNO, got {text[:60]!a}") from None


def find_committed(ledger: Ledger, text: str) -> TxId:
    """A committed transaction that a client names.

    Raises:
        Refusal: 400, it is no id; 404, it is not committed, or never will be.
    """
    txid = parse_txid(text)
    status = ledger.status(txid)
    if status is Status.COMMITTED and txid.seqno:
        return txid
    if status is Status.INVALID or not txid.seqno:
        raise Refusal(404, "TransactionInvalid", f"Transaction {txid} is not valid.")
    raise Refusal(
        404,
        "TransactionPendingOrUnknown",
        f"Transaction {txid} is not available.",
        headers={"cache-control": "no-cache"},
    )


def read_many(ledger: Ledger, log: HostLog, seqnos: Iterable[int]) -> Iterator[tuple[int, Writes, Part]]:
    """Read committed entries, and what they wrote with their private tables; may wait for the host.

    Args:
        ledger: has their leaves and secrets.
        log: the host's.
        seqnos: rising.

    Raises:
        UnavailableError: the host does not give one.
        AuthenticityError: it gives another.
    """
    first, entries = 0, list[bytes]()
    wanted = list(seqnos)
    span = wanted[-1] - wanted[0] + 1 if wanted else 0
    for seqno in wanted:
        if not first <= seqno < first + len(entries):
            first, entries = seqno, read_entries(log, seqno, MOST_READ if span <= 4 * len(wanted) else 0)
        part = Part.check(entries[seqno - first], seqno, ledger.tree)
        yield seqno, ledger.writes_of(part), part
