"""Bit fields: each bit has its name, reserved bits are refused, status bits are reported."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.snp.flags import Flags, GuestPolicy, PlatformInfo, SigningKey
from tests.strategies import PROPERTY

POLICY = {
    "smt": 16,
    "migrate_ma": 18,
    "debug": 19,
    "single_socket": 20,
    "cxl": 21,
    "aes_256_xts": 22,
    "rapl_disabled": 23,
    "ciphertext_hiding": 24,
    "page_swap_disabled": 25,
}
INFO = {
    "smt": 0,
    "tsme": 1,
    "ecc": 2,
    "rapl_disabled": 3,
    "ciphertext_hiding": 4,
    "alias_check_complete": 5,
    "tio": 7,
}


def _on(value: object) -> list[str]:
    assert dataclasses.is_dataclass(value)
    return [f.name for f in dataclasses.fields(value) if getattr(value, f.name) is True]


@pytest.mark.parametrize("name", POLICY)
def test_policy_bits(name: str) -> None:
    """Each bit of a guest policy sets its one field."""
    policy = GuestPolicy.parse(1 << 17 | 1 << POLICY[name] | 0x0123)
    assert (_on(policy), policy.abi_major, policy.abi_minor) == ([name], 1, 0x23)
    assert policy.encode() == 1 << 17 | 1 << POLICY[name] | 0x0123


@pytest.mark.parametrize("value", [0, 1 << 16, 1 << 17 | 1 << 26, 1 << 17 | 1 << 63])
def test_policy_refuses(value: int) -> None:
    """Bit 17 is always on, and nothing above bit 25 is known."""
    with pytest.raises(FormatError) as caught:
        GuestPolicy.parse(value)
    assert str(caught.value) == f"SNP guest policy: want bit 17 on and none above 25, got {value:#x}"
    assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize("name", INFO)
def test_platform_bits(name: str) -> None:
    """Each bit of the platform's information sets its one field."""
    assert _on(PlatformInfo.parse(1 << INFO[name])) == [name]


def test_unknown_platform_bits_are_told() -> None:
    """New versions set new status bits (bit 6 on real Turin): they are reported, and refuse nothing."""
    assert PlatformInfo.parse(0x67).unknown == 1 << 6
    assert PlatformInfo.parse(0x167).unknown == 1 << 6 | 1 << 8


@PROPERTY
@given(st.integers(0, 2**64 - 1))
def test_platform_round_trip(value: int) -> None:
    """Whatever the bits are, they are written again."""
    assert PlatformInfo.parse(value).encode() == value


@PROPERTY
@given(st.integers(0, 2**27 - 1))
def test_policy_same_or_refused(value: int) -> None:
    """A policy is written as it was read, or refused."""
    try:
        policy = GuestPolicy.parse(value)
    except FormatError:
        return
    assert policy.encode() == value


def test_flags() -> None:
    """The signing key is one of three, and nothing above it is set."""
    keys = {0: SigningKey.VCEK, 1: SigningKey.VLEK, 7: SigningKey.NONE}
    for value in range(256):
        if value >> 2 in keys:
            flags = Flags.parse(value)
            assert flags.encode() == value
            assert (flags.author_key, flags.mask_chip_key) == (bool(value & 1), bool(value & 2))
            assert flags.signing_key == keys[value >> 2]
            continue
        with pytest.raises(FormatError) as caught:
            Flags.parse(value)
        assert str(caught.value) == (
            f"SNP report flags: want signing key 0, 1 or 7 and none of bits 31:5, got {value:#x}"
        )
