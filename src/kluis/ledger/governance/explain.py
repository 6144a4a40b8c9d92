"""What a proposal would change, found by applying it to a copy of the tables, before anybody votes.

Spec: none; CCF has no such thing.
"""

from __future__ import annotations

from typing import Final

from kluis.formats.ccf import tables
from kluis.frozen import frozen
from kluis.ledger.governance import documents
from kluis.ledger.governance.constitution import Constitution, Rules
from kluis.ledger.governance.documents import write_json
from kluis.ledger.governance.faults import ConstitutionFailed
from kluis.ledger.js import HostFault
from kluis.ledger.store import Store, Transaction

ZEROS: Final = "0" * 64


@frozen
class Change:
    """One row that a proposal would change.

    Attributes:
        table: its name.
        key: bytes.
        before: the value now; None if there is none.
        after: the value then; None if it would be removed.
    """

    table: str
    key: bytes
    before: bytes | None
    after: bytes | None


@frozen(kw_only=True)
class Explanation:
    """What a proposal comes to on the tables as they are.

    Attributes:
        invalid: why the constitution would not accept it as a proposal; None if it would.
        failure: why applying it would fail; None if it would not.
        changes: in the order of tables and keys.
        effects: what the node would do besides, a sentence each.
    """

    invalid: str | None
    failure: str | None
    changes: tuple[Change, ...]
    effects: tuple[str, ...]


def explain(store: Store, proposal: str, rules: Rules | None = None) -> Explanation:
    """Validate and apply a proposal, and tell what that changes. Nothing is committed.

    Args:
        store: the tables as they are.
        proposal: its text, JSON.
        rules: limits of scripts.

    Raises:
        ConstitutionFailed: there is no constitution, or it gives no answer.
    """
    transaction = store.begin()
    constitution = Constitution(transaction, rules or Rules())
    if (invalid := constitution.validate(proposal)) is not None:
        return Explanation(invalid=invalid, failure=None, changes=(), effects=())
    effects, failure = _Described(), None
    try:
        constitution.apply(proposal, ZEROS, effects)
    except ConstitutionFailed as error:
        failure = error.message.removeprefix(f"proposal {ZEROS}: ")
    present = store.begin()
    changes = [
        Change(table, key, before, after)
        for table, rows in sorted(transaction.writes.items())
        for key, after in sorted(rows.items())
        if (before := present.get(table, key)) != after
    ]
    return Explanation(
        invalid=None,
        failure=failure,
        changes=() if failure else tuple(changes),
        effects=() if failure else tuple(effects.lines),
    )


class _Described:
    """The node's side of a proposal that is only explained: it describes what the node would do."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def open_service(self, transaction: Transaction, previous: bytes | None, following: bytes | None) -> None:
        info = documents.service_info(transaction)
        if info["status"] in ("Open", "WaitingForRecoveryShares"):
            self.lines.append(f"the service is {info['status']} already, and stays so")
            return
        if following is None or following.decode("utf-8", "replace") != info["cert"]:
            raise HostFault("the next service identity is not that of the service")
        opens = info["status"] == "Opening"
        status = "Open" if opens else "WaitingForRecoveryShares"
        transaction.put(tables.SERVICE_INFO, tables.ONLY, write_json({**info, "status": status}))
        if opens:
            self.lines.append("the service opens: applications are served")
            self.refresh_shares(transaction)
        else:
            self.lines.append("the service waits for the recovery shares of its members")

    def rekey(self, transaction: Transaction) -> None:
        self.lines.append("the ledger secret changes from the next entry on")
        self.refresh_shares(transaction)

    def refresh_shares(self, transaction: Transaction) -> None:
        participants, owners = documents.recovery_keys(transaction)
        threshold = documents.service_config(transaction).get("recovery_threshold")
        if type(threshold) is not int or not 1 <= threshold <= len(participants):
            raise HostFault(
                f"the number of active recovery members ({len(participants)}) is less than the recovery "
                f"threshold ({threshold})"
            )
        self.lines.append(
            f"recovery shares are written for {len(participants)} participants, of whom {threshold} open "
            f"the ledger secret{f', and for {len(owners)} owners' if owners else ''}"
        )

    def endorse_node(self, request: str, valid_from: str, days: int) -> str:
        del request
        self.lines.append(f"a node's certificate is issued, valid from {valid_from} for {days} days")
        return "(a certificate that the service would issue)"

    def renew_service(self, valid_from: str, days: int) -> str:
        self.lines.append(f"the service's certificate is made again, valid from {valid_from} for {days} days")
        return "(a certificate that the service would make)"

    def secret_version(self) -> int:
        return 0

    def close_chunk(self) -> None:
        self.lines.append("the present chunk of the ledger ends")

    def snapshot(self) -> None:
        self.lines.append("a node of CCF takes a snapshot; a node of Kluis refuses the proposal")

    def version(self, table: str, key: bytes) -> int | None:
        del table, key
        return None
