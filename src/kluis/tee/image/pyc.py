"""Where a module's bytecode lies, and whose bytecode a file is (PEP 3147)."""

from __future__ import annotations


def pyc_path(path: str, tag: str) -> str:
    """Where the interpreter with this tag, such as ``cpython-311``, looks for the bytecode of ``path``."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name[:-3]}.{tag}.pyc"


def source_path(path: str) -> str | None:
    """The module that a file in ``__pycache__`` is the bytecode of, as its name states; None of any other.

    ``a/__pycache__/b.c.cpython-311.pyc`` is of ``a/b.c.py``. A name with an optimization level names a module
    too (``opt-1`` after the tag), for whatever it is compared with.
    """
    folder, _, name = path.rpartition("/")
    parent, _, last = folder.rpartition("/")
    stem, tag, suffix = [*name.rsplit(".", 2), "", ""][:3]
    if tag.startswith("opt-"):
        stem = stem.rpartition(".")[0]
    if last != "__pycache__" or not stem or suffix not in ("pyc", "pyo"):
        return None
    return f"{parent}/{stem}.py" if parent else f"{stem}.py"
