"""Linux's configfs-tsm: one report as the files ``provider``, ``outblob`` and ``auxblob``.

The files travel as one CMW collection with these labels. Nothing here is verified.

Spec: Linux, ``Documentation/ABI/testing/configfs-tsm-report``.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import cmw
from kluis.formats.cmw import OCTETS, Collection, Part

PARTS: Final = ("provider", "outblob")
OPTIONAL: Final = ("auxblob",)
SEV: Final = "sev_guest"
TDX: Final = "tdx_guest"
CCA: Final = "arm_cca_guest"
PROVIDERS: Final = (SEV, TDX, CCA)
_WHAT: Final = "configfs-tsm report"


def matches(data: bytes) -> bool:
    """Whether bytes begin as a collection does, and have an output blob."""
    return cmw.matches(data) and b'"outblob":[' in data


def wrap(provider: str, outblob: bytes, auxblob: bytes | None = None) -> bytes:
    """Put the files of one report into a collection.

    Args:
        provider: such as ``sev_guest``.
        outblob: report or quote.
        auxblob: certificates that came along; None or empty where there are none.
    """
    parts = {"provider": Part("text/plain", provider.encode()), "outblob": Part(OCTETS, outblob)}
    if auxblob:
        parts["auxblob"] = Part(OCTETS, auxblob)
    return Collection(parts).encode()


def parse(data: bytes) -> tuple[str, bytes]:
    """Read such a collection.

    Returns:
        The provider, and the evidence: for SEV-SNP the report with the certificates after it.

    Raises:
        FormatError: malformed, or certificates where the provider has none.
        UnsupportedError: another provider.
    """
    parts = Collection.parse(data).values(PARTS, OPTIONAL)
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
