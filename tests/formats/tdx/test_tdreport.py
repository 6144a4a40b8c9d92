"""TDREPORT: MAC, module and trust domain, each where the module's table puts it."""

from __future__ import annotations

import json
import os
from hashlib import sha384
from pathlib import Path

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.tdx import tdreport
from kluis.formats.tdx.tdreport import TdReportStruct
from tests.strategies import PROPERTY, mutations

ROOT = Path(__file__).resolve().parents[3]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
HCL_HEADER = 32


def _recorded() -> list[bytes]:
    """The TDREPORTs in the recorded reports of Azure's trust domains."""
    found = []
    for path in sorted((VECTORS / "azure").glob("*/meta.json")):
        meta = json.loads(path.read_text(encoding="utf-8"))
        if "TDX" in meta["format"] and "hcl_report" in meta["files"]:
            data = (path.parent / meta["files"]["hcl_report"]["file"]).read_bytes()
            found.append(data[HCL_HEADER : HCL_HEADER + tdreport.SIZE])
    return found


def _made() -> bytes:
    """A TDREPORT whose bytes that mean something are all different from zero."""
    mac = (
        b"\x81\1\2\0" + bytes(12) + b"\3" * 16 + b"\4" * 48 + b"\5" * 48 + b"\6" * 64 + bytes(32) + b"\7" * 32
    )
    info = b"\x08" * 128 + b"\x09" * 16 + bytes(95)
    domain = b"\x0a" * 448 + bytes(64)
    return mac + info + bytes(17) + domain


def test_fields() -> None:
    """Each field is in its part."""
    read = TdReportStruct.parse(_made())
    assert read.encode() == _made()
    assert (read.mac.type, read.mac.subtype, read.mac.version) == (tdreport.TYPE_TDX, 1, 2)
    assert (read.mac.cpusvn, read.mac.report_data, read.mac.mac) == (b"\3" * 16, b"\6" * 64, b"\7" * 32)
    assert (read.tcb_info.mrseam, read.tcb_info.tee_tcb_svn_2) == (b"\x08" * 48, b"\x09" * 16)
    assert (read.td_info.mrtd, read.td_info.servtd_hash) == (b"\x0a" * 48, b"\x0a" * 48)


@pytest.mark.parametrize("at", [4, 195, 256 + 144, 256 + 240, 512 + 460])
def test_reserved_bytes(at: int) -> None:
    """Bytes that no field claims are zero, between the parts as within them."""
    data = bytearray(_made())
    data[at] = 1
    with pytest.raises(FormatError) as caught:
        TdReportStruct.parse(bytes(data))
    assert f"reserved at {at:#x}: must be zero, found 0x01" in str(caught.value)


@pytest.mark.skipif(not _recorded(), reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")
def test_recorded() -> None:
    """Recorded reports read, write back, and have the hashes of their parts."""
    for data in _recorded():
        read = TdReportStruct.parse(data)
        assert read.encode() == data
        assert read.mac.type == tdreport.TYPE_TDX
        assert sha384(read.tcb_info.encode()).digest() == read.mac.tee_tcb_info_hash
        assert sha384(read.td_info.encode()).digest() == read.mac.tee_info_hash


@PROPERTY
@given(mutations(_made()))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        parsed = TdReportStruct.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
