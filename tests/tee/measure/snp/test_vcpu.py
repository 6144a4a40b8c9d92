"""Virtual processors: signatures of types, and the state that each monitor starts them in."""

from __future__ import annotations

import pytest

from kluis.errors import UsageError
from kluis.tee.measure.snp import vcpu
from kluis.tee.measure.snp.vcpu import RESET_ADDRESS, Monitor


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EPYC", 0x800F12),
        ("EPYC-v4", 0x800F12),
        ("EPYC-Rome", 0x830F10),
        ("EPYC-Milan-v2", 0xA00F11),
        ("EPYC-Genoa", 0xA10F10),
        ("EPYC-Turin", 0xB00F00),
        ("0xA00F11", 0xA00F11),
    ],
)
def test_types(name: str, value: int) -> None:
    """A type's signature is that of its processor, or is given itself."""
    assert vcpu.signature_of(name) == value


@pytest.mark.parametrize("name", ["", "epyc", "EPYC-Naples", "0x", "0x123456789", "a00f11"])
def test_no_such_type(name: str) -> None:
    """An unknown type is refused, with a list of the known ones."""
    with pytest.raises(UsageError) as caught:
        vcpu.signature_of(name)
    assert caught.value.message.startswith("vCPU type: want one of EPYC, EPYC-v1,")
    assert caught.value.message.endswith(f"or a signature like 0xa00f11, got {name!a}")


def test_states() -> None:
    """A processor begins at its address, in the state that its monitor sets."""
    first = vcpu.save_area(RESET_ADDRESS, 0xA00F11, 1, Monitor.QEMU)
    assert (first.cs.selector, first.cs.base, first.rip) == (0xF000, 0xFFFF0000, 0xFFF0)
    assert (first.rdx, first.sev_features, first.mxcsr, first.x87_fcw) == (0xA00F11, 1, 0x1F80, 0x37F)
    other = vcpu.save_area(0x80B004, 0xA00F11, 1, Monitor.QEMU)
    assert (other.cs.base, other.rip) == (0x800000, 0xB004)
    amazon = [vcpu.save_area(at, 0xA00F11, 1, Monitor.EC2) for at in (RESET_ADDRESS, 0x80B004)]
    assert [area.cs.attributes for area in amazon] == [0x9A, 0x9B]
    assert {area.rdx for area in amazon} == {0x600}
    google = vcpu.save_area(RESET_ADDRESS, 0xA00F11, 1, Monitor.GCE)
    assert (google.g_pat, google.cs.attributes, google.mxcsr) == (0x70106, 0x9B, 0)
