"""Parse Linux's runtime measurements of files and keys (IMA). Nothing here is verified.

Each record has a register, a SHA-1 digest of the template data, the template's name, and the data: fields,
each preceded by its size. Little-endian, as every little-endian machine writes it.

Spec: Linux, ``security/integrity/ima/ima_fs.c``, ``ima_template.c``, ``ima_template_lib.c``
(``binary_runtime_measurements``); Documentation "IMA Template Management Mechanism".
"""

from __future__ import annotations

from typing import Final

from kluis.errors import FormatError
from kluis.formats.encoding.reader import Reader
from kluis.frozen import frozen

WHAT: Final = "IMA log"
MAX_SIZE: Final = 2 << 20
MAX_RECORDS: Final = 32768
MAX_NAME: Final = 64
MAX_FIELDS: Final = 16
MAX_REGISTER: Final = 23
DIGEST: Final = 20
# The first template has no sizes before its fields, and hashes the name as 256 bytes.
OLDEST: Final = "ima"
_OLDEST_NAME: Final = 256
BUFFER: Final = "ima-buf"
_SIGNED: Final = ("ima-ng", "ima-ngv2", "ima-sig", "ima-sigv2", "ima-modsig", BUFFER)


@frozen
class Record:
    """One record.

    Attributes:
        register: the PCR that it extends, 0 to 23.
        digest: SHA-1 of ``hashed``; zeros if the file changed while Linux measured it.
        template: its name.
        data: the bytes in the log.
        fields: of the data: a digest, a name, and more, depending on the template.
    """

    register: int
    digest: bytes
    template: str
    data: bytes
    fields: tuple[bytes, ...]

    @property
    def hashed(self) -> bytes:
        """The bytes that the digest covers."""
        if self.template != OLDEST:
            return self.data
        return self.fields[0] + self.fields[1].ljust(_OLDEST_NAME, b"\0")

    @property
    def violated(self) -> bool:
        """Whether Linux marked the measurement as invalid; the register then does not contain it."""
        return not any(self.digest)

    @property
    def name(self) -> str:
        """Name of the file, keyring or setting; empty if the template is not known here."""
        if self.template != OLDEST and self.template not in _SIGNED:
            return ""
        return self.fields[1].rstrip(b"\0").decode("utf-8", "replace") if len(self.fields) > 1 else ""

    @property
    def measured(self) -> tuple[str, bytes]:
        """Algorithm and digest of the file or buffer; both empty if the template is not known."""
        if self.template == OLDEST:
            return "sha1", self.fields[0]
        if self.template not in _SIGNED or not self.fields:
            return "", b""
        label, nul, digest = self.fields[0].partition(b":\0")
        return (label.rpartition(b":")[2].decode("ascii", "replace"), digest) if nul else ("", b"")

    @property
    def buffer(self) -> bytes:
        """The measured bytes, if the template contains them; else empty."""
        return self.fields[2] if self.template == BUFFER and len(self.fields) > 2 else b""

    def encode(self) -> bytes:
        """Write the record."""
        name = self.template.encode()
        sized = b"" if self.template == OLDEST else len(self.data).to_bytes(4, "little")
        head = self.register.to_bytes(4, "little") + self.digest + len(name).to_bytes(4, "little")
        return head + name + sized + self.data


def matches(data: bytes) -> bool:
    """Whether bytes start like a record: a register, and a template name with one of Linux's prefixes."""
    register, size = int.from_bytes(data[:4], "little"), int.from_bytes(data[24:28], "little")
    return register <= MAX_REGISTER and len(OLDEST) <= size <= MAX_NAME and data[28:31] == OLDEST.encode()


def parse(data: bytes) -> tuple[Record, ...]:
    """Parse a log; no bytes may follow its last record.

    Args:
        data: at most 2 MiB and 32768 records.

    Raises:
        FormatError: not such a log.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    r = Reader(data, WHAT)
    records: list[Record] = []
    while r.left:
        if len(records) == MAX_RECORDS:
            raise FormatError(f"{WHAT}: more than {MAX_RECORDS} records", code="too_large")
        records.append(_record(r))
    return tuple(records)


def _record(r: Reader) -> Record:
    start = r.position
    register, digest = r.u32("register"), r.take(DIGEST, "digest")
    if register > MAX_REGISTER:
        raise FormatError(
            f"{WHAT} at {start:#x}: want a register 0..{MAX_REGISTER}, got {register}", code="bad_encoding"
        )
    size = r.u32("name size")
    if not 1 <= size <= MAX_NAME:
        raise FormatError(
            f"{WHAT} at {start:#x}: want a name of 1..{MAX_NAME} bytes, got {size}", code="bad_length"
        )
    raw = r.take(size, "name")
    if not raw.isascii() or not raw.decode().isprintable():
        raise FormatError(f"{WHAT} at {start:#x}: want a name in ASCII", code="bad_encoding")
    template = raw.decode()
    if template == OLDEST:
        value = r.take(DIGEST, "file digest")
        length = r.u32("file name size")
        if length > _OLDEST_NAME - 1:
            raise FormatError(
                f"{WHAT} at {start:#x}: want a file name of at most {_OLDEST_NAME - 1} bytes, got {length}",
                code="bad_length",
            )
        name = r.take(length, "file name")
        return Record(register, digest, template, value + length.to_bytes(4, "little") + name, (value, name))
    data = r.take(r.u32("data size"), "data")
    return Record(register, digest, template, data, _fields(data, start))


def _fields(data: bytes, start: int) -> tuple[bytes, ...]:
    r = Reader(data, WHAT, start)
    fields: list[bytes] = []
    while r.left:
        if len(fields) == MAX_FIELDS:
            raise FormatError(f"{WHAT} at {start:#x}: more than {MAX_FIELDS} fields", code="too_large")
        fields.append(r.take(r.u32("field size"), "field"))
    return tuple(fields)
