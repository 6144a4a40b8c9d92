"""PAGE_INFO: 112 bytes, chained by digest."""

from __future__ import annotations

from hypothesis import given

from kluis.errors import KluisError
from kluis.formats.snp.page_info import SIZE, PageInfo, PageType
from tests.strategies import PROPERTY, mutations

MADE = PageInfo(
    digest=b"d" * 48,
    contents=b"c" * 48,
    length=SIZE,
    page_type=PageType.VMSA,
    imi=0,
    vmpl3_perms=0,
    vmpl2_perms=0,
    vmpl1_perms=0,
    address=0xFFFFFFFFF000,
)


def test_places() -> None:
    """Digest and contents, then length, type and address."""
    assert MADE.encode() == b"d" * 48 + b"c" * 48 + bytes.fromhex("700002000000000000f0ffffffff0000")
    assert PageInfo.parse(MADE.encode()) == MADE


@PROPERTY
@given(mutations(MADE.encode()))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        read = PageInfo.parse(data)
    except KluisError:
        return
    assert read.encode() == data
