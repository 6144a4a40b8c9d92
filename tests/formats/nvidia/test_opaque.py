"""The fields of NVIDIA's own: read by type, each once."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.nvidia.opaque import MAX_FIELDS, Feature, Field, Opaque
from tests.strategies import PROPERTY, mutations


def _bytes(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(
        kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for kind, value in fields
    )


def _read(*fields: tuple[int, bytes]) -> Opaque:
    return Opaque.parse(_bytes(*fields), 2)


def test_fields() -> None:
    """Known fields are read, unknown ones are kept, all in their order."""
    raw = ((99, b"?"), (Field.PROJECT, b"G520\0"), (Field.PROJECT_SKU_MOD, b"\0\0"))
    opaque = _read(*raw)
    assert opaque.text(Field.PROJECT) == "G520"
    assert opaque.text(Field.PROJECT_SKU_MOD) is None
    assert opaque.text(Field.SKU) is None
    assert opaque.encode() == _bytes(*raw)


def test_counts() -> None:
    """A GPU counts every measurement, a switch fewer than it has."""
    assert _read((Field.MSRSCNT, bytes(8))).get(Field.MSRSCNT) == bytes(8)
    assert _read((Field.MSRSCNT, bytes(4))).get(Field.MSRSCNT) == bytes(4)


def test_vbios_version() -> None:
    """A GPU gives numbers, four of them reversed; a switch gives text."""
    assert _read((Field.VBIOS_VERSION, bytes.fromhex("00a5009601000000"))).vbios_version == "96.00.A5.00.01"
    assert _read((Field.VBIOS_VERSION, b"96.10.55.00.01")).vbios_version == "96.10.55.00.01"
    assert _read().vbios_version is None


def test_states() -> None:
    """States are the device's values, or None if there is no value."""
    on = _read(
        (Field.FEATURE_FLAG, b"\2\0"),
        (Field.PROTECTED_PCIE_STATUS, b"\xaa"),
        (Field.SWITCH_PDI, bytes(range(16))),
    )
    assert (on.feature, on.protected_pcie) == (Feature.PROTECTED_PCIE, True)
    assert on.pdis == (bytes(range(8)), bytes(range(8, 16)))
    assert (_read().feature, _read().protected_pcie, _read().pdis) == (None, None, ())
    assert _read((Field.PROTECTED_PCIE_STATUS, b"\x55")).protected_pcie is False


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([(1, b""), (1, b"")], "duplicate_key"),
        ([(Field.FWID, bytes(47))], "bad_length"),
        ([(Field.MSRSCNT, bytes(12))], "bad_length"),
        ([(Field.MSRSCNT, bytes(7))], "bad_length"),
        ([(n, b"") for n in range(MAX_FIELDS + 1)], "too_large"),
    ],
)
def test_refused(fields: list[tuple[int, bytes]], code: str) -> None:
    """A field twice, of the wrong size, or one too many."""
    with pytest.raises(FormatError) as caught:
        _read(*fields)
    assert caught.value.code == code


HEADER = b"NVDAOD\0\0\2\1\0\0"


def _typed(*fields: tuple[int, int, bytes]) -> bytes:
    numbers = ((kind, value_type, len(value), value) for kind, value_type, value in fields)
    return HEADER + b"".join(
        b"".join(number.to_bytes(2, "little") for number in (kind, value_type, size)) + value
        for kind, value_type, size, value in numbers
    )


def test_later_form() -> None:
    """A header gives a version, each field the type of its value; all is written back as it was."""
    data = _typed((Field.VBIOS_VERSION, 0x86, bytes.fromhex("00d900960f000000")), (0x55, 0x85, b"\x55"))
    opaque = Opaque.parse(data, 2)
    assert opaque.header is not None
    assert (opaque.header.major, opaque.header.minor) == (2, 1)
    assert opaque.vbios_version == "96.00.D9.00.0F"
    assert dict(opaque.value_types) == {Field.VBIOS_VERSION: 0x86, 0x55: 0x85}
    assert opaque.encode() == data
    assert Opaque.parse(HEADER, 2).encode() == HEADER


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"NVDAOD\1\0\2\0\0\0", "bad_version"),
        (b"NVDAOD\0\0\3\0\0\0", "bad_version"),
        (b"NVDAOD\0\0\2\0\1\0", "bad_encoding"),
        (HEADER[:-1], "truncated"),
        (HEADER + b"\1\0\0\0\1\0", "truncated"),
        (HEADER + b"\1\0\0", "truncated"),
        (_typed((1, 0, b""), (1, 0, b"")), "duplicate_key"),
        (_typed((Field.FWID, 1, bytes(47))), "bad_length"),
        (_typed(*((n, 0, b"") for n in range(MAX_FIELDS + 1))), "too_large"),
    ],
)
def test_later_form_refused(data: bytes, code: str) -> None:
    """Another profile or version, unknown bytes, and fields that are truncated or repeated are refused."""
    with pytest.raises(FormatError) as caught:
        Opaque.parse(data, 2)
    assert caught.value.code == code


@PROPERTY
@given(mutations(_typed((1, 2, b"x"), (6, 0x86, bytes(8)))))
def test_same_bytes_or_refused(data: bytes) -> None:
    """Whatever parses is written as the same bytes; only our errors escape."""
    try:
        parsed = Opaque.parse(data, 2)
    except KluisError:
        return
    assert parsed.encode() == data


def test_field_cut_short() -> None:
    """Neither a head nor a value may be cut."""
    for data in (b"\1", b"\1\0\1", b"\1\0\1\0"):
        with pytest.raises(FormatError) as caught:
            Opaque.parse(data, 2)
        assert caught.value.code == "truncated"


def test_values_that_are_none() -> None:
    """Text must be text, ids are 8 bytes, the feature is one of three."""
    with pytest.raises(FormatError):
        _read((Field.DRIVER_VERSION, b"59\xff")).text(Field.DRIVER_VERSION)
    with pytest.raises(FormatError):
        _ = _read((Field.SWITCH_PDI, bytes(9))).pdis
    for value in (b"\3\0", b"\0", b""):
        with pytest.raises(UnsupportedError):
            _ = _read((Field.FEATURE_FLAG, value)).feature
