"""Imports that take less time, for programs whose start is waited for.

Most libraries compile their regular expressions, in Python, when they are imported, and a program uses few of
them: a platform uses a handful of 53. Their compiler and the garbage collector take a sixth of its imports.
See ``docs/decisions/0059-imports-without-unused-patterns.md``.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator
from typing import Any


class Deferred:
    """Stands for the pattern that these arguments of ``re.compile`` make, which is made at the first use.

    It has the pattern's attributes and methods. It is no ``re.Pattern``: functions of ``re`` reject it.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._make = make
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle ask for methods of an instance that has no attributes yet
            raise AttributeError(name)
        value = getattr(self._make(*self._arguments), name)
        setattr(self, name, value)
        return value


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Import in this context without the garbage collector, and compile no regular expression before its use.

    The process must have one thread.
    """
    make, collects = re.compile, gc.isenabled()
    replaced: Any = re
    replaced.compile = lambda pattern, flags=0: Deferred(make, pattern, flags)
    gc.disable()
    try:
        yield
    finally:
        replaced.compile = make
        if collects:
            gc.enable()
