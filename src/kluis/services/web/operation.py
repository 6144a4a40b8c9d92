"""Operations of a service: a method, a path, the required access, and the handler."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from kluis.errors import UsageError
from kluis.frozen import frozen
from kluis.services.web.call import Answer, Call

MOST_PATH: Final = 2048
MOST_BODY: Final = 1 << 20


@frozen
class Operation:
    """One operation.

    Attributes:
        name: in the service's specification; for logs, metrics and the OpenAPI document.
        method: ``GET`` and the like.
        path: literal segments, in any case, and ``{parameter}`` segments, which may end in a literal verb:
            ``/policies/{type}:reset``. Empty segments count. A parameter contains no colon, unless it ends in
            a star: ``/users/{id*}``.
        handler: returns the response; runs in a thread, unless it is a coroutine function.
        summary: a sentence.
        access: that the caller's roles must allow; None: anyone may call it.
        body: the type of its JSON body, or ``str`` for text; None: it has none.
        versioned: whether ``api-version`` is required.
        query: names of query parameters, and whether each is required; for the OpenAPI document only.
        result: the type of its JSON response; None: not stated.
        status: of the successful response.
        most_bytes: of its body.
    """

    name: str
    method: str
    path: str
    handler: Callable[[Call], Answer | Awaitable[Answer]]
    summary: str
    access: str | None = None
    body: Any = None
    _: dataclasses.KW_ONLY
    versioned: bool = True
    query: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    result: Any = None
    status: int = 200
    most_bytes: int = MOST_BODY


@frozen
class Match:
    """A known path.

    Attributes:
        operation: for the method, or None if the path only has others.
        path: parameters.
        allowed: methods of the path.
        target: the path as sent: authorization must see the same path.
    """

    operation: Operation | None
    path: dict[str, str]
    allowed: tuple[str, ...]
    target: str


class Route(NamedTuple):
    """One path, with an operation for each method."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    methods: dict[str, Operation]


class Routes:
    """Finds the operation for a request.

    Args:
        operations: all; if two match and have the method, the one with fewer parameters is used.
        trailing_slash: whether a path that nothing else matches may have one more slash at its end.

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
                raise UsageError(f"operation {operation.name}: want a unique path, got {operation.path}")
            made[key].methods[operation.method] = operation

    def find(self, method: str, raw_path: str) -> Match | None:
        """The operation, or None for an unknown path.

        Args:
            method: upper case.
            raw_path: as sent: a percent-encoded slash is not a separator.
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
            # A name may equal another path's word: if that path does not have the method, the word counts as
            # a name.
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
    """Whether a parameter contains path navigation, or is not text."""
    return "/" in value or "\\" in value or value in {".", ".."} or "�" in value or not value.isprintable()
