"""JMESPath queries in policies, with a limit on their work, because any client can send a policy.

A query of a few characters can build, join, flatten or quote more than any memory or time limit allows. So
each step of the interpreter counts, and so does each member of a list that a step visits, and all text
produced. Spec: JMESPath, with the one function ``equals_ignore_case`` that Azure adds.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any, Final, NoReturn

from jmespath import Options
from jmespath import functions as jmespath_functions
from jmespath.exceptions import JMESPathError
from jmespath.parser import Parser
from jmespath.visitor import TreeInterpreter

from kluis.errors import PolicyError

MAX_JSON: Final = 4 << 20
MAX_QUERY: Final = 4096
MAX_STEPS: Final = 1_000_000
MAX_TEXT: Final = 8 << 20
CHARACTERS_A_STEP: Final = 64
# A query's result may be at most this many times larger than its document. Repeated parts share memory, but
# each counts where it is written.
MAX_GROWTH: Final = 4096
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_BUILDERS: Final = frozenset({"multi_select_list", "multi_select_dict"})
# These compare the members of a list, however long it is.
_ORDERING: Final = frozenset({"sort", "sort_by", "max", "max_by", "min", "min_by"})


class NotJsonError(ValueError):
    """NaN or Infinity, which Python reads as numbers but JSON does not allow."""


class Work:
    """The remaining work of one run of a policy.

    Attributes:
        steps: of interpreters, of members of visited lists, and of characters read.
        text: characters that functions produce.
    """

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.text = MAX_TEXT

    def step(self, count: int = 1) -> None:
        """Deduct steps.

        Raises:
            PolicyError: code ``policy_evaluation``; too few are left.
        """
        self.steps -= count
        if self.steps < 0:
            raise too_much(f"{MAX_STEPS} steps of functions")

    def read(self, text: str) -> None:
        """Deduct one pass over a text, like :meth:`step`."""
        self.step(1 + len(text) // CHARACTERS_A_STEP)

    def write(self, characters: int) -> None:
        """Deduct produced text.

        Raises:
            PolicyError: code ``policy_evaluation``; too little is left.
        """
        self.text -= characters
        if self.text < 0:
            raise too_much(f"{MAX_TEXT} characters that functions make")


def answer(document: str, query: str, work: Work) -> str:
    """The result of a query on a document, both text; JSON.

    Raises:
        JMESPathError, ValueError, TypeError, ArithmeticError, RecursionError: the document is not JSON, the
            query is invalid, or it fails on this document.
        PolicyError: code ``policy_evaluation``; it exceeds the work limit.
    """
    if not document or len(document) > MAX_JSON:
        raise _failure(f"want JSON of at most {MAX_JSON} characters, got {len(document)}")
    if len(query) > MAX_QUERY:
        raise _failure(f"want a query of at most {MAX_QUERY} characters, got {len(query)}")
    work.step(len(query))
    parsed = _parse(query)
    work.read(document)
    result = _Interpreter(work).visit(parsed, read_json(document))
    written = _write(result)
    work.write(len(written))
    return written


def problem(query: str) -> str | None:
    """The problem of a query, whatever the document; None if it is valid."""
    try:
        _parse(query)
    except PolicyError as error:
        return error.message
    except (JMESPathError, ValueError, RecursionError) as error:
        return f"JmesPath: {first_line(error)}"
    return None


def first_line(error: Exception) -> str:
    """The first line of a library's message; in JMESPath's messages the query follows."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")[:200]


@functools.lru_cache(maxsize=64)
def _parse(query: str) -> dict[str, Any]:
    parser = Parser()
    tree: dict[str, Any] = parser.parse(query).parsed
    parser.purge()  # it keeps many, of any size
    if _growth(tree) > MAX_GROWTH:
        raise _failure(f"the query may grow its document more than {MAX_GROWTH} times")
    return tree


