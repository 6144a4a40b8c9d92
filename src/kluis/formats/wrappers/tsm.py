"""Parse a report of Linux's configfs-tsm: the files ``provider``, ``outblob`` and ``auxblob``.

The files travel as one CMW collection with these labels, or as members of one object, in base64 or
base64url. Nothing here is verified.

Spec: Linux, ``Documentation/ABI/testing/configfs-tsm-report``; Veraison ratsd, ``docs/tsm-report.cddl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.ietf import cmw
from kluis.formats.ietf.cmw import OCTETS, Collection, Part

PARTS: Final = ("provider", "outblob")
OPTIONAL: Final = ("auxblob",)
SEV: Final = "sev_guest"
TDX: Final = "tdx_guest"
CCA: Final = "arm_cca_guest"
PROVIDERS: Final = (SEV, TDX, CCA)
MAX_SIZE: Final = 1 << 20
_WHAT: Final = "configfs-tsm report"
# Of a report that a service below the guest's kernel made: not supported here.
_PRIVILEGE: Final = "privilege_level"  # the requested level: the report states its own
_SERVICE: Final = ("service_provider", "manifestblob")


def matches(data: bytes) -> bool:
    """Whether bytes start like a collection that has an output blob."""
    return cmw.matches(data) and b'"outblob":[' in data


def wrap(provider: str, outblob: bytes, auxblob: bytes | None = None) -> bytes:
    """Wrap the files of one report into a collection.

    Args:
        provider: such as ``sev_guest``.
        outblob: report or quote.
        auxblob: certificates that came with it; None or empty if there are none.
    """
    parts = {"provider": Part("text/plain", provider.encode()), "outblob": Part(OCTETS, outblob)}
    if auxblob:
        parts["auxblob"] = Part(OCTETS, auxblob)
    return Collection(parts).encode()


def parse(data: bytes) -> tuple[str, bytes]:
    """Parse such a collection.

    Returns:
        The provider and the evidence; for SEV-SNP the report followed by the certificates.

    Raises:
        FormatError: malformed, or certificates from a provider that has none.
        UnsupportedError: another provider.
    """
    return _join(Collection.parse(data).values(PARTS, OPTIONAL))


def matches_object(data: bytes) -> bool:
    """Whether bytes look like an object with these files."""
    if data[:1] != b"{" or b'"provider"' not in data or b'"outblob"' not in data:
        return False
    return not cmw.matches(data)


def parse_object(data: bytes) -> tuple[str, bytes]:
    """Parse such an object, at most 1 MiB.

    Returns:
        As for :func:`parse`.

    Raises:
        FormatError: as for :func:`parse`, or an unknown member.
        UnsupportedError: as for :func:`parse`, or a report of a service below the guest's kernel (SVSM).
    """
    value = Members(jcs.loads(data, _WHAT, max_size=MAX_SIZE, max_depth=2), _WHAT)
    if services := [name for name in _SERVICE if name in value]:
        raise UnsupportedError(f"{_WHAT}.{services[0]}: a service's report is not handled", code="bad_type")
    value.only({*PARTS, *(name for name in (*OPTIONAL, _PRIVILEGE) if name in value)})
    blobs = {name: value.text(name, limit=MAX_SIZE) for name in ("outblob", *OPTIONAL) if name in value}
    parts = {name: b64.decode_either(text, f"{_WHAT}.{name}", most=MAX_SIZE) for name, text in blobs.items()}
    return _join({"provider": value.text("provider", limit=64).encode(), **parts})


def _join(parts: Mapping[str, bytes]) -> tuple[str, bytes]:
    name = parts["provider"].removesuffix(b"\n")
    provider = next((known for known in PROVIDERS if known.encode() == name), None)
    if provider is None:
        raise UnsupportedError(
            f"{_WHAT}.provider: want one of {list(PROVIDERS)}, got {name[:32]!a}", code="bad_type"
        )
    auxblob = parts.get("auxblob", b"")
    if auxblob and provider != SEV:
        raise FormatError(f"{_WHAT}.auxblob: {provider} has none", code="bad_type")
    return provider, parts["outblob"] + auxblob
