"""The DICE extension of a leaf, in both forms."""

from __future__ import annotations

import pytest
from hypothesis import given

from kluis.errors import FormatError
from kluis.formats.encoding import der
from kluis.formats.nvidia import dice
from kluis.formats.nvidia.dice import Dice, Flag
from tests.evidence.nvidia.forge import FWID, composite, fwid, tcb_info
from tests.strategies import PROPERTY, mutations

OLD = composite().value
NEW = tcb_info().value


def _old(data: bytes) -> Dice | None:
    return dice.read({dice.COMPOSITE_DEVICE: data}, "leaf")


def _new(*parts: bytes) -> Dice | None:
    return dice.read({dice.TCB_INFO: der.element(der.SEQUENCE, *parts)}, "leaf")


def test_both_forms() -> None:
    """Hopper only has the firmware id, Blackwell has flags, too."""
    assert _old(OLD) == Dice(FWID, None)
    assert dice.read({dice.TCB_INFO: NEW}, "leaf") == Dice(FWID, Flag.NOT_CONFIGURED | Flag.FIXED_WIDTH)
    assert _new(der.element(0xA6, fwid())) == Dice(FWID, None)
    assert dice.read({}, "leaf") is None


def test_refused() -> None:
    """Two forms at once, another digest, fields out of place, and what is left over."""
    short = der.element(der.SEQUENCE, der.oid("2.16.840.1.101.3.4.2.2"), der.element(4, bytes(32)))
    sha256 = der.element(der.SEQUENCE, der.oid("2.16.840.1.101.3.4.2.1"), der.element(4, bytes(48)))
    fwids = der.element(0xA6, fwid())
    cases = (
        lambda: dice.read({dice.COMPOSITE_DEVICE: OLD, dice.TCB_INFO: NEW}, "leaf"),
        lambda: _old(OLD + b"\0"),
        lambda: _old(der.element(der.SEQUENCE, der.integer(1), der.element(der.SEQUENCE), fwid(), b"\5\0")),
        lambda: _old(der.element(der.SEQUENCE, der.integer(2), der.element(der.SEQUENCE), fwid())),
        lambda: _new(der.element(0xA6, short)),
        lambda: _new(der.element(0xA6, sha256)),
        lambda: _new(der.element(0x87, bytes(5)), fwids),
        lambda: _new(fwids, fwids),
        lambda: _new(der.element(0x8F, b""), fwids),
        lambda: _new(fwids, der.element(0x87, bytes(4))),
        lambda: _new(fwids, der.element(0x87, b"\1" + bytes(4))),
        lambda: _new(),
    )
    for case in cases:
        with pytest.raises(FormatError):
            case()


@PROPERTY
@given(mutations(OLD, NEW))
def test_only_our_errors(data: bytes) -> None:
    """Only our errors escape."""
    for name in (dice.COMPOSITE_DEVICE, dice.TCB_INFO):
        try:
            dice.read({name: data}, "leaf")
        except FormatError:
            continue
