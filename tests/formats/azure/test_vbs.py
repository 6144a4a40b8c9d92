"""Reports of VBS enclaves: what they say, and what is signed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.azure import vbs

REPORT = vbs.Report(
    report_size=224 + 7, report_version=1, enclave_data=b"d" * 64, owner_id=bytes(32), unique_id=bytes(32),
    author_id=bytes(32), family_id=bytes(16), image_id=bytes(16), enclave_svn=4, secure_kernel_svn=1,
    platform_svn=2, flags=1, signing_level=1, enclave_type=16,
)  # fmt: skip
HEADER = vbs.Header(
    package_size=24 + 224 + 7 + 3, version=1, signature_scheme=1, statement_size=224 + 7, signature_size=3
)
MADE = HEADER.encode() + REPORT.encode() + b"modules" + b"sig"


def test_taken_apart() -> None:
    """The signature is over the report and what was loaded."""
    found = vbs.parse(MADE)
    assert found.report.enclave_data == b"d" * 64
    assert found.report.debug is True
    assert found.signed == REPORT.encode() + b"modules"
    assert found.signature == b"sig"


def test_the_sdks_own_words() -> None:
    """A package as Windows' headers lay it out, field by field: six numbers, a statement, a signature."""
    numbers = [264, 1, 1, 232, 8, 0]
    identity = [bytes([number]) * size for number, size in enumerate((32, 32, 32, 16, 16), 1)]
    tail = [7, 8, 9, 4, 10, 16]
    statement = b"".join(
        (
            *(number.to_bytes(4, "little") for number in (232, 1)),
            b"e" * 64,
            *identity,
            *(number.to_bytes(4, "little") for number in tail),
            b"\1\0\0\0\0\0\0\0",
        )
    )
    package = b"".join(number.to_bytes(4, "little") for number in numbers) + statement + b"8 bytes!"
    found = vbs.parse(package)
    report = found.report
    assert (found.signed, found.signature) == (statement, b"8 bytes!")
    assert [
        report.owner_id,
        report.unique_id,
        report.author_id,
        report.family_id,
        report.image_id,
    ] == identity
    assert [
        report.enclave_svn, report.secure_kernel_svn, report.platform_svn, report.flags, report.signing_level,
        report.enclave_type,
    ] == tail  # fmt: skip
    assert report.debug is True


@pytest.mark.parametrize(("flags", "debug"), [(0, False), (1, True), (2, True), (4, True), (8, False)])
def test_debug(flags: int, debug: bool) -> None:
    """Full debug, dynamic debug that is on, and dynamic debug that can be turned on, are all debug."""
    assert dataclasses.replace(REPORT, flags=flags).debug is debug


@given(st.integers(0, len(MADE)), st.binary(max_size=4))
def test_only_our_errors(at: int, put: bytes) -> None:
    """Whatever bytes there are, only our errors escape."""
    try:
        vbs.parse(MADE[:at] + put + MADE[at + len(put) :])
    except FormatError:
        return


def changed(header: dict[str, int] | None = None, **report: int) -> bytes:
    """A package with other numbers."""
    return (
        dataclasses.replace(HEADER, **(header or {})).encode()
        + dataclasses.replace(REPORT, **report).encode()  # type: ignore[arg-type]
        + b"modulessig"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (MADE + b"\0", "VBS report.package_size at 0x0: want 259, got 258"),
        (changed({"version": 2}), "VBS report.version at 0x4: want 1, got 2"),
        (changed({"signature_scheme": 2}), "VBS report.signature_scheme at 0x8: want 1, got 2"),
        (changed({"signature_size": 2}), "VBS report at 0x101: 1 bytes after the end"),
        (changed({"signature_size": 4}), "VBS report.signature at 0xff: needs 4 bytes, 3 left"),
        (
            changed({"statement_size": 223, "signature_size": 11}),
            "VBS report.statement_size at 0xc: want at least 224, got 223",
        ),
        (changed(report_version=2), "VBS report.report_version at 0x1c: want 1, got 2"),
        (changed(report_size=232), "VBS report.report_size at 0x18: want 224..231, got 232"),
        (changed(report_size=223), "VBS report.report_size at 0x18: want 224..231, got 223"),
        (MADE[:20] + b"\1" + MADE[21:], "VBS report header.reserved at 0x14: must be zero, found 0x01"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    """Sizes that are not the package's, other versions, and another scheme."""
    with pytest.raises((FormatError, UnsupportedError)) as refused:
        vbs.parse(data)
    assert refused.value.message == message