class _Interpreter(TreeInterpreter):  # type: ignore[misc]  # the package has no types
    """Counts visited nodes, and list members that a node visits without visiting child nodes."""

    def __init__(self, work: Work) -> None:
        super().__init__(Options(custom_functions=_Functions(work)))
        self._work = work

    def visit(self, node: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._work.step()
        return super().visit(node, *args, **kwargs)

    def visit_flatten(self, node: dict[str, Any], value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        # Empty lists leave nothing in the result, and take their time.
        self._count(base)
        parts = [each if isinstance(each, list) else [each] for each in base]
        self._work.step(sum(map(len, parts)))
        return [each for part in parts for each in part]

    def visit_slice(self, node: dict[str, Any], value: Any) -> Any:
        return self._count(super().visit_slice(node, value))

    def visit_comparator(self, node: dict[str, Any], value: Any) -> Any:
        left, right = (self.visit(each, value) for each in node["children"])
        self._compare(left, right)
        if node["value"] in ("eq", "ne"):
            return _alike(left, right) is (node["value"] == "eq")
        if not any(_is(kind, left) and _is(kind, right) for kind in ((int, float), str)):
            return None
        return self.COMPARATOR_FUNC[node["value"]](left, right)

    def _compare(self, left: Any, right: Any) -> None:
        """Count a comparison, of texts or member by member; both end with the shorter value."""
        if isinstance(left, str) and isinstance(right, str):
            self._work.step(min(len(left), len(right)) // CHARACTERS_A_STEP)
        if not isinstance(left, (list, dict)) or not isinstance(right, (list, dict)):
            return
        most = 16
        while most < _size(left, most) and most < _size(right, most):
            self._work.step(2 * most)
            most *= 4
        self._work.step(2 * most)

    def _count(self, value: Any) -> Any:
        if isinstance(value, list):
            self._work.step(len(value))
        return value


class _Functions(jmespath_functions.Functions):  # type: ignore[misc]  # likewise
    def __init__(self, work: Work) -> None:
        self._work = work

    def call_function(self, name: str, arguments: list[Any]) -> Any:
        for each in arguments:
            if isinstance(each, str):
                self._work.read(each)
            elif isinstance(each, (list, dict)):
                self._work.step(_size(each, self._work.steps) if name in _ORDERING else len(each))
        return super().call_function(name, arguments)

    @jmespath_functions.signature({"types": []})  # type: ignore[untyped-decorator]  # likewise
    def _func_to_number(self, value: Any) -> Any:
        if isinstance(value, str):
            return json.loads(value) if _NUMBER.fullmatch(value) else None
        return value if _is((int, float), value) else None

    @jmespath_functions.signature({"types": []})  # type: ignore[untyped-decorator]  # likewise
    def _func_to_string(self, value: Any) -> str:
        text = value if isinstance(value, str) else _write(value)
        self._work.write(len(text))
        return text

    @jmespath_functions.signature({"types": ["string"]}, {"types": ["array-string"]})  # type: ignore[untyped-decorator]  # likewise
    def _func_join(self, glue: str, parts: list[str]) -> str:
        self._work.write(len(glue) * len(parts) + sum(map(len, parts)))
        return glue.join(parts)

    @jmespath_functions.signature({"types": ["array", "string"]}, {"types": []})  # type: ignore[untyped-decorator]  # likewise
    def _func_contains(self, subject: Any, search: Any) -> bool:
        self._work.step(_size(subject, self._work.steps))
        if isinstance(subject, str):
            return isinstance(search, str) and search in subject
        return any(_alike(each, search) for each in subject)

    @jmespath_functions.signature({"types": []}, {"types": []})  # type: ignore[untyped-decorator]  # likewise
    def _func_equals_ignore_case(self, first: object, second: object) -> bool:
        if not isinstance(first, str) or not isinstance(second, str):
            return False
        return first.casefold() == second.casefold()


def _growth(node: dict[str, Any]) -> int:
    """The most times that a query's answer may be larger than its document."""
    growth = max(1, len(node["children"])) if node["type"] in _BUILDERS else 1
    for child in node["children"]:
        if isinstance(child, dict):
            growth = min(growth * _growth(child), MAX_GROWTH + 1)
    return growth


def _is(kind: type | tuple[type, ...], value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _alike(left: Any, right: Any) -> bool:
    """Whether two values are equal, at any depth: true is not a number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_alike, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_alike(left[name], right[name]) for name in left)
    return bool(left == right)


def _size(value: Any, most: int) -> int:
    """The number of values in a value, including itself; a little above ``most`` if there are more."""
    size, left = 0, [value]
    while left and size + len(left) <= most:
        one = left.pop()
        size += 1
        if isinstance(one, str):
            size += len(one) // CHARACTERS_A_STEP
        elif isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += one.values()
    return size + len(left)


def _write(value: Any) -> str:
    """JSON of at most this many characters; repeated parts are written each time."""
    size, parts = 0, []
    for part in _ENCODER.iterencode(value):
        size += len(part)
        if size > MAX_JSON:
            raise _failure(f"the answer is more than {MAX_JSON} characters")
        parts.append(part)
    return "".join(parts)


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_json(text: str) -> Any:
    """Decode JSON.

    Raises:
        JSONDecodeError, NotJsonError: not JSON.
        ValueError, RecursionError: a number has thousands of digits, or it nests too deep.
    """
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise NotJsonError(f"want JSON, got {name}")


def too_much(most: str) -> PolicyError:
    """The error of a policy whose run reaches a limit."""
    return PolicyError(f"the policy is too much work: want at most {most}", code="policy_evaluation")


def _failure(problem: str) -> PolicyError:
    return PolicyError(f"policy: JmesPath: {problem}", code="policy_evaluation")
