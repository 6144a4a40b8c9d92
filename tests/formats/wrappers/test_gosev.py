"""go-sev-guest's attestations: put together again to the same bytes, from either form, or refused."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.snp import response, table
from kluis.formats.wrappers import gosev
from tests.formats.snp import samples
from tests.strategies import PROPERTY, mutations

# Field, offset, size: as sevsnp.proto and AMD's table have them, written down a second time.
NUMBERS = (
    *((1, 0x00, 4), (2, 0x04, 4), (3, 0x08, 8), (6, 0x30, 4), (7, 0x34, 4), (8, 0x38, 8), (9, 0x40, 8)),
    *((10, 0x48, 4), (18, 0x180, 8), (20, 0x1E0, 8), (21, 488, 1), (22, 489, 1), (23, 490, 1), (24, 492, 1)),
    *((25, 493, 1), (26, 494, 1), (27, 496, 8), (30, 504, 8), (31, 512, 8)),
)
BYTES = (
    *((4, 16, 16), (5, 32, 16), (11, 80, 64), (12, 144, 48), (13, 192, 32), (14, 224, 48), (15, 272, 48)),
    *((16, 320, 32), (17, 352, 32), (19, 416, 64), (28, 672, 512)),
)
NAMES = {
    **{1: "version", 2: "guest_svn", 3: "policy", 4: "family_id", 5: "image_id", 6: "vmpl"},
    **{7: "signature_algo", 8: "current_tcb", 9: "platform_info", 10: "signer_info", 11: "report_data"},
    **{12: "measurement", 13: "host_data", 14: "id_key_digest", 15: "author_key_digest", 16: "report_id"},
    **{17: "report_id_ma", 18: "reported_tcb", 19: "chip_id", 20: "committed_tcb", 21: "current_build"},
    **{22: "current_minor", 23: "current_major", 24: "committed_build", 25: "committed_minor"},
    **{26: "committed_major", 27: "launch_tcb", 28: "signature", 29: "cpuid1eax_fms"},
    **{30: "launch_mit_vector", 31: "current_mit_vector"},
}
CERTIFICATES = {1: (b"vcek", table.VCEK), 2: (b"ask", table.ASK), 3: (b"ark", table.ARK)}
CHAIN_NAMES = {1: "vcek_cert", 2: "ask_cert", 3: "ark_cert"}
Fields = dict[int, "int | bytes"]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def message(fields: Fields) -> bytes:
    """Fields as a message; a number that is 0 is left out, as every writer does."""
    out = b""
    for number, value in sorted(fields.items()):
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif value:
            out += varint(number << 3) + varint(value)
    return out


def fields_of(report: bytes) -> Fields:
    """A report's fields as go-sev-guest has them."""
    found: Fields = {number: report[at : at + size] for number, at, size in BYTES}
    found |= {number: int.from_bytes(report[at : at + size], "little") for number, at, size in NUMBERS}
    if found[1] != 2:
        family, model, stepping = report[0x188:0x18B]
        base = min(family, 15)
        found[29] = (family - base) << 20 | (model >> 4) << 16 | base << 8 | (model & 15) << 4 | stepping
    return found


def binary(fields: Fields, chain: Fields | None = None) -> bytes:
    outer: Fields = {1: message(fields)}
    return message(outer if chain is None else {**outer, 2: message(chain), 3: b"\x08\x01"})


