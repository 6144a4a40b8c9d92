"""Monotonic counters: they never go back while the platform runs.

Across restarts they are a file, and whoever restores an older state directory sets them back: so
every value comes with its witness, which is ``unwitnessed`` until something outside keeps it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, cast

from kluis.errors import FormatError, PolicyError
from kluis.formats import jcs
from kluis.formats.launch import UNWITNESSED
from kluis.tee.platform import keyfiles

MOST_EACH: Final = 256
MOST: Final = 4096
LARGEST: Final = (1 << 53) - 1


class Counters:
    """All counters of a platform, kept in one file, written before an increment is answered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._values: dict[str, int] = {}
        if path.exists():
            value = jcs.loads_canonical(keyfiles.read(path), path.name)
            if not isinstance(value, dict) or not all(isinstance(v, int) for v in value.values()):
                raise FormatError(f"{path.name}: want names and whole numbers")
            self._values = cast("dict[str, int]", value)

    def read(self, owner: str, counter: bytes) -> tuple[int, str]:
        """The value, 0 for one never incremented, and its witness."""
        with self._lock:
            return self._values.get(f"{owner}/{counter.hex()}", 0), UNWITNESSED

    def increment(self, owner: str, counter: bytes) -> tuple[int, str]:
        """Add one and return the new value, on disk by then, and its witness.

        Raises:
            PolicyError: this owner has too many counters.
        """
        name = f"{owner}/{counter.hex()}"
        with self._lock:
            if name not in self._values:
                mine = sum(1 for other in self._values if other.startswith(f"{owner}/"))
                if mine >= MOST_EACH or len(self._values) >= MOST:
                    raise PolicyError(
                        f"counter: want at most {MOST_EACH} for one product, got one more", code="counters"
                    )
            value = self._values.get(name, 0) + 1
            if value > LARGEST:
                raise PolicyError("counter: is at its end", code="counter_end")
            keyfiles.write(self._path, jcs.dumps({**self._values, name: value}))
            self._values[name] = value
            return value, UNWITNESSED
