"""Parse the data of an event by its type, and write it back. Nothing here is verified.

Spec: TCG "PC Client Platform Firmware Profile", "UEFI_VARIABLE_DATA",
"TCG_PCClientTaggedEvent", "StartupLocality". Little-endian.
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding import guid
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

STARTUP_LOCALITY: Final = b"StartupLocality\0"
GLOBAL_VARIABLES: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


@frozen
class Variable:
    """A UEFI variable, as measured.

    Attributes:
        vendor: GUID of its namespace.
        name: in UEFI, without a NUL.
        value: bytes.
    """

    vendor: str
    name: str
    value: bytes

    def encode(self) -> bytes:
        """Write UEFI_VARIABLE_DATA."""
        name = self.name.encode("utf-16-le")
        sizes = (len(name) // 2).to_bytes(8, "little") + len(self.value).to_bytes(8, "little")
        return guid.encode(self.vendor) + sizes + name + self.value


@frozen
class Tagged:
    """A tagged event.

    Attributes:
        tag: 32 bits, chosen by the producer.
        value: bytes.
    """

    tag: int
    value: bytes

    def encode(self) -> bytes:
        """Write TCG_PCClientTaggedEvent."""
        return self.tag.to_bytes(4, "little") + len(self.value).to_bytes(4, "little") + self.value


def parse_variable(data: bytes) -> Variable:
    """Read UEFI_VARIABLE_DATA; nothing may follow it.

    Raises:
        FormatError: sizes that do not fit, or a name that is not UTF-16.
    """
    r = Reader(data, "UEFI variable")
    vendor = guid.decode(r.take(guid.SIZE, "vendor"))
    units, size = r.u64("name size"), r.u64("value size")
    # Both are 64 bits under an attacker's control: each is compared with the remaining size before anything
    # is read.
    raw = r.take(2 * units, "name")
    value = r.take(size, "value")
    r.end()
    try:
        return Variable(vendor, raw.decode("utf-16-le"), value)
    except UnicodeDecodeError:
        raise FormatError("UEFI variable.name at 0x20: is not UTF-16", code="bad_encoding") from None


def parse_tagged(data: bytes) -> Tagged:
    """Read a TCG_PCClientTaggedEvent; nothing may follow it.

    Raises:
        FormatError: a size that does not fit.
    """
    r = Reader(data, "tagged event")
    tag = r.u32("tag")
    value = r.take(r.u32("size"), "value")
    r.end()
    return Tagged(tag, value)


def startup_locality(data: bytes) -> int | None:
    """The locality that started the TPM, 0, 3 or 4; None if the event does not state it.

    Raises:
        FormatError: another locality, or another size.
    """
    if not data.startswith(STARTUP_LOCALITY):
        return None
    r = Reader(data, "startup locality")
    r.take(len(STARTUP_LOCALITY), "signature")
    locality = r.u8("locality")
    r.end()
    if locality not in (0, 3, 4):
        raise FormatError(f"startup locality: want 0, 3 or 4, got {locality}", code="bad_encoding")
    return locality
