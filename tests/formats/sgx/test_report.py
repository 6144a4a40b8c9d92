"""SGX reports and target info: the processor's tables."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.encoding.layout import Struct
from kluis.formats.sgx.report import Report, ReportBody
from kluis.formats.sgx.targetinfo import TargetInfo, target_of
from tests.evidence.forge import DEBUG, Forge
from tests.strategies import PROPERTY, mutations

FORGE = Forge()
BODY = FORGE.body()


def test_sizes() -> None:
    """Body, report and target info have the processor's sizes."""
    assert (ReportBody.SIZE, Report.SIZE, TargetInfo.SIZE) == (384, 432, 512)


def test_target_of() -> None:
    """A target is everything that separates one enclave's report key from another's."""
    target = target_of(BODY)
    data = target.encode()
    assert data[:32] == BODY.mrenclave
    assert data[32:48] == BODY.encode()[48:64]
    assert data[64:128] == BODY.configid
    assert TargetInfo.parse(data) == target


def test_debug_is_a_flag() -> None:
    """Debug is one bit of the attributes."""
    assert not BODY.debug
    assert FORGE.body(flags=DEBUG).debug


GOODS: dict[type[Struct], bytes] = {
    ReportBody: BODY.encode(),
    Report: Report(body=BODY, key_id=bytes(32), mac=bytes(16)).encode(),
    TargetInfo: target_of(BODY).encode(),
}


@pytest.mark.parametrize("kind", GOODS, ids=lambda kind: kind.NAME)
def test_same_bytes_or_refused(kind: type[Struct]) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""

    @PROPERTY
    @given(mutations(GOODS[kind]))
    def changed(data: bytes) -> None:
        try:
            parsed = kind.parse(data)
        except FormatError:
            return
        assert parsed.encode() == data

    changed()
