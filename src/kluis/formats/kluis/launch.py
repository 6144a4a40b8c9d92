"""Launch configuration: how an enclave was started, beside what it is. Nothing here is verified.

The document's SHA-512 stands in CONFIGID; it travels beside the evidence.

    {"counter": text, "grants": [text], "heap_bytes": n, "level": text, "missing": [text],
     "platform": hex, "scratch_bytes": n, "threads": n, "version": 1}

Canonical JSON (RFC 8785); both lists are sorted and hold no name twice. ``scratch_bytes`` is there only
where there is scratch.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.hashes import sha512

MAX_SIZE: Final = 64 * 1024
MAX_NAMES: Final = 256
UNWITNESSED: Final = "unwitnessed"
_MEMBERS: Final = ("counter", "grants", "heap_bytes", "level", "missing", "platform", "threads", "version")
_SCRATCH: Final = "scratch_bytes"
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
        platform: 32 bytes, SHA-256 over the launcher and the guardian that isolate the enclave;
            zeros where nothing isolates it.
        scratch_bytes: size of the encrypted scratch; 0: none.
    """

    heap_bytes: int
    threads: int
    grants: tuple[str, ...]
    missing: tuple[str, ...]
    counter: str
    level: str
    platform: bytes = bytes(32)
    scratch_bytes: int = 0

    def encode(self) -> bytes:
        """Write the document."""
        document = {"version": 1, **dataclasses.asdict(self), "platform": self.platform.hex()}
        if not self.scratch_bytes:
            del document[_SCRATCH]
        return jcs.dumps(document)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a document in its one canonical form.

        Raises:
            UnsupportedError: another version.
            FormatError: not canonical, a member missing, unknown or of the wrong kind.
        """
        value = Members(jcs.loads_canonical(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        scratch = _SCRATCH in value
        value.only((*_MEMBERS, _SCRATCH) if scratch else _MEMBERS)
        value.version(1)
        return cls(
            heap_bytes=value.integer("heap_bytes", least=1),
            threads=value.integer("threads", least=1),
            grants=_names(value, "grants"),
            missing=_names(value, "missing"),
            counter=value.text("counter"),
            level=value.text("level"),
            platform=value.hex("platform", 32, lower=True),
            scratch_bytes=value.integer(_SCRATCH, least=1) if scratch else 0,
        )


def config_id(document: bytes) -> bytes:
    """The 64 bytes of CONFIGID that ``document`` stands for."""
    return sha512(document)


def _names(value: Members, name: str) -> tuple[str, ...]:
    names = value.texts(name, most=MAX_NAMES)
    if list(names) != sorted(set(names)):
        raise FormatError(f"{_WHAT}.{name}: want sorted names, none twice", code="bad_encoding")
    return names
