"""IMA logs: the same bytes, or refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.eventlog import ima
from tests.formats.eventlog.imas import field, of_buffer, of_file, oldest, record, violation, written

FILE, KEY, OLD = of_file("/usr/bin/bash", b"sh"), of_buffer(".ima", b"key"), oldest("/init", b"init")
LOG = written(FILE, KEY, OLD, violation("/log"))


def test_what_linux_writes() -> None:
    """A record as the kernel lays it out, byte by byte."""
    content = field(b"sha256:\0" + b"d" * 32) + field(b"/init\0")
    digest = hashlib.sha1(content).digest()
    (found,) = ima.parse(b"\x0a\0\0\0" + digest + b"\x06\0\0\0ima-ng" + b"\x36\0\0\0" + content)
    assert (found.register, found.digest, found.template, found.name) == (10, digest, "ima-ng", "/init")
    assert found.measured == ("sha256", b"d" * 32)
    assert found.hashed == content
    assert (found.violated, found.buffer) == (False, b"")


def test_matches() -> None:
    """A record of a template of Linux's own, of a register that there is."""
    assert all(ima.matches(written(each)) for each in (FILE, KEY, OLD))
    for other in (
        b"",
        LOG[:30],
        b"\x18" + LOG[1:],
        written(record("own", b"a")),
        LOG[:24] + b"\x41" + LOG[25:],
    ):
        assert not ima.matches(other)


def test_templates() -> None:
    """Each is read by its fields; the oldest only has a digest and a name; an unknown one has no names."""
    found = ima.parse(LOG)
    assert written(*found) == LOG
    assert [each.name for each in found] == ["/usr/bin/bash", ".ima", "/init", "/log"]
    assert found[1].buffer == b"key"
    assert found[2].measured == ("sha1", hashlib.sha1(b"init").digest())
    assert found[3].violated
    (v2,) = ima.parse(written(record("ima-ngv2", b"verity:sha512:\0" + b"d" * 64, b"/f\0")))
    assert v2.measured == ("sha512", b"d" * 64)
    (other,) = ima.parse(written(record("own", b"a", b"b", b"c")))
    assert (other.name, other.measured, other.buffer) == ("", ("", b""), b"")
    (bare,) = ima.parse(written(record("ima-ng", b"no label")))
    assert (bare.name, bare.measured) == ("", ("", b""))


@given(st.integers(0, len(LOG)), st.binary(max_size=4))
def test_same_bytes_or_refused(at: int, put: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    data = LOG[:at] + put + LOG[at + len(put) :]
    try:
        found = ima.parse(data)
    except FormatError:
        return
    assert written(*found) == data
    for each in found:
        assert isinstance(each.name, str)
        assert isinstance(each.measured, tuple)
        assert isinstance(each.hashed, bytes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x18" + LOG[1:], "IMA log at 0x0: want a register 0..23, got 24"),
        (LOG[:24] + b"\0" + LOG[25:], "IMA log at 0x0: want a name of 1..64 bytes, got 0"),
        (LOG[:24] + b"\x41" + LOG[25:], "IMA log at 0x0: want a name of 1..64 bytes, got 65"),
        (LOG[:28] + b"\xff" + LOG[29:], "IMA log at 0x0: want a name in ASCII"),
        (LOG[:-1], "IMA log.data at 0x129: needs 53 bytes, 52 left"),
        (written(oldest("n" * 256, b"")), "IMA log at 0x0: want a file name of at most 255 bytes, got 256"),
        (written(record("x", *[b""] * 17)), "IMA log at 0x0: more than 16 fields"),
        (bytes((2 << 20) + 1), "IMA log: is 2097153 bytes, must be at most 2097152"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    """Invalid registers, names and sizes are refused."""
    with pytest.raises(FormatError) as refused:
        ima.parse(data)
    assert refused.value.message == message


def test_too_many() -> None:
    """A log has at most so many records."""
    with pytest.raises(FormatError) as refused:
        ima.parse(written(record("x")) * 32769)
    assert refused.value.message == "IMA log: more than 32768 records"
