"""Launch configuration: how an enclave was started, beside what it is. Nothing here is verified.

The document's SHA-512 stands in CONFIGID; it travels beside the evidence.

    {"counter": text, "grants": [text], "heap_bytes": n, "level": text, "missing": [text],
     "threads": n, "version": 1}

Canonical JSON (RFC 8785); both lists are sorted and hold no name twice.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import jcs
from kluis.hashes import sha512

MAX_SIZE: Final = 64 * 1024
MAX_NAMES: Final = 256
UNWITNESSED: Final = "unwitnessed"
_MEMBERS: Final = ["counter", "grants", "heap_bytes", "level", "missing", "threads", "version"]
_WHAT: Final = "launch configuration"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfiguration:
    """The document's fields.

    Attributes:
        heap_bytes: at least 1.
        threads: at least 1.
        grants: what the image asked for and the launch gave, sorted.
        missing: protections that this machine lacks and the launch did without, sorted.
        counter: who witnesses the monotonic counters; ``unwitnessed`` if nobody.
        level: the protection level that the platform states; evidence is judged by its anchor.
    """

    heap_bytes: int
    threads: int
    grants: tuple[str, ...]
    missing: tuple[str, ...]
    counter: str
    level: str

    def encode(self) -> bytes:
        """Write the document."""
        return jcs.dumps({"version": 1, **dataclasses.asdict(self)})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a document in its one canonical form.

        Raises:
            UnsupportedError: another version.
            FormatError: not canonical, a member missing, unknown or of the wrong kind.
        """
        value = jcs.loads_canonical(data, _WHAT, max_size=MAX_SIZE)
        if not isinstance(value, dict) or sorted(value) != _MEMBERS:
            got = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise FormatError(f"{_WHAT}: want members {_MEMBERS}, got {got}", code="bad_type")
        if value["version"] != 1:
            raise UnsupportedError(f"{_WHAT}.version: want 1, got {value['version']!a}", code="bad_version")
        return cls(
            heap_bytes=_count(value["heap_bytes"], "heap_bytes"),
            threads=_count(value["threads"], "threads"),
            grants=_names(value["grants"], "grants"),
            missing=_names(value["missing"], "missing"),
            counter=_text(value["counter"], "counter"),
            level=_text(value["level"], "level"),
        )


def config_id(document: bytes) -> bytes:
    """The 64 bytes of CONFIGID that ``document`` stands for."""
    return sha512(document)


def _count(value: jcs.Json, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FormatError(f"{_WHAT}.{name}: want a positive integer, got {value!a}", code="bad_type")
    return value


def _text(value: jcs.Json, name: str) -> str:
    if not isinstance(value, str):
        raise FormatError(f"{_WHAT}.{name}: want text, got {type(value).__name__}", code="bad_type")
    return value


def _names(value: jcs.Json, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_NAMES:
        raise FormatError(f"{_WHAT}.{name}: want a list of at most {MAX_NAMES}", code="bad_type")
    names = tuple(_text(item, name) for item in value)
    if list(names) != sorted(set(names)):
        raise FormatError(f"{_WHAT}.{name}: want sorted names, none twice", code="bad_encoding")
    return names
