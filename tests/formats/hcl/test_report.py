"""HCL reports: fields and back, and every bound."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.hcl import report, runtime
from kluis.formats.hcl.report import MAX_SIZE, ReportType
from kluis.formats.tdx.tdreport import SIZE, TdReportStruct
from tests.formats.hcl.reports import hcl_report, runtime_json
from tests.strategies import PROPERTY, mutations
from tests.vectors import MISSING, Vector, found

GOOD = hcl_report()
DATA = GOOD.encode()
REAL = found("azure")
TYPES = {"SNP": ReportType.SNP, "TDX": ReportType.TDX}


@pytest.mark.parametrize("request_version", [1, 2])
def test_fields(request_version: int) -> None:
    """A report's fields come back; a later request has four bytes more before its runtime data."""
    made = hcl_report(request_version=request_version)
    assert report.parse(made.encode()) == made
    assert report.matches(made.encode())


@pytest.mark.skipif(not REAL, reason=MISSING)
@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.name)
def test_real(vector: Vector) -> None:
    """Real reports have the recorded fields, bind their runtime data, and are written as the same bytes."""
    data, known = vector.part("hcl_report"), vector.known
    if known["hash_type"] is None or not known["kids"]:
        with pytest.raises(FormatError):
            report.parse(data)
        return
    parsed = report.parse(data)
    assert parsed.encode() == data
    assert parsed.header.version == known["hcl_header_version"]
    assert (parsed.report_type, parsed.hash) == (TYPES[known["report_type"]], known["hash_type"].lower())
    assert parsed.runtime == vector.part("runtime_data")
    said = runtime.parse(parsed.runtime)
    assert list(said.key_ids) == known["kids"]
    assert (said.vm_id, dict(said.configuration)) == (known["vm_unique_id"], known["vm_configuration"])
    assert (said.user_data.hex() if said.user_data is not None else None) == (
        known["user_data"].lower() if known["user_data"] else None
    )
    binds = hashlib.new(parsed.hash, parsed.runtime).hexdigest() == known["report_data"][:64]
    assert binds == vector.expected["checks"]["runtime_hash_binds"]
    if parsed.report_type is ReportType.TDX:
        td = TdReportStruct.parse(parsed.hardware[:SIZE])
        assert td.encode() == parsed.hardware[:SIZE]
        attributes = td.td_info.attributes.to_bytes(8, "little").hex()
        assert (td.td_info.mrtd.hex(), td.mac.report_data.hex(), attributes) == (
            known["mrtd"],
            known["td_report_data"],
            known["tdattributes"],
        )


def _patched(offset: int, value: int) -> bytes:
    return DATA[:offset] + value.to_bytes(4, "little") + DATA[offset + 4 :]


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (bytes(MAX_SIZE + 1), "must be at most 32768", "too_large"),
        (b"X" + DATA[1:], "magic at 0x0", "bad_magic"),
        (_patched(4, 3), "version 3; supported", "bad_version"),
        (_patched(20, 1), "reserved at 0x14", "bad_encoding"),
        (_patched(1220, 3), "request version at 0x4c4: 3", "bad_version"),
        (_patched(1224, 6), "report type at 0x4c8", "bad_type"),
        (_patched(1228, 0), "hash type at 0x4cc: want", "bad_type"),
        (_patched(1228, 4), "hash type at 0x4cc: want", "bad_type"),
        (_patched(1232, 0xFFFFFFF0), "runtime size at 0x4d0: is 4294967280", "too_large"),
        (_patched(1232, 16000), "runtime data at 0x4d4: needs 16000 bytes", "truncated"),
        (DATA[:1000], "hardware report at 0x20", "truncated"),
        (DATA + b"\x01", "padding at", "trailing_data"),
    ],
)
def test_refused(data: bytes, message: str, code: str) -> None:
    """No length is followed past the end, and an unknown hash is no reason to skip the binding."""
    with pytest.raises(FormatError, match=message) as caught:
        report.parse(data)
    assert caught.value.code == code


@PROPERTY
@given(mutations(DATA, hcl_report(request_version=2).encode()))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = report.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data
    with_runtime = dataclasses.replace(parsed, padding=0)
    assert report.parse(with_runtime.encode()).runtime == parsed.runtime


KEY = {"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": "_" * 342}


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"{", "is not JSON", "bad_encoding"),
        (runtime_json(keys=[]), "want 1 key HCLAkPub, got 0", "bad_type"),
        (runtime_json(keys=[KEY, KEY]), "want 1 key HCLAkPub, got 2", "duplicate_key"),
        (runtime_json(keys=[KEY] * 9), "has 9 items", "too_large"),
        (
            runtime_json(keys=[{**KEY, "kty": "EC"}]),
            "want an RSA key of exponent 65537, got 'EC'",
            "bad_type",
        ),
        (runtime_json(keys=[{**KEY, "e": "Aw"}]), "want an RSA key of exponent 65537", "bad_type"),
        (runtime_json(keys=[{**KEY, "n": "!"}]), "base64url", "bad_encoding"),
        (runtime_json(modulus=1 << 1023), "want at least 2048 bits, got 1024", "bad_type"),
        (runtime_json(vm_configuration=None), "'vm-configuration' is missing", "bad_type"),
        (runtime_json(vm_configuration={"a": {}}), "is no plain value", "bad_type"),
        (runtime_json(vm_configuration={"vmUniqueId": 1}), "vmUniqueId: want text", "bad_type"),
        (runtime_json(vm_configuration={str(n): n for n in range(65)}), "has 65 members", "too_large"),
        (runtime_json(user_data="00"), "want 64 bytes, got 1", "bad_length"),
    ],
)
def test_runtime_refused(data: bytes, message: str, code: str) -> None:
    """Exactly one attestation key, of the only kind; values are not nested."""
    with pytest.raises(FormatError, match=message) as caught:
        runtime.parse(data)
    assert caught.value.code == code


def test_older_runtime_data() -> None:
    """Older hosts give no user data and no unique id."""
    said = runtime.parse(runtime_json(user_data=None, vm_configuration={}))
    assert (said.user_data, said.vm_id) == (None, "")
    assert not isinstance(said.configuration, dict)


def test_unsupported_is_not_malformed() -> None:
    """A kind of report that is not known is unsupported."""
    with pytest.raises(UnsupportedError):
        report.parse(_patched(1224, 9))
