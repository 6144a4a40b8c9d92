"""Launch configuration: the document that states how an enclave was started. Nothing here is verified.

CONFIGID contains the document's SHA-512; the document travels with the evidence.

    {"counter": text, "grants": [text], "heap_bytes": n, "level": text, "missing": [text], "platform": hex,
     "scratch_bytes": n, "threads": n, "version": 1}

Canonical JSON (RFC 8785); both lists are sorted and have no duplicates. ``scratch_bytes`` is present only if
there is scratch.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen
from kluis.hashes import sha512

MAX_SIZE: Final = 64 * 1024
MAX_NAMES: Final = 256
UNWITNESSED: Final = "unwitnessed"
WITNESSED: Final = "witnessed"
_MEMBERS: Final = ("counter", "grants", "heap_bytes", "level", "missing", "platform", "threads", "version")
_SCRATCH: Final = "scratch_bytes"
_WHAT: Final = "launch configuration"


@frozen(kw_only=True)
class LaunchConfiguration:
    """The document's fields.

    Attributes:
        heap_bytes: at least 1.
        threads: at least 1.
        grants: requested by the image and given at launch, sorted.
        missing: protections that this machine does not have and the launch did without, sorted.
        counter: the witness of the monotonic counters; ``witnessed``, or ``unwitnessed`` if there is none.
        level: the protection level that the platform states; evidence is judged by its anchor.
        platform: 32 bytes, SHA-256 over the launcher and the guardian that isolate the enclave; zeros if
            nothing isolates it.
        scratch_bytes: size of the encrypted scratch; 0 if there is none.
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
        """Parse a document in its one canonical form.

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
    """The 64 bytes of CONFIGID for ``document``."""
    return sha512(document)


def _names(value: Members, name: str) -> tuple[str, ...]:
    names = value.texts(name, most=MAX_NAMES)
    if list(names) != sorted(set(names)):
        raise FormatError(f"{_WHAT}.{name}: want sorted names, none twice", code="bad_encoding")
    return names
