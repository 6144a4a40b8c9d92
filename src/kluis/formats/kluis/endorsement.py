"""An endorsement: evidence of a machine's TEE over the key of the platform's root. Nothing here is verified.

    {"kind": text, "parts": {name: base64url}, "runtime_data": base64url, "version": 1}

Canonical JSON (RFC 8785). The runtime data is of purpose ``platform`` (:mod:`kluis.formats.kluis.machine`).
The document is the member ``endorsement`` of the platform's collateral, as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

# With the collateral around it, it fits into one frame from a platform to its enclaves.
MAX_SIZE: Final = 96 * 1024
MAX_KIND: Final = 32
PARTS: Final = (
    "ak", "ak_certificate", "certificates", "collateral", "crl", "document", "event_log", "hcl", "pcrs",
    "quote", "report", "signature", "td_quote",
)  # fmt: skip
_MEMBERS: Final = ("kind", "parts", "runtime_data", "version")
_WHAT: Final = "endorsement"


@frozen(kw_only=True)
class Endorsement:
    """The document's fields.

    Attributes:
        kind: of the evidence: ``snp``, ``tdx``, ``azure-snp``, ``azure-tdx``, ``nitro``,
            ``nitro-tpm`` or ``tpm``.
        runtime_data: canonical JSON, whose hash the evidence binds.
        parts: the evidence, by name; at least one, none empty.
    """

    kind: str
    runtime_data: bytes
    parts: Mapping[str, bytes]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))

    def encode(self) -> bytes:
        """Write the document.

        Raises:
            FormatError: an unknown or empty part, or more than 96 KiB.
        """
        _check_parts(self.parts)
        data = jcs.dumps(
            {
                "version": 1,
                "kind": self.kind,
                "runtime_data": b64.encode_url(self.runtime_data),
                "parts": {name: b64.encode_url(part) for name, part in self.parts.items()},
            }
        )
        if len(data) > MAX_SIZE:
            largest = max(self.parts, key=lambda name: len(self.parts[name]))
            raise FormatError(
                f"{_WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}; its largest part is {largest}, "
                f"{len(self.parts[largest])} bytes",
                code="too_large",
            )
        return data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a document in its one canonical form.

        Raises:
            UnsupportedError: another version.
            FormatError: not canonical, a member missing or unknown, an unknown or empty part, or more than
                96 KiB.
        """
        value = Members(jcs.loads_canonical(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        value.only(_MEMBERS)
        value.version(1)
        within = value.object("parts")
        names = within.entries(most=len(PARTS))
        parts = {name: b64.decode_url(within.text(name), f"{within.what}.{name}") for name in names}
        _check_parts(parts)
        return cls(
            kind=value.text("kind", limit=MAX_KIND),
            runtime_data=b64.decode_url(value.text("runtime_data"), f"{_WHAT}.runtime_data"),
            parts=parts,
        )


def _check_parts(parts: Mapping[str, bytes]) -> None:
    if unknown := sorted(set(parts) - set(PARTS)):
        raise FormatError(
            f"{_WHAT}.parts: want some of {', '.join(PARTS)}, got {unknown[0][:32]!a}", code="bad_type"
        )
    if empty := sorted(name for name in PARTS if parts.get(name) == b""):
        raise FormatError(f"{_WHAT}.parts.{empty[0]}: must not be empty", code="bad_length")
    if not parts:
        raise FormatError(f"{_WHAT}.parts: want at least 1, got 0", code="bad_length")
