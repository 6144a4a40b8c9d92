"""Map modules to their bytecode files and back (PEP 3147)."""

from __future__ import annotations


def pyc_path(path: str, tag: str) -> str:
    """The path where an interpreter with this tag, such as ``cpython-311``, looks for the bytecode of
    ``path``.
    """
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}__pycache__/{name[:-3]}.{tag}.pyc"


def source_path(path: str) -> str | None:
    """The source path for a file name in ``__pycache__``; None for any other file.

    ``a/__pycache__/b.c.cpython-311.pyc`` belongs to ``a/b.c.py``. A name with an optimization level
    (``opt-1`` after the tag) maps to a module too.
    """
    folder, _, name = path.rpartition("/")
    parent, _, last = folder.rpartition("/")
    stem, tag, suffix = [*name.rsplit(".", 2), "", ""][:3]
    if tag.startswith("opt-"):
        stem = stem.rpartition(".")[0]
    if last != "__pycache__" or not stem or suffix not in ("pyc", "pyo"):
        return None
    return f"{parent}/{stem}.py" if parent else f"{stem}.py"
