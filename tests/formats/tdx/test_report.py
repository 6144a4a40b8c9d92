"""TD reports as quotes sign them: fields where Intel's tables put them."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.tdx.report import Attribute, TdReport, TdReport15, TdReport15Ex
from tests.strategies import PROPERTY, mutations

LONG = bytes(range(256)) * 4
SIZES = {TdReport: 584, TdReport15: 648, TdReport15Ex: 885}


@pytest.mark.parametrize("kind", SIZES)
def test_every_byte_is_of_a_field(kind: type[TdReport]) -> None:
    """A report has its size, no reserved byte, and writes back the same bytes."""
    assert SIZES[kind] == kind.SIZE
    data = LONG[: kind.SIZE]
    assert kind.parse(data).encode() == data
    for size in (kind.SIZE - 1, kind.SIZE + 1):
        with pytest.raises(FormatError):
            kind.parse(LONG[:size])


def test_fields() -> None:
    """Fields are where the table puts them."""
    read = TdReport15Ex.parse(LONG[:885])
    places = {
        "tee_tcb_svn": (0, 16),
        "mrseam": (16, 48),
        "mrsignerseam": (64, 48),
        "mrtd": (136, 48),
        "mrconfigid": (184, 48),
        "mrowner": (232, 48),
        "mrownerconfig": (280, 48),
        "rtmr0": (328, 48),
        "rtmr1": (376, 48),
        "rtmr2": (424, 48),
        "rtmr3": (472, 48),
        "report_data": (520, 64),
        "tee_tcb_svn_2": (584, 16),
        "mrservicetd": (600, 48),
        "td_id": (649, 32),
        "dev_info": (681, 48),
        "init_servtd_hash": (729, 48),
        "init_cpusvn": (785, 16),
        "init_tee_tcb_svn": (801, 16),
        "init_tee_fmspc": (817, 12),
        "cur_servtd_hash": (829, 48),
    }
    for name, (at, size) in places.items():
        assert getattr(read, name) == LONG[at : at + size], name
    numbers = {"seam_attributes": 112, "td_attributes": 120, "xfam": 128}
    numbers |= {"init_servtd_attr": 777, "cur_servtd_attr": 877}
    for name, at in numbers.items():
        assert getattr(read, name) == int.from_bytes(LONG[at : at + 8], "little"), name
    assert read.vmid == LONG[648]


def test_debug_and_version() -> None:
    """The lowest byte of the attributes is "under debug"; the second SVN is the module's version."""
    closed = (
        bytes(120) + int(Attribute.SEPT_VE_DISABLE | Attribute.PERFMON).to_bytes(8, "little") + bytes(456)
    )
    assert TdReport.parse(closed).debug is False
    assert TdReport.parse(closed[:120] + b"\x80" + closed[121:]).debug is True
    assert TdReport.parse(b"\4\1" + closed[2:]).module_version == 1


@PROPERTY
@given(mutations(LONG[:584], LONG[:648], LONG[:885]))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    for kind in SIZES:
        try:
            parsed = kind.parse(data)
        except KluisError:
            continue
        assert parsed.encode() == data
