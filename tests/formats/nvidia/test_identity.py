"""The device that a certificate names."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.encoding import der
from kluis.formats.nvidia import identity
from kluis.formats.nvidia.identity import Identity
from tests.evidence.nvidia.forge import Forge
from tests.strategies import PROPERTY, mutations

GOOD = Forge.device_name().public_bytes()


def _read(data: bytes) -> Identity:
    return identity.read({identity.ALTERNATIVE_NAME: data}, "leaf")


def test_device() -> None:
    """Product line and serial."""
    assert _read(GOOD) == Identity("GH100", bytes.fromhex("48b02df44660da06"))


@pytest.mark.parametrize(
    "data",
    [
        GOOD + b"\0",
        Forge.device_name(b"ACME:GH100:48B02DF44660DA06").public_bytes(),
        Forge.device_name(b"NVIDIA:GH100:48b02df44660da06").public_bytes(),
        Forge.device_name(b"NVIDIA:GH100:48B02DF44660DA0600").public_bytes(),
        der.element(der.SEQUENCE, der.element(0x82, b"a.example")),
        der.element(der.SEQUENCE, GOOD[2:], GOOD[2:]),
        GOOD.replace(bytes.fromhex("831c"), bytes.fromhex("831d")),
    ],
)
def test_refused(data: bytes) -> None:
    """Another vendor, another kind of name, and two names are refused."""
    with pytest.raises(FormatError):
        _read(data)


def test_none() -> None:
    """A leaf must name its device."""
    with pytest.raises(FormatError) as caught:
        identity.read({}, "leaf")
    assert caught.value.message == "leaf: names no device"


@PROPERTY
@given(mutations(GOOD))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    try:
        _read(data)
    except FormatError:
        return