def _quoted(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b"\"'\\" else f"\\{byte:03o}"


def text(fields: Fields, chain: Fields | None = None, end: str = "\n") -> bytes:
    """The text form, a field a line or all in one."""

    def of(name: str, value: int | bytes) -> str:
        if isinstance(value, int):
            return f"{name}:  {value}{end}" if value else ""
        quoted = "".join(
            f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b"\"'\\" else chr(byte) for byte in value
        )
        return f'{name}: "{quoted}"{end}'

    lines = "".join(of(NAMES[number], value) for number, value in sorted(fields.items()))
    out = f"report {{{end}{lines}}}{end}"
    if chain is not None:
        certificates = "".join(of(CHAIN_NAMES[number], value) for number, value in chain.items())
        out += f"certificate_chain: {{{end}{certificates}}}{end}"
        out += f"product {{ name: SEV_PRODUCT_MILAN machine_stepping {{ value: 1 }} }}{end}"
    return out.encode()


REPORT = samples.make(3).encode()
GOOD = fields_of(REPORT)
CHAIN: Fields = {number: data for number, (data, _) in CERTIFICATES.items()}
FORMS = (binary(GOOD), binary(GOOD, CHAIN), text(GOOD), text(GOOD, CHAIN), text(GOOD, CHAIN, " "))


@pytest.mark.parametrize("version", [2, 3, 5])
def test_reports(version: int) -> None:
    """Whatever its version, a report is put together to the bytes that were signed."""
    report = samples.make(version).encode()
    for data in (binary(fields_of(report)), text(fields_of(report)), text(fields_of(report), end=" ")):
        assert gosev.matches(data)
        assert gosev.parse(data) == report


def test_certificates() -> None:
    """The given certificates follow the report, as in a host's table."""
    for data in (FORMS[1], FORMS[3], FORMS[4]):
        read = response.parse(gosev.parse(data))
        assert read.table is not None
        assert {entry: read.table.get(entry) for _, entry in CERTIFICATES.values()} == {
            entry: data for data, entry in CERTIFICATES.values()
        }


def test_escapes() -> None:
    """Quoted bytes are read as the text form writes them, in parts too; a comment its tool never writes."""
    parts = b'"\\000\\x41\\n" \'b\\"\'\n"' + b"\\0" * 11 + b'"'
    line = re.compile(rb"family_id: .*")
    data = line.sub(lambda _: b"family_id: " + parts, text(GOOD))
    assert gosev.parse(data)[16:32] == b'\0A\nb"'.ljust(16, b"\0")
    for other in (b'"\\q"', b'"open', b"# comment", b"-1", b"1" * 21):
        with pytest.raises(FormatError):
            gosev.parse(line.sub(lambda _, other=other: b"family_id: " + other, text(GOOD)))


def test_what_stands_between_fields() -> None:
    """One comma or semicolon may follow a field, and no second one."""
    good = text(GOOD)
    for mark in (b";", b","):
        marked = good.replace(b"\n", mark + b"\n").replace(b"{" + mark, b"{")
        assert gosev.parse(marked) == gosev.parse(good)
        with pytest.raises(FormatError, match="want a field, each once"):
            gosev.parse(marked.replace(mark, 2 * mark, 1))


def test_the_longest_text_of_escapes_takes_little_memory() -> None:
    """What is quoted is matched without a way back."""
    data = b'report {version: 2 report_data: "' + rb"\0" * (500 << 10)
    tracemalloc.start()
    with pytest.raises(FormatError, match="is no text of a protocol buffer"):
        gosev.parse(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


W = gosev.WHAT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (binary({**GOOD, 4: b"short"}), f"{W}.report.family_id: want 16 bytes, got 5"),
        (binary({**GOOD, 21: 256}), f"{W}.report.current_build: want a number of 1 bytes"),
        (binary({**GOOD, 32: 1}), f"{W}.report: does not know field 32 of this type"),
        (binary({**GOOD, 12: 5}), f"{W}.report: does not know field 12 of this type"),
        (binary({**GOOD, 29: 1 << 28}), f"{W}.report.cpuid1eax_fms: is 0x10000000, no EAX"),
        (binary({n: v for n, v in GOOD.items() if n != 28}), f"{W}.report: field 28 is missing"),
        (binary(GOOD, {7: b"x"}), f"{W}: does not know field 7 of its chain"),
        (binary(GOOD) + message({1: b""}), f"{W}: field 1 appears twice"),
        (binary(GOOD) + message({4: b""}), f"{W}: want fields of [1, 2, 3], got [1, 4]"),
        (text(GOOD) + b"more: 1", f"{W}: does not know field 'more'"),
        (text(GOOD).replace(b"policy", b"what"), f"{W}.report: does not know field 'what'"),
        (text(GOOD) + b"report { }", f"{W} at {len(text(GOOD)) + 6:#x}: want a field, each once"),
        (text(GOOD) + b'"\xd5": 1', f"{W} at {len(text(GOOD)) + 3:#x}: want a field, each once"),
        (text(GOOD)[:-3], f"{W} at {len(text(GOOD)) - 3:#x}: is no text of a protocol buffer"),
        (text(GOOD) + b'product { a { b { c { d { } } } } }', f"{W}: messages more than 4 deep"),
        (b"\x0a" + bytes(1 << 20), f"{W}: is 1048577 bytes, must be at most 1048576"),
    ],
)  # fmt: skip
def test_refused(data: bytes, message: str) -> None:
    """What is lost, changed in kind, or not known is refused, never filled in."""
    with pytest.raises(FormatError) as caught:
        gosev.parse(data)
    assert str(caught.value) == message


def test_matches_nothing_else() -> None:
    """Neither another protocol buffer nor any text."""
    for other in (b"", b"\x0a\x05\x00\x01abc", b"report on the weather", b"version: 2", REPORT):
        assert not gosev.matches(other)


@given(mutations(*FORMS))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever the bytes, a report or our errors."""
    try:
        assert len(gosev.parse(data)) >= 1184
    except KluisError:
        return
