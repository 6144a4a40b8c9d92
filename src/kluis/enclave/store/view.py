"""The view: an instance's state of the store, updated from the journal, and checks on every read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kluis.enclave.attester import nothing
from kluis.enclave.store.cipher import Cipher, epoch_of
from kluis.enclave.store.directory import Name
from kluis.enclave.store.host import Host
from kluis.enclave.store.records import KEPT_EPOCHS, MAX_IDS, StoreAnswer, StoreCommit, StoreRow
from kluis.enclave.store.row_cache import Remembered
from kluis.enclave.store.survey import follow, forked_history, set_back, survey
from kluis.enclave.store.transaction import Transaction
from kluis.enclave.store.witness import OVER, Witness, Witnessed
from kluis.errors import AuthenticityError, UnavailableError

TRIES: Final = 64


class View:
    """One instance's state of the store. Thread-safe.

    Args:
        host: stores the records.
        cipher: has the store's key.
        witness: None: an instance that starts after a complete rollback does not detect it.

    Attributes:
        lock: guards :attr:`directory`.
        directory: as of the last commit seen.
    """

    def __init__(self, host: Host, cipher: Cipher, witness: Witness | None) -> None:
        self._host = host
        self._cipher = cipher
        self._witness = witness
        self._surveying = threading.Lock()
        self._remembered = Remembered()
        self.lock = threading.Lock()
        witnessed = self._read_witness()
        self.directory = survey(host, cipher, witnessed)
        if witnessed is not None:
            self.vouch(witnessed)

    def read(self, names: list[Name]) -> tuple[dict[Name, bytes], int]:
        """Values of the existing ones of ``names``, and the epoch from which on they are right.

        Args:
            names: at most ``MAX_IDS``, all different.

        Raises:
            AuthenticityError: a record is changed, older, hidden, or was deleted; or the store is rolled
                back.
            UnavailableError: the host does not answer, or others write faster than it answers.
        """
        ids = {name: self._cipher.id(*name) for name in names}
        values: dict[Name, bytes] = {}
        since: int | None = None
        for _ in range(TRIES):
            answer = self.ask([ids[name] for name in names if name not in values])
            rows = {row.id: row for row in answer.rows}
            with self.lock:
                epoch = self.directory.epoch
                entries = {name: self.directory.find(name) for name in names if name not in values}
            since = epoch if since is None else since
            late = answer.epoch < epoch  # another thread has seen a later commit by now
            progress = False
            left: list[Name] = []
            for name, known in entries.items():
                row = rows.get(ids[name])
                if known is not None and row is not None and row.version == known.version:
                    values[name] = self._cipher.open_value(row.id, row.version, row.value)
                    progress = True
                    with self.lock:
                        self._remembered.keep(name, row.version, row.value)
                elif known is not None and (late or row is None):
                    left.append(name)
                elif not late and row is not None:
                    raise _wrong(row, known.version if known else None)
            if not left:
                return values, since
            if not late and not progress:
                raise AuthenticityError(
                    "store: record: want one, got none", hint="the host hides it", code="store_record"
                )
        raise UnavailableError("store: others write faster than the host answers", code="store_busy")

    def recall(self, names: list[Name]) -> tuple[dict[Name, bytes], int] | None:
        """Like :meth:`read`, without a request to the host: right as of the epoch, but there may be later
        ones.

        Returns:
            None if not every one of these rows is cached.
        """
        values: dict[Name, bytes] = {}
        with self.lock:
            if not self.directory.whole:
                return None
            for name in names:
                known = self.directory.find(name)
                if known is None:
                    continue
                sealed = self._remembered.row(name, known.version)
                if sealed is None:
                    return None
                values[name] = self._cipher.open_value(self._cipher.id(*name), known.version, sealed)
            return values, self.directory.epoch

    def proves(self, transaction: Transaction) -> bool:
        """Whether ``transaction``'s reads are still right; queries the host if they were cached.

        Raises:
            AuthenticityError, UnavailableError: as for :meth:`ask`.
        """
        if transaction.recalled:
            self.ask([])
        return not self.conflicts_with(transaction)

    def wrote(self, commit: StoreCommit, names: Iterable[Name]) -> None:
        """Cache the rows of a successful commit with these names, in its order."""
        with self.lock:
            for name, put in zip(names, commit.puts, strict=True):
                self._remembered.keep(name, commit.version, put.value)

    def names(self, table: str, index: str, after: str = "") -> tuple[list[Name], Mapping[Name, bytes], int]:
        """The names of a table or index in order, the values of the first of them, and the epoch of both.

        Args:
            table: to list.
            index: "" is all.
            after: only keys that come after it.
        """
        with self.lock:
            guessed = [Name(table, key) for key in self.directory.keys(table, index, after)[:MAX_IDS]]
        values, epoch = self.read(guessed)
        with self.lock:
            names = [Name(table, key) for key in self.directory.keys(table, index, after)]
        return names, values, epoch

    def conflicts_with(self, transaction: Transaction) -> bool:
        """Whether something that ``transaction`` has read was changed since."""
        with self.lock:
            return transaction.touched_by(self.directory)

    def ask(self, ids: list[bytes]) -> StoreAnswer:
        """Request rows from the host, and apply its newer commits; the witness is queried first.

        Raises:
            AuthenticityError: the host's history differs from the known one, or is older.
            UnavailableError: it does not answer.
        """
        witnessed = self._read_witness()
        with self.lock:
            known, whole = self.directory.epoch, self.directory.whole
        if not whole:
            self._survey_again()
        answer = self._host.read(ids, known)
        if answer.epoch > known or answer.entries:
            self._follow(answer, known)
        elif answer.epoch < known:
            raise set_back(known, answer.epoch)
        if witnessed is not None:
            self.vouch(witnessed)
        return answer

    def vouch(self, witnessed: Witnessed, meanwhile: Callable[[], None] = nothing) -> None:
        """Compare the witness's record with the known history, and update it with newer commits.

        Args:
            witnessed: its record.
            meanwhile: runs while it is updated; must not raise.

        Raises:
            AuthenticityError: its record is later than the host's last commit, or differs.
        """
        mine = self.last()
        with self.lock:
            theirs = self.directory.chain_at(witnessed.epoch)
        if witnessed.epoch > mine.epoch:
            raise set_back(witnessed.epoch, mine.epoch)
        if witnessed.epoch and theirs not in {None, witnessed.chain}:
            raise forked_history(witnessed.epoch)
        if self._witness is not None and mine.epoch > witnessed.epoch:
            now = self._witness.advance(mine, meanwhile)
            if now.epoch == mine.epoch and now.chain != mine.chain:
                raise forked_history(mine.epoch)
            if now.epoch > mine.epoch:
                self.ask([])  # another instance is further, with this commit in its history or not

    def vouch_mine(self, meanwhile: Callable[[], None]) -> None:
        """Update the witness with the last known commit; as :meth:`vouch`."""
        if self._witness is not None:
            self.vouch(Witnessed(0, b""), meanwhile)

    def holds(self, name: Name, index: str) -> bool:
        """Whether a record has this name, and ``index`` unless that is empty."""
        with self.lock:
            known = self.directory.find(name)
        return known is not None and (not index or known.index == index)

    def _read_witness(self) -> Witnessed | None:
        witnessed = None if self._witness is None else self._witness.read()
        if witnessed is not None and witnessed.epoch == OVER:
            raise AuthenticityError(
                "store: was sealed under another key since",
                hint="restart this instance; one that has just started was given an older store, and its key",
                code="store_rekeyed",
            )
        return witnessed

    def _follow(self, answer: StoreAnswer, known: int) -> None:
        target = answer.epoch
        while True:
            if answer.epoch < known:
                raise set_back(known, answer.epoch)
            if not answer.entries and answer.epoch - known >= KEPT_EPOCHS:
                self._survey_again()
                self._check_reached(target)
            else:
                with self.lock:
                    follow(self.directory, answer, known)
            with self.lock:
                known = self.directory.epoch
            if known >= target:
                return
            answer = self._host.read([], known)

    def _check_reached(self, epoch: int) -> None:
        """Check that a host that announced a commit also returns it."""
        with self.lock:
            known = self.directory.epoch
        if known < epoch:
            raise set_back(epoch, known)

    def last(self) -> Witnessed:
        """The last known commit, for another instance to compare its host's answers with."""
        with self.lock:
            return Witnessed(self.directory.epoch, self.directory.chain)

    def _survey_again(self) -> None:
        """Survey again: this instance is older than the host's journal."""
        with self._surveying:
            fresh = survey(self._host, self._cipher, self._read_witness())
            with self.lock:
                if fresh.epoch < self.directory.epoch:
                    raise set_back(self.directory.epoch, fresh.epoch)
                self.directory = fresh


def _wrong(row: StoreRow, want: bytes | None) -> AuthenticityError:
    got = epoch_of(row.version)
    if want is None:
        return AuthenticityError(
            f"store: record of epoch {got}: was deleted since",
            hint="the host brought it back",
            code="store_record",
        )
    return AuthenticityError(
        f"store: record: want the one of epoch {epoch_of(want)}, got epoch {got}",
        hint="the host gives an older record, or another store's",
        code="store_record",
    )
