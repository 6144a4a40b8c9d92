"""SQL statements, compiled once in a process for a dialect by SQLAlchemy and run directly on its driver.

A read is one statement, so that it sees one snapshot and costs one round trip. It returns the store's row,
the journal after an epoch, and records by id, distinguished by their first column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Dialect,
    Integer,
    LargeBinary,
    Table,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from kluis.enclave.store.records import MAX_ANSWER_BYTES, MAX_ENTRIES, MAX_IDS, MAX_LABELS
from kluis.serve.store.schema import JOURNAL, KEYS, MESSAGES, RECORDS, STORES

STORE, ENTRY, ROW = 0, 1, 2
MOST_MESSAGES: Final = 256
SIZES: Final = (0, 1, 16, MAX_IDS)
"""Numbers of ids with a prepared statement; a repeated id fills the rest."""

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]


class Statement:
    """One statement in the driver's form.

    Attributes:
        text: SQL with the driver's placeholders.
    """

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self._order: list[str] | None = getattr(compiled, "positiontup", None)
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}

    def bind(self, **values: Any) -> Parameters:
        """Arrange values in the driver's form."""
        parameters = self._fixed | values
        return parameters if self._order is None else [parameters[name] for name in self._order]


class Statements:
    """All statements for one dialect.

    Args:
        dialect: SQLite's or PostgreSQL's.
    """

    def __init__(self, dialect: Dialect) -> None:
        def prepare(statement: ClauseElement) -> Statement:
            return Statement(statement, dialect)

        insertion = _insert(dialect, RECORDS, "store", "id", "version", "label", "value")
        self.enter_store = prepare(
            _insert(dialect, STORES, "name", "epoch", "head").on_conflict_do_nothing(index_elements=["name"])
        )
        self.find_store = prepare(select(STORES.c.id).where(STORES.c.name == bindparam("name")))
        self.head = prepare(
            update(STORES)
            .where(STORES.c.id == bindparam("store"), STORES.c.epoch == bindparam("before"))
            .values(epoch=bindparam("now"), head=bindparam("sealed"))
        )
        self.entry = prepare(_insert(dialect, JOURNAL, "store", "epoch", "entry"))
        self.put = prepare(
            insertion.on_conflict_do_update(
                index_elements=["store", "id"],
                set_={name: insertion.excluded[name] for name in ("version", "label", "value")},
            )
        )
        self.delete = prepare(_where(delete(RECORDS), RECORDS, "store", "id"))
        self.prune = prepare(
            _where(delete(JOURNAL), JOURNAL, "store").where(JOURNAL.c.epoch <= bindparam("until"))
        )
        self.survey = prepare(
            _where(select(RECORDS.c.id, RECORDS.c.version, RECORDS.c.label), RECORDS, "store")
            .where(RECORDS.c.id > bindparam("after"))
            .order_by(RECORDS.c.id)
            .limit(MAX_LABELS)
        )
        self.hold = prepare(
            update(STORES).where(STORES.c.id == bindparam("store")).values(epoch=STORES.c.epoch)
        )
        self.find_key = prepare(_where(select(KEYS.c.sealed), KEYS, "store", "platform"))
        self.any_key = prepare(_where(select(KEYS.c.platform), KEYS, "store").limit(1))
        self.keep_key = prepare(
            _insert(dialect, KEYS, "store", "platform", "sealed").on_conflict_do_nothing(
                index_elements=["store", "platform"]
            )
        )
        self.stagings = prepare(select(STORES.c.id).where(STORES.c.name.like(bindparam("like"))))
        self.wipe = {
            table.name: prepare(_where(delete(table), table, "store"))
            for table in (RECORDS, JOURNAL, KEYS, MESSAGES)
        }
        self.forget_store = prepare(delete(STORES).where(STORES.c.id == bindparam("store")))
        self.move = prepare(
            update(RECORDS).where(RECORDS.c.store == bindparam("staging")).values(store=bindparam("into"))
        )
        messages = _insert(dialect, MESSAGES, "store", "joiner", "step", "body")
        self.post = prepare(
            messages.on_conflict_do_update(
                index_elements=["store", "joiner", "step"], set_={"body": messages.excluded["body"]}
            )
        )
        self.messages = prepare(
            _where(select(MESSAGES.c.joiner, MESSAGES.c.body), MESSAGES, "store", "step").limit(MOST_MESSAGES)
        )
        self.message = prepare(_where(select(MESSAGES.c.body), MESSAGES, "store", "joiner", "step"))
        self.forget_message = prepare(_where(delete(MESSAGES), MESSAGES, "store", "joiner", "step"))
        self.forget_messages = prepare(_where(delete(MESSAGES), MESSAGES, "store", "joiner"))
        self._reads = {size: prepare(_read(size)) for size in SIZES}

    def read(self, ids: Sequence[bytes], store: int, known: int) -> tuple[str, Parameters]:
        """The statement that reads ``ids``, and its parameters."""
        size = next(size for size in SIZES if size >= len(ids))
        filled = {f"id{at}": ids[min(at, len(ids) - 1)] for at in range(size)}
        statement = self._reads[size]
        return statement.text, statement.bind(store=store, known=known, **filled)


def statements_for(dialect: Dialect) -> Statements:
    """The statements for a dialect that has not connected yet, compiled for its first database."""
    kind = (dialect.name, dialect.driver, dialect.paramstyle)
    if kind not in _COMPILED:
        _COMPILED[kind] = Statements(dialect)
    return _COMPILED[kind]


_COMPILED: Final[dict[tuple[str, str, str], Statements]] = {}


def _insert(dialect: Dialect, table: Table, *names: str) -> Any:
    make = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    return make(table).values({name: bindparam(name) for name in names})


def _where(statement: Any, table: Table, *names: str) -> Any:
    return statement.where(*(table.c[name] == bindparam(name) for name in names))


def _read(size: int) -> ClauseElement:
    nothing = cast(null(), LargeBinary)
    store = select(_kind(STORE), STORES.c.epoch, STORES.c.head, nothing, nothing)
    newer = (
        _where(select(JOURNAL.c.epoch, JOURNAL.c.entry), JOURNAL, "store")
        .where(JOURNAL.c.epoch > bindparam("known"))
        .order_by(JOURNAL.c.epoch)
        .limit(MAX_ENTRIES)
    )
    entries = _limit_rows(newer.subquery(), "epoch", "entry")
    parts = [
        store.where(STORES.c.id == bindparam("store")),
        select(_kind(ENTRY), entries.c.epoch, entries.c.entry, nothing, nothing),
    ]
    if size:
        selection = _where(select(RECORDS.c.id, RECORDS.c.version, RECORDS.c.value), RECORDS, "store")
        if size == 1:
            rows: Any = selection.where(RECORDS.c.id == bindparam("id0")).subquery()
        else:
            ids: list[Any] = [bindparam(f"id{at}") for at in range(size)]
            rows = _limit_rows(selection.where(RECORDS.c.id.in_(ids)).subquery(), "id", "value")
        parts.append(select(_kind(ROW), literal_column("0"), rows.c.id, rows.c.version, rows.c.value))
    return union_all(*parts)


def _kind(kind: int) -> ColumnElement[int]:
    return literal_column(str(kind), Integer)


def _limit_rows(rows: Any, order: str, sized: str) -> Any:
    """Rows in order, up to ``MAX_ANSWER_BYTES``; at least one."""
    size = func.length(rows.c[sized])
    summed = select(rows, (func.sum(size).over(order_by=rows.c[order]) - size).label("before")).subquery()
    return select(summed).where(summed.c.before < MAX_ANSWER_BYTES).subquery()
