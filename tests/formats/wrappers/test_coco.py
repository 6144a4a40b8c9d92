"""Evidence of Confidential Containers: quotes, and reports that are put together again."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.snp import response, table
from kluis.formats.snp.report import Report, ReportV5
from kluis.formats.wrappers import coco
from tests.formats.snp import samples
from tests.strategies import PROPERTY, mutations

REPORT = samples.make(2)
TURIN_TCB = bytes((1, 2, 3, 4, 0, 0, 0, 9))


def _tcb(raw: bytes, *, fmc: bool = False) -> dict[str, Any]:
    if fmc:
        return {"fmc": raw[0], "bootloader": raw[1], "tee": raw[2], "snp": raw[3], "microcode": raw[7]}
    return {"fmc": None, "bootloader": raw[0], "tee": raw[1], "snp": raw[6], "microcode": raw[7]}


def as_json(report: Report, *, old: bool = False) -> dict[str, Any]:
    """A report as the attester writes it: as its crate's third version did, or its sixth."""
    current = {"build": report.current_build, "minor": report.current_minor, "major": report.current_major}
    committed = {
        "build": report.committed_build,
        "minor": report.committed_minor,
        "major": report.committed_major,
    }
    flags = report.encode()[0x48]
    made: dict[str, Any] = {
        "version": report.version,
        "guest_svn": report.guest_svn,
        "policy": report.policy,
        "vmpl": report.vmpl,
        "sig_algo": report.signature_algo,
        "plat_info": int.from_bytes(report.encode()[0x40:0x48], "little"),
        **{name: list(report.encode()[at : at + size]) for name, (at, size) in coco._BYTES.items()},
        **{name: _tcb(report.encode()[at : at + 8]) for name, at in coco._TCBS.items()},
        "signature": {"r": list(report.encode()[0x2A0:0x2E8]), "s": list(report.encode()[0x2E8:0x330])},
    }
    if old:
        made |= {f"current_{name}": value for name, value in current.items()}
        made |= {f"committed_{name}": value for name, value in committed.items()}
        made |= {"_author_key_en": flags, "_reserved_0": 0, "_reserved_1": [0] * 24}
        made["signature"]["_reserved"] = [0] * 368
        for name in coco._TCBS:
            del made[name]["fmc"]
            made[name]["_reserved"] = [0] * 4
        return made
    made |= {"current": current, "committed": committed, "key_info": flags, "cpuid_fam_id": None}
    return {**made, "launch_mit_vector": None, "current_mit_vector": None}


def _evidence(report: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"attestation_report": report, **more}).encode()


GOOD = _evidence(as_json(REPORT))


@pytest.mark.parametrize("old", [True, False])
def test_report(old: bool) -> None:
    """A report is put together as it was, byte for byte."""
    data = _evidence(as_json(REPORT, old=old), cert_chain=None)
    assert coco.matches_snp(data)
    assert coco.parse_snp(data) == REPORT.encode()


def test_turin() -> None:
    """If the firmware has one more part, its versions are at other offsets."""
    report = samples.make(5, **dict.fromkeys(coco._TCBS, TURIN_TCB))
    assert isinstance(report, ReportV5)
    made = as_json(report)
    for name, at in coco._TCBS.items():
        made[name] = _tcb(report.encode()[at : at + 8], fmc=True)
    made |= {
        "cpuid_fam_id": report.cpuid_family,
        "cpuid_mod_id": report.cpuid_model,
        "cpuid_step": report.cpuid_stepping,
        "launch_mit_vector": report.launch_mit_vector,
        "current_mit_vector": report.current_mit_vector,
    }
    assert coco.parse_snp(_evidence(made)) == report.encode()


