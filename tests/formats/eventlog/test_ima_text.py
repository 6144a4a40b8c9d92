"""IMA's text: the same records as the binary log has, or refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.eventlog import ima, ima_text
from kluis.formats.eventlog.ima import OLDEST, Record
from tests.formats.eventlog.imas import of_buffer, of_file, oldest, record, violation, written
from tests.strategies import PROPERTY, mutations

DIGEST = b"sha256:\0" + b"d" * 32
SIGNED = record("ima-sig", DIGEST, b"/usr/bin/dd\0", b"\x03\x02\x04sig")
UNSIGNED = record("ima-sig", DIGEST, b"/bin/ls\0", b"")
VERITY = record("ima-sigv2", b"verity:sha512:\0" + b"v" * 64, b"/f\0", b"s")
ALL = (of_file("/init", b"init"), of_buffer(".ima", b"key"), oldest("/bin/sh", b"sh"), violation("/log"))
ALL += (SIGNED, UNSIGNED, VERITY)


def line(each: Record) -> str:
    """A record as Linux shows it."""
    if each.template == OLDEST:
        shown = [each.fields[0].hex(), each.fields[1].decode()]
    else:
        label, _, digest = each.fields[0].partition(b":\0")
        shown = [f"{label.decode()}:{digest.hex()}", each.fields[1].rstrip(b"\0").decode()]
        shown += [field.hex() for field in each.fields[2:]]
    return f"{each.register:2} {each.digest.hex()} {each.template} {' '.join(shown)}"


TEXT = "".join(f"{line(each)}\n" for each in ALL).encode()


def test_what_linux_shows() -> None:
    """A line of a machine's own log: its digest is over the bytes that are put together again."""
    digest = "f1125b940480d20ad841d26d5ea253edc0704b5ec1548c891edf212cb1a9365e"
    content = b"\x28\0\0\0sha256:\0" + bytes.fromhex(digest) + b"\x06\0\0\0/init\0"
    shown = f"10 {hashlib.sha1(content).hexdigest()} ima-ng sha256:{digest} /init\n".encode()
    assert ima_text.matches(shown)
    (found,) = ima_text.parse(shown)
    assert (found.register, found.name, found.measured) == (10, "/init", ("sha256", bytes.fromhex(digest)))
    assert hashlib.sha1(found.hashed).digest() == found.digest


def test_templates() -> None:
    """Every template gives the binary log's records, a signature that is not there among them."""
    assert ima_text.parse(TEXT) == ALL == ima.parse(written(*ALL))
    assert ima_text.parse(TEXT.replace(b"\n", b" \n\n")) == ALL
    assert ima_text.parse(b" 7" + TEXT[2:])[0].register == 7


def test_matches_nothing_else() -> None:
    """Neither the binary log nor another text."""
    for other in (b"", written(*ALL), b"10 files", TEXT.replace(b"ima", b"own"), b"100" + TEXT[2:]):
        assert not ima_text.matches(other)


GOOD = line(ALL[0])
W = "IMA text log, line 1"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("24" + GOOD[2:], FormatError, f"{W}: want a register 0..23"),
        (GOOD.replace("ima-ng", "ima-x"), UnsupportedError, f"{W}: template 'ima-x' is not read as text"),
        ("\u0663" + GOOD[2:], FormatError, f"{W}: want a register 0..23"),
        (GOOD + " 00", FormatError, f"{W}: want 2 fields, got 3"),
        (GOOD.rpartition(" ")[0], FormatError, f"{W}: want 2 fields, got 1"),
        (GOOD.replace("sha256:", "sha256"), FormatError, f"{W}: want ALGORITHM:DIGEST, got "),
        (GOOD.replace("sha256:", "sha256:0"), FormatError, f"{W}: "),
        (GOOD[:3] + GOOD[5:], FormatError, f"{W}: want a digest of 20 bytes, got 19"),
        (line(ALL[2]).replace(" ima ", " ima 00"), FormatError, f"{W}: want a digest of 20 bytes, got 21"),
        (line(SIGNED) + "x", FormatError, f"{W}: "),
        ("10 ", FormatError, f"{W}: want a register, a digest and a template, got less"),
    ],
)  # fmt: skip
def test_refused(text: str, error: type[FormatError], message: str) -> None:
    """Invalid registers, digests and fields are refused, with their line."""
    with pytest.raises(error) as caught:
        ima_text.parse(text.encode())
    assert str(caught.value).startswith(message)


def test_bounds() -> None:
    """A log has at most so many bytes and lines, and is UTF-8."""
    for data, message in (
        (bytes((2 << 20) + 1), "IMA text log: is 2097153 bytes, must be at most 2097152"),
        (b"\n" * 32768, "IMA text log: more than 32768 records"),
        (b"10 \xff", "IMA text log at 0x3: is no UTF-8"),
    ):
        with pytest.raises(FormatError) as caught:
            ima_text.parse(data)
        assert str(caught.value) == message


@given(mutations(TEXT))
@PROPERTY
def test_only_our_errors(data: bytes) -> None:
    """Whatever the bytes, records that the binary reader takes, or our errors."""
    try:
        found = ima_text.parse(data)
    except KluisError:
        return
    for each in found:
        assert isinstance(each.name, str)
        assert isinstance(each.hashed, bytes)
