"""IMA logs made by hand, and registers extended as Linux would."""

from __future__ import annotations

import hashlib

from kluis.formats.eventlog.ima import OLDEST, Record
from kluis.formats.tpm.algorithm import HashId

REGISTER = 10


def field(data: bytes) -> bytes:
    """A field, its size before it."""
    return len(data).to_bytes(4, "little") + data


def record(template: str, *fields: bytes, register: int = REGISTER) -> Record:
    """A record of any template with sizes before its fields."""
    data = b"".join(map(field, fields))
    return Record(register, hashlib.sha1(data).digest(), template, data, fields)


def of_file(name: str, content: bytes) -> Record:
    """A file, measured."""
    return record("ima-ng", b"sha256:\0" + hashlib.sha256(content).digest(), name.encode() + b"\0")


def of_buffer(name: str, content: bytes) -> Record:
    """A key, or a setting of the kernel, measured."""
    digest = b"sha256:\0" + hashlib.sha256(content).digest()
    return record("ima-buf", digest, name.encode() + b"\0", content)


def oldest(name: str, content: bytes) -> Record:
    """A file, measured by the first template."""
    fields = (hashlib.sha1(content).digest(), name.encode())
    digest = hashlib.sha1(fields[0] + fields[1].ljust(256, b"\0")).digest()
    return Record(REGISTER, digest, OLDEST, fields[0] + field(fields[1]), fields)


def violation(name: str) -> Record:
    """A file that changed while it was measured."""
    made = of_file(name, b"")
    return Record(made.register, bytes(20), made.template, made.data, made.fields)


def written(*records: Record) -> bytes:
    """A log of these."""
    return b"".join(each.encode() for each in records)


def extended(bank: HashId, *records: Record, padded: bool = False) -> bytes:
    """What the register holds after them."""
    held = bytes(bank.size)
    for each in records:
        own = hashlib.new(bank.label, each.hashed).digest()
        digest = each.digest.ljust(bank.size, b"\0") if padded else own
        digest = b"\xff" * bank.size if each.violated else digest
        held = hashlib.new(bank.label, held + digest).digest()
    return held
