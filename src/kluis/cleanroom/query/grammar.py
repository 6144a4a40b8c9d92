"""The SQL that a room speaks: one SELECT of these nodes and functions, and nothing else.

DuckDB can read files, environment variables and settings from inside a query, and its ``error()`` and casts
put cell values into messages (specs: every engine does). So the list is of what is allowed.
"""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from kluis.errors import PolicyError

DIALECT = "duckdb"
MAX_NODES = 5_000

AGGREGATES = (exp.Count, exp.Sum, exp.Avg, exp.Stddev, exp.StddevSamp, exp.Variance)
EXTREMA = (exp.Min, exp.Max, exp.Median, exp.ArgMax, exp.ArgMin)
COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Is)

_CLAUSES = (
    exp.Select, exp.With, exp.CTE, exp.From, exp.Join, exp.Subquery, exp.Table, exp.TableAlias,
    exp.Identifier, exp.Column, exp.Alias,
    exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Filter,
)  # fmt: skip
_VALUES = (
    exp.Literal, exp.Boolean, exp.Null, exp.Star, exp.Distinct, exp.Case, exp.If, exp.Paren, exp.And, exp.Or,
    exp.Not, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg, exp.Cast, exp.TryCast, exp.DataType, exp.Coalesce,
    exp.Floor, exp.Ceil, exp.Round, exp.Abs, exp.Year,
)  # fmt: skip
ALLOWED = frozenset((*_CLAUSES, *_VALUES, *AGGREGATES, *EXTREMA, *COMPARISONS))


class QueryError(PolicyError):
    """The query asks for what the agreement, or an owner's terms, do not allow."""

    code = "query"


def parse(text: str) -> exp.Select:
    """Parse one SELECT made only of allowed nodes; casts become casts that cannot fail.

    Raises:
        QueryError: not SQL, not one SELECT, or something that is not on the list.
    """
    try:
        statements = sqlglot.parse(text, dialect=DIALECT)
    except (SqlglotError, RecursionError) as error:
        raise QueryError("query: want SQL, got text that does not parse", code="query_syntax") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        kinds = [type(each).__name__ for each in statements]
        raise QueryError(f"query: want one SELECT, got {kinds}", code="query_shape")
    select = statements[0]
    for count, node in enumerate(select.walk()):
        if count >= MAX_NODES:
            raise QueryError(f"query: want at most {MAX_NODES} nodes, got more", code="query_shape")
        if type(node) not in ALLOWED:
            raise QueryError(f"query: {_name(node)} is not allowed", code="query_function")
        node.comments = None
        if isinstance(node, exp.Subquery | exp.Select) and not isinstance(
            node.parent, exp.From | exp.Join | exp.CTE | exp.Subquery | None
        ):
            raise QueryError(
                "query: an inner SELECT is allowed in FROM, JOIN and WITH alone", code="query_shape"
            )
        if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
            raise QueryError("query: * is allowed in count(*) alone; name the columns", code="query_shape")
        if isinstance(node, exp.Distinct) and not isinstance(node.parent, exp.Count):
            raise QueryError("query: DISTINCT is allowed in count(DISTINCT ...) alone", code="query_shape")
        if isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast):
            node.replace(exp.TryCast(this=node.this, to=node.args["to"]))
    return select


def only(node: exp.Expression, *names: str) -> None:
    """Refuse any argument of a node that is set and not named: a clause nobody thought of is denied.

    Raises:
        QueryError: names the clause.
    """
    for name, value in node.args.items():
        if value not in (None, False, [], "") and name not in names:
            raise QueryError(f"query: {type(node).__name__} with {name} is not allowed", code="query_shape")


def _name(node: exp.Expression) -> str:
    if isinstance(node, exp.Anonymous):
        return f"function {str(node.this).lower()}()"
    if isinstance(node, exp.Func):
        return f"function {node.sql_name().lower()}()"
    return type(node).__name__
