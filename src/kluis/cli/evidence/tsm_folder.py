"""Read a folder of configfs-tsm, as the kernel presents one report: ``provider``, ``outblob`` and
``auxblob``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kluis.errors import UsageError
from kluis.formats.wrappers import tsm


def read(folder: Path, read_file: Callable[[Path], bytes]) -> bytes:
    """Read the files of one report into a collection.

    Args:
        folder: where they are.
        read_file: reads one of them, bounded.

    Raises:
        UsageError: a file is missing, cannot be read, or is a pipe or another special file.
        FormatError: a file is too large.
    """
    for name in (*tsm.PARTS, *tsm.OPTIONAL):
        # The author of a folder could put a pipe there, and reading it would never end.
        if (folder / name).exists() and not (folder / name).is_file():
            raise UsageError(f"{folder / name}: want a file, got another kind")
    if missing := [name for name in tsm.PARTS if not (folder / name).exists()]:
        raise UsageError(
            f"{folder}: want a folder of configfs-tsm, with {' and '.join(tsm.PARTS)}, got no {missing[0]}",
            hint="name a file; kluis collateral bundle makes one file of a vendor's documents",
        )
    provider, outblob = (read_file(folder / name) for name in tsm.PARTS)
    auxblob = folder / "auxblob"
    name = provider.decode("ascii", "replace").strip()
    return tsm.wrap(name, outblob, read_file(auxblob) if auxblob.is_file() else None)
