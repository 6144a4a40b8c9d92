"""TCB versions: the layout is the product's, and they compare component by component."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.snp.report import Cpuid
from kluis.formats.snp.tcb import Product, TcbVersion, product_of
from tests.strategies import PROPERTY

OLD = bytes((4, 3, 0, 0, 0, 0, 24, 219))
NEW = bytes((9, 4, 3, 24, 0, 0, 0, 219))


def test_layouts() -> None:
    """The same components are in other bytes on Turin: the layout depends on the product."""
    for product in (Product.MILAN, Product.GENOA):
        tcb = TcbVersion.parse(OLD, product, "tcb")
        assert tcb == TcbVersion(boot_loader=4, tee=3, snp=24, microcode=219)
        assert (tcb.encode(), str(tcb)) == (OLD, "boot_loader=4 tee=3 snp=24 microcode=219")
    for product in (Product.TURIN, Product.VENICE):
        tcb = TcbVersion.parse(NEW, product, "tcb")
        assert tcb == TcbVersion(fmc=9, boot_loader=4, tee=3, snp=24, microcode=219)
        assert (tcb.encode(), str(tcb)) == (NEW, "fmc=9 boot_loader=4 tee=3 snp=24 microcode=219")


@pytest.mark.parametrize(
    ("data", "product", "at"), [(NEW, Product.MILAN, 2), (OLD, Product.TURIN, 6), (b"\1" * 8, "Genoa", 2)]
)
def test_reserved_bytes(data: bytes, product: str, at: int) -> None:
    """Bytes that the product's layout reserves must be zero."""
    with pytest.raises(FormatError) as caught:
        TcbVersion.parse(data, Product(product), "reported_tcb")
    assert str(caught.value) == (
        f"reported_tcb.reserved at {at:#x}: must be zero in {product}'s layout, found {data[at]:#04x}"
    )
    assert caught.value.code == "bad_encoding"


@PROPERTY
@given(st.binary(min_size=8, max_size=8), st.sampled_from(Product))
def test_same_bytes_or_refused(data: bytes, product: Product) -> None:
    """Whatever parses writes back to the same bytes."""
    try:
        tcb = TcbVersion.parse(data, product, "tcb")
    except FormatError:
        return
    assert tcb.encode() == data


def test_order_is_by_component() -> None:
    """A TCB reaches a floor only in every component: integers would let microcode outweigh the rest."""
    floor = TcbVersion(fmc=1, boot_loader=1, tee=1, snp=1, microcode=1)
    for parts in itertools.product(range(3), repeat=5):
        fmc, boot_loader, tee, snp, microcode = parts
        tcb = TcbVersion(fmc=fmc, boot_loader=boot_loader, tee=tee, snp=snp, microcode=microcode)
        assert tcb.reaches(floor) is (min(parts) >= 1)
    assert floor.reaches(floor)
    old = TcbVersion(boot_loader=255, tee=255, snp=255, microcode=255)
    assert not old.reaches(floor)
    assert not floor.reaches(TcbVersion(boot_loader=0, tee=0, snp=0, microcode=0))


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, "Milan"),
        (0x19, 0x01, "Milan"),
        (0x19, 0x0F, "Milan"),
        (0x19, 0x10, "Genoa"),
        (0x19, 0x11, "Genoa"),
        (0x19, 0x1F, "Genoa"),
        (0x19, 0x20, None),
        (0x19, 0x9F, None),
        (0x19, 0xA0, "Genoa"),
        (0x19, 0xAF, "Genoa"),
        (0x19, 0xB0, None),
        (0x1A, 0x00, "Turin"),
        (0x1A, 0x02, "Turin"),
        (0x1A, 0x11, "Turin"),
        (0x1A, 0x12, None),
        (0x1A, 0x50, "Venice"),
        (0x1A, 0xC7, "Venice"),
        (0x17, 0x01, None),
    ],
)
def test_products_are_ranges_of_models(family: int, model: int, product: str | None) -> None:
    """Bergamo, Siena and Turin Dense are recognised by ranges; exact models would refuse them."""
    assert product_of(Cpuid(family, model, 0)) == product
