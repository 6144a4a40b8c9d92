"""Parse Google's go-sev-guest attestation: an SNP report, field by field, in protobuf. Nothing here is
verified.

The input is binary, or the text form that its tool prints. The report is reassembled. The verifier checks the
resulting bytes, so a field that was lost or changed makes the signature fail.

Spec: go-sev-guest 0.14, ``proto/sevsnp.proto``; Protocol Buffers documentation, "Text Format Language".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from kluis.errors import FormatError
from kluis.formats.encoding import protobuf
from kluis.formats.snp import report as snp_report
from kluis.formats.snp import table as certificate_table

WHAT: Final = "go-sev-guest attestation"
MAX_SIZE: Final = 1 << 20
MAX_DEPTH: Final = 4
_REPORT, _CHAIN, _PRODUCT = 1, 2, 3
_FMS: Final = 29
_FMS_AT: Final = 0x188
# Of a report's fields: name, offset, and size in bytes; numbers are little-endian.
_NUMBERS: Final = {
    1: ("version", 0x00, 4),
    2: ("guest_svn", 0x04, 4),
    3: ("policy", 0x08, 8),
    6: ("vmpl", 0x30, 4),
    7: ("signature_algo", 0x34, 4),
    8: ("current_tcb", 0x38, 8),
    9: ("platform_info", 0x40, 8),
    10: ("signer_info", 0x48, 4),
    18: ("reported_tcb", 0x180, 8),
    20: ("committed_tcb", 0x1E0, 8),
    21: ("current_build", 0x1E8, 1),
    22: ("current_minor", 0x1E9, 1),
    23: ("current_major", 0x1EA, 1),
    24: ("committed_build", 0x1EC, 1),
    25: ("committed_minor", 0x1ED, 1),
    26: ("committed_major", 0x1EE, 1),
    27: ("launch_tcb", 0x1F0, 8),
    30: ("launch_mit_vector", 0x1F8, 8),
    31: ("current_mit_vector", 0x200, 8),
}
_BYTES: Final = {
    4: ("family_id", 0x10, 16),
    5: ("image_id", 0x20, 16),
    11: ("report_data", 0x50, 64),
    12: ("measurement", 0x90, 48),
    13: ("host_data", 0xC0, 32),
    14: ("id_key_digest", 0xE0, 48),
    15: ("author_key_digest", 0x110, 48),
    16: ("report_id", 0x140, 32),
    17: ("report_id_ma", 0x160, 32),
    19: ("chip_id", 0x1A0, 64),
    28: ("signature", 0x2A0, 512),
}
_CERTIFICATES: Final = {
    1: ("vcek_cert", certificate_table.VCEK),
    6: ("vlek_cert", certificate_table.VLEK),
    2: ("ask_cert", certificate_table.ASK),
    3: ("ark_cert", certificate_table.ARK),
}
_FIELDS: Final = {name: number for number, (name, *_) in {**_NUMBERS, **_BYTES}.items()} | {
    "cpuid1eax_fms": _FMS
}
_CHAIN_FIELDS: Final = {name: number for number, (name, _) in _CERTIFICATES.items()}
_BINARY: Final = re.compile(rb"\x0a[\x80-\xff][\x01-\x7f]\x08[\x02-\x7f]", re.DOTALL)
_TEXT: Final = re.compile(rb"\s*report\s*:?\s*\{\s*version\s*:")
_TOKEN: Final = re.compile(
    rb"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+)|(?P<mark>[{}:;,])|"
    rb'(?P<quoted>"(?:[^"\\\n]++|\\.)*+"|\'(?:[^\'\\\n]++|\\.)*+\'))'
)
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_PLAIN: Final = {**_LETTERS, b'"': b'"', b"'": b"'", b"\\": b"\\", b"?": b"?"}

_Value: TypeAlias = "int | bytes | Mapping[str, _Value]"


def matches(data: bytes) -> bool:
    """Whether bytes start like an attestation, in either form."""
    return _BINARY.match(data) is not None or _TEXT.match(data[:256]) is not None


def parse(data: bytes) -> bytes:
    """Reassemble a report, 1184 bytes, followed by the certificates that came with it.

    Args:
        data: at most 1 MiB.

    Raises:
        FormatError: malformed, a field that is unknown or repeated, or a report whose fields differ.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    fields, chain = _of_text(data) if _TEXT.match(data[:256]) else _of_binary(data)
    report = _report(fields)
    snp_report.parse(report)
    parts = {}
    for number, value in chain.items():
        if number not in _CERTIFICATES or not isinstance(value, bytes):
            raise FormatError(f"{WHAT}: does not know field {number} of its chain", code="bad_type")
        if value:
            parts[_CERTIFICATES[number][1]] = value
    return report + certificate_table.build(parts).encode() if parts else report


_Numbered: TypeAlias = dict[int, "int | bytes"]


def _of_binary(data: bytes) -> tuple[_Numbered, _Numbered]:
    outer = _once(data, WHAT)
    known = {_REPORT, _CHAIN, _PRODUCT}
    if _REPORT not in outer or outer.keys() - known or any(not isinstance(v, bytes) for v in outer.values()):
        raise FormatError(f"{WHAT}: want fields of {sorted(known)}, got {sorted(outer)}", code="bad_type")
    report, chain = outer[_REPORT], outer.get(_CHAIN, b"")
    return _once(_bytes(report), f"{WHAT}.report"), _once(_bytes(chain), f"{WHAT}.certificate_chain")


