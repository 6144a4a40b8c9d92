"""The PCK certificate's SGX extension: any order, nothing missing, twice or unknown."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.encoding import der
from kluis.formats.sgx import extension
from kluis.formats.sgx.extension import Configuration, SgxExtension
from tests.strategies import PROPERTY, mutations

GOOD = SgxExtension(
    ppid=bytes(range(16)),
    components=(1, 255, 0, 128, *range(12)),
    pcesvn=300,
    cpusvn=bytes(range(16)),
    pceid=b"\0\1",
    fmspc=bytes.fromhex("00a067110000"),
    sgx_type=1,
    platform_instance_id=bytes(range(16, 32)),
    configuration=Configuration(dynamic_platform=True, cached_keys=False, smt_enabled=True),
    order=(1, 2, 3, 4, 5, 6, 7),
)
DATA = GOOD.encode()
PROCESSOR = dataclasses.replace(GOOD, platform_instance_id=None, configuration=None, order=(1, 2, 3, 4, 5))


def test_round_trip() -> None:
    """Both profiles, in any order of their entries, read back and write the same bytes."""
    shuffled = dataclasses.replace(GOOD, order=(7, 5, 1, 2, 6, 4, 3), tcb_order=(18, 17, *range(1, 17)))
    for value in (GOOD, PROCESSOR, shuffled):
        assert extension.parse(value.encode()) == value
        assert extension.parse(value.encode()).encode() == value.encode()


def _pair(suffix: str, value: bytes) -> bytes:
    return der.element(der.SEQUENCE, der.oid(f"{extension.OID}.{suffix}"), value)


def _with(*pairs: bytes) -> bytes:
    return der.element(der.SEQUENCE, der.parse(PROCESSOR.encode(), "x").content, *pairs)


PPID = _pair("1", der.element(der.OCTET_STRING, bytes(16)))
FLAGS = [_pair(f"7.{i}", der.boolean(True)) for i in (1, 2, 3)]
REFUSED = {
    "twice": (_with(PPID), "SGX extension: an entry appears twice", "duplicate_key"),
    "missing": (
        dataclasses.replace(PROCESSOR, order=(1, 2, 3, 5)).encode(),
        "SGX extension: entry 4 is missing",
        "truncated",
    ),
    "component missing": (
        dataclasses.replace(GOOD, tcb_order=tuple(range(1, 18))).encode(),
        "SGX extension.2: entry 18 is missing",
        "truncated",
    ),
    "unknown": (
        _with(_pair("8", der.boolean(True))),
        f"SGX extension: entry {der.oid(extension.OID + '.8').hex()} is not known",
        "bad_type",
    ),
    "type": (
        dataclasses.replace(GOOD, sgx_type=3).encode(),
        "SGX extension.5: want 0..2, got 03",
        "bad_encoding",
    ),
    "component": (
        dataclasses.replace(GOOD, components=(256, *GOOD.components[1:])).encode(),
        "SGX extension.2: want 0..255, got 0100",
        "bad_encoding",
    ),
    "fmspc": (
        dataclasses.replace(GOOD, fmspc=bytes(5)).encode(),
        "SGX extension.4: want 6 bytes, got 5",
        "bad_length",
    ),
    "flags in another order": (
        _with(_pair("7", der.element(der.SEQUENCE, FLAGS[1], FLAGS[0], FLAGS[2]))),
        "SGX extension.7: entries are out of order",
        "bad_encoding",
    ),
    "no sequence": (der.integer(1), "SGX extension: want tag 0x30, got 0x02", "bad_type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Each failure names the entry."""
    data, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        extension.parse(data)
    assert (str(caught.value), caught.value.code) == (message, code)


@PROPERTY
@given(mutations(DATA, PROCESSOR.encode()))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    try:
        parsed = extension.parse(data)
    except KluisError:
        return
    assert parsed.encode() == data