def test_hex_and_certificates() -> None:
    """Bytes may come as hex; certificates come along behind the report."""
    made = as_json(REPORT)
    made["measurement"] = bytes(made["measurement"]).hex()
    chain = [
        {"cert_type": "VCEK", "data": [1, 2]},
        {"cert_type": "ASK", "data": base64.b64encode(b"x").decode()},
    ]
    parsed = response.parse(coco.parse_snp(_evidence(made, cert_chain=chain)))
    assert parsed.report == REPORT
    assert parsed.table is not None
    assert (parsed.table.get(table.VCEK), parsed.table.get(table.ASK)) == (b"\1\2", b"x")


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in as_json(REPORT).items() if key != name}


@pytest.mark.parametrize(
    "data",
    [
        _evidence(as_json(REPORT), more=1),
        _evidence(as_json(REPORT) | {"more": 1}),
        _evidence(as_json(REPORT) | {"_reserved_9": [0, 1]}),
        _evidence(_without("measurement")),
        _evidence(_without("signature")),
        _evidence(_without("version")),
        _evidence(as_json(REPORT) | {"measurement": [0] * 47}),
        _evidence(as_json(REPORT) | {"measurement": [256] * 48}),
        _evidence(as_json(REPORT) | {"measurement": "AA" * 48}),
        _evidence(as_json(REPORT) | {"measurement": [True] * 48}),
        _evidence(as_json(REPORT) | {"guest_svn": None}),
        _evidence(as_json(REPORT) | {"launch_tcb": {"bootloader": 1, "other": 1}}),
        _evidence(as_json(REPORT) | {"launch_tcb": {"_reserved": [1]}}),
        _evidence(as_json(REPORT) | {"current": {"build": 1}}),
        _evidence(as_json(REPORT) | {"signature": {"t": [0]}}),
        _evidence(as_json(REPORT) | {"signature": {"_reserved": [1]}}),
        _evidence(as_json(REPORT) | {"version": 99}),
        _evidence(as_json(REPORT), cert_chain=[{"cert_type": "OTHER", "data": []}]),
        _evidence(as_json(REPORT), cert_chain=[{"cert_type": "ARK", "data": [1]}] * 2),
    ],
)
def test_lossy_is_refused(data: bytes) -> None:
    """What is missing, not known, or would not fit is refused, never filled in."""
    with pytest.raises(FormatError):
        coco.parse_snp(data)


@pytest.mark.parametrize("padded", [True, False])
def test_quote_of_a_service(padded: bool) -> None:
    """Azure's service gives a quote in base64url, padded or not."""
    text = base64.urlsafe_b64encode(b"\xfb\xef\xff quote").decode()
    data = json.dumps({"quote": text if padded else text.rstrip("=")}).encode()
    assert coco.parse_quote(data).quote == b"\xfb\xef\xff quote"


def test_token() -> None:
    """A CCA token is numbers or base64, without other members."""
    for token in (list(b"token"), base64.b64encode(b"token").decode()):
        data = json.dumps({"token": token}, indent=1).encode()
        assert coco.matches_cca(data)
        assert coco.parse_cca(data) == b"token"
    for other in (b'{"token":"","more":1}', b'{"tokens":[]}', b'["token"]', b"{}"):
        assert not coco.matches_cca(other)
    for data in (b'{"token":null}', b'{"token":[256]}', b'{"token":"AA"}'):
        with pytest.raises(FormatError):
            coco.parse_cca(data)


def test_quote() -> None:
    """A quote is base64 or numbers, with an optional event log."""
    for quote in (base64.b64encode(b"quote").decode(), list(b"quote")):
        data = json.dumps({"quote": quote, "cc_eventlog": base64.b64encode(b"log").decode()}).encode()
        assert coco.matches_quote(data)
        assert coco.parse_quote(data) == coco.Quote(b"quote", b"log")
    assert coco.parse_quote(b'{"quote":"AA==","cc_eventlog":null}').event_log is None
    for data in (
        b'{"quote":"A"}',
        b'{"quote":"AB"}',
        b'{"quote":"AA==","more":1}',
        b'{"quote":null}',
        b'{"quote":{}}',
        b"{}",
    ):
        with pytest.raises(FormatError):
            coco.parse_quote(data)


@PROPERTY
@given(mutations(GOOD))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        coco.parse_snp(data)
    except KluisError:
        return
