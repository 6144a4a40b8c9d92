"""Reports of VBS enclaves: what they say, and what is signed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import vbs

REPORT = vbs.Report(
    report_size=224, report_version=1, enclave_data=b"d" * 64, owner_id=bytes(32), unique_id=bytes(32),
    author_id=bytes(32), family_id=bytes(16), image_id=bytes(16), enclave_svn=4, secure_kernel_svn=1,
    platform_svn=2, flags=1, signing_level=1, enclave_type=1,
).encode()  # fmt: skip
HEADER = vbs.Header(package_size=20 + 224 + 7 + 3, version=1, signature_scheme=1, signature_size=3).encode()
MADE = HEADER + REPORT + b"modules" + b"sig"


def test_taken_apart() -> None:
    """The signature is over the report and what was loaded."""
    found = vbs.parse(MADE)
    assert found.report.enclave_data == b"d" * 64
    assert found.report.debug is True
    assert found.signed == REPORT + b"modules"
    assert found.signature == b"sig"


@given(st.integers(0, len(MADE)), st.binary(max_size=4))
def test_only_our_errors(at: int, put: bytes) -> None:
    """Whatever bytes there are, only our errors escape."""
    try:
        vbs.parse(MADE[:at] + put + MADE[at + len(put) :])
    except FormatError:
        return


def test_sizes_and_schemes() -> None:
    """A size that is not the package's, and another scheme, are refused."""
    with pytest.raises(FormatError) as refused:
        vbs.parse(MADE + b"\0")
    assert refused.value.message == "VBS report.package_size at 0x0: want 255, got 254"
    with pytest.raises(UnsupportedError):
        vbs.parse(MADE[:8] + b"\2" + MADE[9:])
    with pytest.raises(FormatError):
        vbs.parse(MADE[:12] + b"\xff" + MADE[13:])
