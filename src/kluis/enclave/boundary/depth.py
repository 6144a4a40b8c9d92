"""How deeply the types of an interface are nested.

Decoders recurse into types, and how far Python lets them differs between its versions. So the limit is on
the longest way from a call into its types that has no class twice. Of classes that contain each other, it is
taken to lead through all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kluis.enclave.names import MAX_DEPTH

Node = Mapping[str, Any]
TOO_DEEP = f"want at most {MAX_DEPTH} levels of types, got more"


def problem(calls: Iterable[Node], types: Mapping[str, Node]) -> str | None:
    """The problem of an interface whose types are nested too deeply; None if they are within the limit.

    Args:
        calls: of the document.
        types: its classes.
    """
    inside = {name: _inside(node) for name, node in types.items()}
    levels: dict[str, int] = {}
    for group in _groups({name: [ref for ref, _ in refs] for name, (refs, _) in inside.items()}):
        through = below = 0
        for name in group:
            refs, deepest = inside[name]
            through += max((level for ref, level in refs if ref in group), default=0)
            below = max(below, deepest + 1, *(level + levels[ref] for ref, level in refs if ref not in group))
        if through + below > MAX_DEPTH:
            return TOO_DEEP
        levels |= dict.fromkeys(group, through + below)
    for call in calls:
        for node in (*(one["type"] for one in call["parameters"]), call["returns"]):
            refs, deepest = _inside({"kind": "list", "items": node})
            if max(deepest, 0, *(level - 1 + levels[ref] for ref, level in refs)) > MAX_DEPTH:
                return TOO_DEEP
    return None


def _inside(node: Node) -> tuple[list[tuple[str, int]], int]:
    """The classes that a type names, with the level of each; and its deepest level without them."""
    refs: list[tuple[str, int]] = []
    deepest, nodes = 0, [(1, inner) for inner in _parts(node)]
    while nodes:
        level, inner = nodes.pop()
        if "ref" in inner:
            refs.append((inner["ref"], level))
        else:
            deepest = max(deepest, level)
            nodes += [(level + 1, part) for part in _parts(inner)]
    return refs, deepest


def _parts(node: Node) -> list[Node]:
    match node["kind"]:
        case "struct" | "namedtuple":
            return [field["type"] for field in node["fields"]]
        case "tuple":
            return list(node["items"])
        case "list" | "vartuple" | "set" | "frozenset":
            return [node["items"]]
        case "dict":
            return [node["keys"], node["values"]]
        case "union":
            return list(node["of"])
        case _:
            return []


def _groups(refs: Mapping[str, list[str]]) -> Iterator[set[str]]:
    """The classes that contain each other, as sets; those within others first (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    open_: set[str] = set()
    for root in refs:
        if root in number:
            continue
        ways = [(root, iter(refs[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        open_.add(root)
        while ways:
            name, rest = ways[-1]
            for ref in rest:
                if ref not in number:
                    number[ref] = low[ref] = len(number)
                    stack.append(ref)
                    open_.add(ref)
                    ways.append((ref, iter(refs[ref])))
                    break
                if ref in open_:
                    low[name] = min(low[name], number[ref])
            else:
                ways.pop()
                if ways:
                    low[ways[-1][0]] = min(low[ways[-1][0]], low[name])
                if low[name] == number[name]:
                    group = set[str]()
                    while name not in group:
                        group.add(stack.pop())
                    open_ -= group
                    yield group
