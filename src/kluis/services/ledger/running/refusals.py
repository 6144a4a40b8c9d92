"""Refusals of the engine: nothing was written, or it is not known whether something was."""

from __future__ import annotations

from kluis.formats.ccf.txid import HEADER, TxId
from kluis.services.web import Refusal


def busy(why: str) -> Refusal:
    """Nothing was written; the same request may succeed later."""
    return Refusal(503, "ServiceUnavailable", f"ledger: {why}", headers={"Retry-After": "1"})


def not_open() -> Refusal:
    """The members have not opened the service for its users yet."""
    return Refusal(404, "FrontendNotOpen", "Frontend is not open.")


def too_large(size: int, most: int) -> Refusal:
    """Nothing was written: a transaction of ``size`` bytes, and ``most`` are allowed."""
    return Refusal(
        413,
        "EntryTooLarge",
        f"ledger: a transaction writes {size} bytes, must be at most {most}; nothing was written",
    )


def rolled_back(txid: TxId | None) -> Refusal:
    """The transaction had an id, and will never be committed."""
    return Refusal(
        503,
        "TransactionRolledBack",
        "The transaction could not be committed and was rolled back, please retry.",
        headers=_id(txid),
    )


def unknown(txid: TxId | None) -> Refusal:
    """The transaction may be committed or not. Not 503, after which clients of Azure write it again."""
    return Refusal(
        502,
        "TransactionOutcomeUnknown",
        "ledger: the log did not answer; the transaction's id settles as Committed or Invalid",
        headers=_id(txid),
        hint=f"query the status of {HEADER}",
    )


def _id(txid: TxId | None) -> dict[str, str]:
    return {} if txid is None else {HEADER: str(txid)}
