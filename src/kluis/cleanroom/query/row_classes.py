"""Row classes: which of a person's rows meet the conditions of an inner query.

A reduced value comes from the rows of a person that meet a condition. Whether there are such rows depends on
each comparison in the condition. So a person's class records, for each set of these comparisons, whether one
row meets all of the set. It is one whole number, with a bit for each set.
"""

from __future__ import annotations

from kluis.cleanroom.query.tree import (
    All,
    Any,
    Bins,
    Condition,
    Groups,
    Not,
    PersonTable,
    QueryError,
    columns_of,
)
from kluis.frozen import frozen

MOST_LITERALS = 6  # 2^6 sets are 64 bits


@frozen
class RowClass:
    """The comparisons that determine the rows of a source from which a value is computed.

    Attributes:
        source: number of the source.
        literals: comparisons and negated comparisons. The condition only becomes true by more of them being
            true, so nothing else in the rows matters.
    """

    source: int
    literals: tuple[Condition, ...]

    def subsets(self) -> tuple[int, ...]:
        """For each set of literals that one row meets, the sets that are part of it, one bit each."""
        sets = range(1 << len(self.literals))
        return tuple(sum(1 << part for part in sets if part & met == part) for met in sets)


def row_classes(question: Groups | PersonTable) -> tuple[RowClass, ...]:
    """The row classes of a query: of its sources' conditions, and of each value that something depends on."""
    columns = list(columns_of(*question.atoms))
    if isinstance(question, Groups):
        columns += [
            *question.values,
            *(each.column if isinstance(each, Bins) else each for each in question.keys),
        ]
    used = {(each.table, each.name) for each in columns}
    classes: dict[RowClass, None] = {}
    for number, source in enumerate(question.persons.sources):
        conditions = [source.where]
        for place, value in enumerate(source.reduced or ()):
            if (f"s{number}", f"v{place}") in used:
                conditions.append(All((source.where, value.where)))
        for each in conditions:
            literals = literals_of(each)
            if literals:
                classes[RowClass(number, literals)] = None
    return tuple(classes)


def check_literals(condition: Condition) -> None:
    """Refuse a condition on rows with too many comparisons.

    Raises:
        QueryError: it has more than ``MOST_LITERALS``.
    """
    count = len(literals_of(condition))
    if count > MOST_LITERALS:
        raise QueryError(
            f"query: want at most {MOST_LITERALS} different comparisons on rows, got {count}",
            hint="reduce each value in a separate analysis",
            code="query_form",
        )


def literals_of(condition: Condition, *, negated: bool = False) -> tuple[Condition, ...]:
    """The comparisons of a condition, negated if NOT applies to them; each once, in their order."""
    match condition:
        case All(of) | Any(of):
            parts = [each for part in of for each in literals_of(part, negated=negated)]
            return tuple(dict.fromkeys(parts))
        case Not(of):
            return literals_of(of, negated=not negated)
        case _:
            return (Not(condition) if negated else condition,)
