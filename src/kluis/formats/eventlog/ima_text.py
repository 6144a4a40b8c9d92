"""Parse Linux's IMA measurements from their text form into records of the binary log. Nothing here is
verified.

A line has a register, a SHA-1 digest of the template, the template's name, and each field as text. The parser
rebuilds the bytes that the digest covers; if a line lost something, the digest does not match.

Spec: Linux, ``security/integrity/ima/ima_fs.c``, ``ima_ascii_measurements_show``; ``ima_template_lib.c``.
"""

from __future__ import annotations

import re
from typing import Final

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.eventlog.ima import BUFFER, DIGEST, MAX_RECORDS, MAX_REGISTER, MAX_SIZE, OLDEST, Record

WHAT: Final = "IMA text log"
# The fields after the digest and the name, each in hex; they may be empty.
_MORE: Final = {"ima-ng": 0, "ima-ngv2": 0, "ima-sig": 1, "ima-sigv2": 1, BUFFER: 1}
_LINE: Final = re.compile(rb"\s{0,2}[0-9]{1,2} [0-9a-f]{40} ima(?:-[a-z0-9]{1,16})? ")
_LEAST: Final = 3
_NUMBER: Final = re.compile(r"[0-9]{1,2}", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


def matches(data: bytes) -> bool:
    """Whether bytes start like such a line."""
    return _LINE.match(data) is not None


def parse(data: bytes) -> tuple[Record, ...]:
    """Parse the lines of a log.

    Args:
        data: at most 2 MiB and 32768 lines; empty ones are skipped.

    Raises:
        UnsupportedError: a template whose fields are not known here.
        FormatError: a line is not a record.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{WHAT} at {error.start:#x}: is no UTF-8", code="bad_encoding") from None
    if len(lines) > MAX_RECORDS:
        raise FormatError(f"{WHAT}: more than {MAX_RECORDS} records", code="too_large")
    return tuple(_record(line, number) for number, line in enumerate(lines, 1) if line.strip())


def _record(line: str, number: int) -> Record:
    what = f"{WHAT}, line {number}"
    parts = line.lstrip(" ").split(" ")
    if len(parts) < _LEAST:
        raise FormatError(f"{what}: want a register, a digest and a template, got less", code="bad_length")
    register, digest, template, *shown = parts
    if not _NUMBER.fullmatch(register) or int(register) > MAX_REGISTER:
        raise FormatError(f"{what}: want a register 0..{MAX_REGISTER}", code="bad_encoding")
    if template != OLDEST and template not in _MORE:
        raise UnsupportedError(f"{what}: template {template[:32]!a} is not read as text", code="bad_type")
    while shown and not shown[-1]:
        shown.pop()
    more = _MORE.get(template, 0)
    if not 2 <= len(shown) <= 2 + more:
        raise FormatError(f"{what}: want {2 + more} fields, got {len(shown)}", code="bad_length")
    octets = _octets(digest, what)
    if len(octets) != DIGEST:
        raise FormatError(f"{what}: want a digest of {DIGEST} bytes, got {len(octets)}", code="bad_length")
    name = shown[1].encode()
    if template == OLDEST:
        value = _octets(shown[0], what)
        if len(value) != DIGEST:
            raise FormatError(f"{what}: want a digest of {DIGEST} bytes, got {len(value)}", code="bad_length")
        data = value + len(name).to_bytes(4, "little") + name
        return Record(int(register), octets, template, data, (value, name))
    label, colon, measured = shown[0].rpartition(":")
    if not colon:
        raise FormatError(f"{what}: want ALGORITHM:DIGEST, got {shown[0][:32]!a}", code="bad_encoding")
    fields = [label.encode() + b":\0" + _octets(measured, what), name + b"\0"]
    fields += [_octets(each, what) for each in (*shown[2:], *[""] * (2 + more - len(shown)))]
    data = b"".join(len(each).to_bytes(4, "little") + each for each in fields)
    return Record(int(register), octets, template, data, tuple(fields))


def _octets(text: str, what: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise FormatError(f"{what}: {text[:32]!a} is not hex", code="bad_encoding")
    return bytes.fromhex(text)
