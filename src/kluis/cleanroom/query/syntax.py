"""Parse the author's text with ``sqlglot``; only what these functions extract is used."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from itertools import dropwhile, pairwise

import sqlglot
from sqlglot import exp
from sqlglot.parser import Parser
from sqlglot.tokens import Token, TokenType

from kluis.cleanroom.query.tree import QueryError

MAX_NODES = 5_000
MAX_DEPTH = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")
# It logs what it does not support as it is written, and a proposal's lines would look like ours.
logging.getLogger("sqlglot").disabled = True
_BEGINS = (TokenType.L_PAREN, TokenType.L_BRACKET)
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?\Z")


def parse(text: str) -> exp.Select:
    """Parse one SELECT.

    Raises:
        QueryError: not SQL, not one SELECT, too large, or nested too deeply for the parser.
    """
    if "{#" in text:  # which sqlglot skips as a comment up to #}, and SQL has not
        raise QueryError("query: want no {#, got one", code="query_syntax")
    try:
        _check_tokens(sqlglot.tokenize(text, dialect="duckdb"))
        statements = sqlglot.parse(text, dialect="duckdb")
    except QueryError:
        raise
    except Exception as error:  # on some text sqlglot fails with AttributeError or TypeError
        raise QueryError("query: want SQL, got text that does not parse", code="query_syntax") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        kinds = [type(each).__name__ for each in statements]
        raise QueryError(f"query: want one SELECT, got {kinds}", code="query_shape")
    _check_size(statements[0])
    return statements[0]


def _check_tokens(tokens: list[Token]) -> None:
    """Refuse types with arguments, which no query needs: sqlglot reads each of nested ones twice.

    And a semicolon that does not end the text: sqlglot leaves out what follows where it begins with ELSE.
    """
    ends = list(dropwhile(_is_semicolon, reversed(tokens)))
    if any(map(_is_semicolon, ends)):
        raise QueryError("query: want one SELECT, got more after a semicolon", code="query_shape")
    for type_, begin in pairwise(tokens):
        if type_.token_type in Parser.TYPE_TOKENS and begin.token_type in _BEGINS:
            raise QueryError(
                f"query: {type_.text[:32]} with arguments is not allowed",
                hint="DATE '...' and TIMESTAMP '...' are the only types",
                code="query_shape",
            )


def _is_semicolon(token: Token) -> bool:
    return token.token_type is TokenType.SEMICOLON


def _check_size(select: exp.Select) -> None:
    count, nodes = 0, [(select, 1)]
    while nodes:
        node, depth = nodes.pop()
        count += 1
        if count > MAX_NODES:
            raise QueryError(f"query: want at most {MAX_NODES} nodes, got more", code="query_shape")
        if depth > MAX_DEPTH:
            raise QueryError(
                f"query: want at most {MAX_DEPTH} levels, got more",
                hint="a chain of AND, OR or + nests one level a term",
                code="query_shape",
            )
        nodes += [(each, depth + 1) for each in node.iter_expressions()]


def only(node: exp.Expression, *names: str) -> None:
    """Refuse any other set argument of a node, because the reader has no case for it.

    Raises:
        QueryError: names the argument.
    """
    for name, value in node.args.items():
        if value not in (None, False, [], "") and name not in names:
            raise QueryError(
                f"query: {describe_construct(node)} with {name.rstrip('_')} is not allowed",
                code="query_shape",
            )


def name_of(node: exp.Expression | None) -> str:
    """An identifier in lower case.

    Raises:
        QueryError: not plain ASCII; other names can look alike.
    """
    text = str(node.this) if isinstance(node, exp.Identifier) else ""
    if not _NAME.match(text):
        raise QueryError("query: want names of ASCII letters, digits and _", code="query_shape")
    return text.lower()


def alias_of(node: exp.Expression) -> str:
    """The alias of a table, in lower case.

    Raises:
        QueryError: there is none, or AS renames its columns too.
    """
    alias = node.args.get("alias")
    if not isinstance(alias, exp.TableAlias):
        raise QueryError("query: want a name for the inner query: (SELECT ...) AS name", code="query_shape")
    if alias.args.get("columns"):
        raise QueryError(
            "query: a column list after a table's name is not allowed",
            hint="name the columns in the inner SELECT, with AS",
            code="query_shape",
        )
    only(alias, "this")
    return name_of(alias.this)


def output_of(node: exp.Expression) -> tuple[str, exp.Expression]:
    """The name of a column of SELECT, as written, and its expression.

    Raises:
        QueryError: it has none.
    """
    if isinstance(node, exp.Alias):
        only(node, "this", "alias")
        name_of(node.args["alias"])
        return node.alias, node.this
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
        name_of(node.this)
        return node.name, node
    raise QueryError(
        f"query: want a name for {describe_construct(node)}", hint="add AS name", code="query_shape"
    )


def read_number(node: exp.Expression | None) -> Fraction | None:
    """Read a decimal of at most 18 digits on either side of the point; None if it is something else."""
    sign = 1
    while isinstance(node, exp.Neg | exp.Paren):
        only(node, "this")
        sign, node = (-sign if isinstance(node, exp.Neg) else sign), node.this
    if isinstance(node, exp.Literal) and not node.is_string and _NUMBER.match(node.name):
        return sign * Fraction(node.name)
    return None


def read_text(node: exp.Expression | None) -> str | None:
    """Read a string literal; None if it is something else."""
    if isinstance(node, exp.Literal) and node.is_string and "\0" not in node.name:
        return str(node.name)
    return None


def describe_construct(node: exp.Expression | None) -> str:
    """A construct's name for messages."""
    if isinstance(node, exp.Anonymous):
        return f"function {str(node.this).lower()}()"
    if isinstance(node, exp.Func) and not isinstance(node, exp.Case | exp.Cast | exp.And | exp.Or):
        return f"function {node.sql_name().lower()}()"
    return {"Select": "SELECT", "Group": "GROUP BY", "Order": "ORDER BY", "Star": "*"}.get(
        type(node).__name__, type(node).__name__
    )


def outputs_of(select: exp.Select) -> dict[str, exp.Expression]:
    """The outputs of a SELECT by lower-case name.

    Raises:
        QueryError: one has no name, or two have the same.
    """
    outputs: dict[str, exp.Expression] = {}
    for each in select.expressions:
        name, node = output_of(each)
        if name.lower() in outputs:
            raise QueryError(f"query: want each output once, got {name} twice", code="query_shape")
        outputs[name.lower()] = node
    return outputs


def case_of(
    node: exp.Expression | None,
) -> tuple[exp.Expression, exp.Expression, exp.Expression | None] | None:
    """The condition, value and ELSE of a CASE of one arm; None if it is something else, or nothing."""
    node = node.unnest() if node is not None else None
    if not isinstance(node, exp.Case) or len(node.args["ifs"]) != 1:
        return None
    only(node, "ifs", "default")
    arm = node.args["ifs"][0]
    only(arm, "this", "true")
    return arm.this, arm.args["true"], node.args.get("default")
