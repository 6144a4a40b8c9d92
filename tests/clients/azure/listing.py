"""The scenarios as they are declared, read without the environment that runs them."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["FOLDER", "declared"]

FOLDER = Path(__file__).parent


def declared(folder: Path = FOLDER) -> dict[str, tuple[int | None, str]]:
    """Number and call of each scenario, by name, in order of number; our own come last.

    Args:
        folder: of the modules that declare them.
    """
    found: dict[str, tuple[int | None, str]] = {}
    for path in sorted(folder.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "scenario":
                    call, *rest = [ast.literal_eval(each) for each in mark.args]
                    if node.name in found:
                        raise ValueError(f"scenario: want each name once, got {node.name} twice")
                    found[node.name] = (rest[0] if rest else None, call)
    return dict(sorted(found.items(), key=lambda item: (item[1][0] is None, item[1][0] or 0)))
