"""What a service can be asked: a method, a path, who may ask, and the function that answers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from kluis.errors import UsageError
from kluis.services.web.call import Answer, Call

__all__ = ["Match", "Operation", "Routes"]

MOST_PATH: Final = 2048
MOST_BODY: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation.

    Attributes:
        name: as the service's specification calls it; for logs, metrics and the OpenAPI document.
        method: ``GET`` and the like.
        path: literal segments, in any case of letters, and ``{parameter}`` segments, which may end in a
            literal verb: ``/policies/{type}:reset``. Empty segments count. A parameter has no colon in it,
            unless it ends in a star: ``/users/{id*}``.
        handler: answers; runs in a thread, unless it is a coroutine function, which waits without one.
        summary: a sentence.
        access: what the caller's roles must allow; None: anyone may ask.
        versioned: whether ``api-version`` must be given.
        query: its parameters in the query, and whether each is required; for the OpenAPI document alone.
        body: the type of its JSON body, or ``str`` for text; None: it has none.
        result: the type of its JSON answer; None: not said.
        status: of the answer that is wanted.
        most_bytes: of its body.
    """

    name: str
    method: str
    path: str
    handler: Callable[[Call], Answer | Awaitable[Answer]]
    summary: str
    access: str | None = None
    versioned: bool = True
    query: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    body: Any = None
    result: Any = None
    status: int = 200
    most_bytes: int = MOST_BODY


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """A path that is known.

    Attributes:
        operation: that the method asks for, or None where the path has only others.
        path: its parameters.
        allowed: the methods that the path has.
        target: the path itself, as it was sent: who judges a request must see no other.
    """

    operation: Operation | None
    path: dict[str, str]
    allowed: tuple[str, ...]
    target: str


class Route(NamedTuple):
    """One path, and what its methods ask for."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    methods: dict[str, Operation]


class Routes:
    """Finds the operation that a request asks for.

    Args:
        operations: all; of two that match, and have the method, the one with fewer parameters counts.
        trailing_slash: whether a path that nothing else matches may end in one slash more.

    Raises:
        UsageError: two of one method and path.
    """

    def __init__(self, operations: tuple[Operation, ...], *, trailing_slash: bool = False) -> None:
        self._trailing_slash = trailing_slash
        self._by_slashes: dict[int, list[Route]] = {}
        made: dict[str, Route] = {}
        for operation in sorted(operations, key=lambda one: one.path.count("{")):
            pattern, names = _pattern(operation.path)
            key = pattern.pattern.lower()
            if key not in made:
                made[key] = Route(pattern, names, {})
                self._by_slashes.setdefault(operation.path.count("/"), []).append(made[key])
            if operation.method in made[key].methods:
                raise UsageError(f"operation {operation.name}: want a path of its own, got {operation.path}")
            made[key].methods[operation.method] = operation

    def find(self, method: str, raw_path: str) -> Match | None:
        """The operation, or None for a path that the service does not have.

        Args:
            method: upper case.
            raw_path: as sent: a slash that is percent-encoded is none.
        """
        if len(raw_path) > MOST_PATH:
            return None
        match = self._find(method, raw_path, raw_path)
        if match is None and self._trailing_slash and raw_path.endswith("/"):
            return self._find(method, raw_path.removesuffix("/"), raw_path)
        return match

    def _find(self, method: str, path: str, raw_path: str) -> Match | None:
        allowed: dict[str, None] = {}
        for route in self._by_slashes.get(path.count("/"), ()):
            match = route.pattern.fullmatch(path)
            if match is None:
                continue
            values = dict(zip(route.names, map(unquote, match.groups()), strict=True))
            if any(_odd(value) for value in values.values()):
                return None
            # A name may be another path's word: what that path has no method for is asked of the name.
            if method in route.methods:
                return Match(route.methods[method], values, tuple(route.methods), raw_path)
            allowed |= dict.fromkeys(route.methods)
        return Match(None, {}, tuple(allowed), raw_path) if allowed else None


def _pattern(path: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    names: list[str] = []

    def part(match: re.Match[str]) -> str:
        if match[1] is None:
            return re.escape(match[0]).replace(":", "(?::|%3A)")
        names.append(match[1])
        return "([^/?#]+)" if match[2] else "([^/:?#]+)"

    return re.compile(re.sub(r"\{(\w+)(\*?)\}|[^{]+", part, path), re.IGNORECASE), tuple(names)


def _odd(value: str) -> bool:
    """Whether a parameter leads elsewhere, or is no text."""
    return "/" in value or "\\" in value or value in {".", ".."} or "�" in value or not value.isprintable()