def _once(data: bytes, what: str) -> _Numbered:
    fields: _Numbered = {}
    for field in protobuf.fields(data, what):
        if field.number in fields:
            raise FormatError(f"{what}: field {field.number} appears twice", code="duplicate_key")
        fields[field.number] = field.value
    return fields


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _report(fields: _Numbered) -> bytes:
    out = bytearray(snp_report.SIZE)
    what = f"{WHAT}.report"
    for number, value in fields.items():
        if number in _BYTES and isinstance(value, bytes):
            name, offset, size = _BYTES[number]
            if len(value) != size:
                raise FormatError(f"{what}.{name}: want {size} bytes, got {len(value)}", code="bad_length")
            out[offset : offset + size] = value
        elif number in _NUMBERS and isinstance(value, int):
            name, offset, size = _NUMBERS[number]
            if value >= 1 << 8 * size:
                raise FormatError(f"{what}.{name}: want a number of {size} bytes", code="bad_encoding")
            out[offset : offset + size] = value.to_bytes(size, "little")
        elif number == _FMS and isinstance(value, int):
            out[_FMS_AT : _FMS_AT + 3] = _family_model_stepping(value)
        else:
            raise FormatError(f"{what}: does not know field {number} of this type", code="bad_type")
    missing = sorted({1, *_BYTES} - fields.keys())
    if missing:
        raise FormatError(f"{what}: field {missing[0]} is missing", code="bad_type")
    return bytes(out)


def _family_model_stepping(eax: int) -> bytes:
    """Convert CPUID leaf 1's EAX to a report's form: family and model with their extensions."""
    family = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF)
    model = (eax >> 4 & 0xF) | (eax >> 16 & 0xF) << 4
    if eax & ~0x0FFF0FFF or family > 0xFF:
        raise FormatError(f"{WHAT}.report.cpuid1eax_fms: is {eax:#x}, no EAX", code="bad_encoding")
    return bytes((family, model, eax & 0xF))


def _of_text(data: bytes) -> tuple[_Numbered, _Numbered]:
    value = _Text(data).message(0)
    unknown = sorted(value.keys() - {"report", "certificate_chain", "product"})
    if unknown:
        raise FormatError(f"{WHAT}: does not know field {unknown[0]!a}", code="bad_type")
    return _read_named(value, "report", _FIELDS), _read_named(value, "certificate_chain", _CHAIN_FIELDS)


def _read_named(outer: Mapping[str, _Value], name: str, numbers: Mapping[str, int]) -> _Numbered:
    value = outer.get(name, {})
    if not isinstance(value, Mapping):
        raise FormatError(f"{WHAT}.{name}: want a message", code="bad_type")
    fields: _Numbered = {}
    for field, item in value.items():
        if field not in numbers or isinstance(item, Mapping):
            raise FormatError(f"{WHAT}.{name}: does not know field {field!a}", code="bad_type")
        fields[numbers[field]] = item
    return fields


class _Text:
    """Reads the text form: names, numbers, quoted bytes, and messages in braces."""

    def __init__(self, data: bytes) -> None:
        self.data = data.rstrip()
        self.at = 0

    def message(self, depth: int) -> dict[str, _Value]:
        """Fields up to the closing brace, or to the end of the text."""
        if depth > MAX_DEPTH:
            raise FormatError(f"{WHAT}: messages more than {MAX_DEPTH} deep", code="too_deep")
        members: dict[str, _Value] = {}
        while True:
            kind, text = self.field(depth)
            if members and text in (b";", b","):  # one after a field
                kind, text = self.field(depth)
            if kind == "end" or (depth and text == b"}"):
                return members
            name = text.decode() if kind == "name" else ""
            if not name or name in members:
                raise self.odd("want a field, each once")
            members[name] = self.value(depth)

    def field(self, depth: int) -> tuple[str, bytes]:
        """The token that starts a field or ends a message."""
        return self.token() if depth or self.at < len(self.data) else ("end", b"")

    def value(self, depth: int) -> _Value:
        kind, text = self.token()
        if text == b":":
            kind, text = self.token()
        if text == b"{":
            return self.message(depth + 1)
        if kind == "number" and len(text) < 21:
            return int(text)
        if kind == "name":  # an enumeration's value
            return text
        if kind != "quoted":
            raise self.odd("want a value")
        pieces = [_unquote(text)]
        while (following := _TOKEN.match(self.data, self.at)) and following["quoted"]:
            self.at = following.end()
            pieces.append(_unquote(following["quoted"]))
        return b"".join(pieces)

    def token(self) -> tuple[str, bytes]:
        match = _TOKEN.match(self.data, self.at)
        if match is None or match.lastgroup is None:
            raise self.odd("is no text of a protocol buffer")
        self.at = match.end()
        return match.lastgroup, match[match.lastgroup]

    def odd(self, problem: str) -> FormatError:
        return FormatError(f"{WHAT} at {self.at:#x}: {problem}", code="bad_encoding")


def _unquote(text: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        octal, digits, letter = match.groups()
        number = int(octal, 8) if octal else int(digits, 16) if digits else None
        if number is not None:
            return bytes((number & 0xFF,))
        if letter not in _PLAIN:
            raise FormatError(f"{WHAT}: an escape is not known", code="bad_encoding")
        return _PLAIN[letter]

    return _ESCAPE.sub(plain, text[1:-1])
