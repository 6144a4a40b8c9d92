"""VEK extensions: every identifier, exact lengths of the chip's id, and nothing unknown unsaid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.encoding import der
from kluis.formats.snp import extensions
from kluis.formats.snp.extensions import ARC, VekExtensions
from kluis.formats.snp.tcb import Product, TcbVersion
from tests.strategies import PROPERTY, mutations

MILAN = VekExtensions(
    struct_version=0,
    product_name="Milan-B0",
    spls={
        "boot_loader": 4,
        "tee": 0,
        "snp": 24,
        "spl4": 0,
        "spl5": 0,
        "spl6": 0,
        "spl7": 0,
        "microcode": 219,
    },
    hw_id=bytes(range(64)),
)
TURIN = VekExtensions(
    struct_version=1,
    product_name="Turin",
    spls={"boot_loader": 1, "tee": 0, "snp": 2, "spl5": 0, "spl6": 0, "spl7": 0, "microcode": 71, "fmc": 3},
    hw_id=bytes(range(8)),
)
VLEK = VekExtensions(
    struct_version=0, product_name="Milan", spls=MILAN.spls, csp_id="CN=cc-us-east-2.amazonaws.com"
)
GOOD = MILAN.encode()


@pytest.mark.parametrize("made", [MILAN, TURIN, VLEK], ids=["Milan", "Turin", "VLEK"])
def test_round_trip(made: VekExtensions) -> None:
    """Written extensions read back, with their product and TCB."""
    assert extensions.parse(made.encode()) == made


def test_values() -> None:
    """A microcode of 219 takes two content bytes; the product is the name before the dash."""
    assert GOOD[f"{ARC}.3.8"] == bytes.fromhex("020200db")
    assert GOOD[f"{ARC}.2"] == b"\x16\x08Milan-B0"
    assert GOOD[f"{ARC}.4"] == bytes(range(64))
    assert (MILAN.product, TURIN.product, VLEK.product) == (Product.MILAN, Product.TURIN, Product.MILAN)
    assert MILAN.tcb == TcbVersion(boot_loader=4, tee=0, snp=24, microcode=219)
    assert TURIN.tcb == TcbVersion(fmc=3, boot_loader=1, tee=0, snp=2, microcode=71)


@pytest.mark.parametrize("size", [8, 64])
def test_a_wrapped_chip_id(size: int) -> None:
    """Newer certificates wrap the chip's id in an OCTET STRING, of exactly those lengths."""
    wrapped = GOOD | {f"{ARC}.4": der.element(der.OCTET_STRING, bytes(range(size)))}
    read = extensions.parse(wrapped)
    assert (read.hw_id, read.hw_id_wrapped, read.encode()) == (bytes(range(size)), True, wrapped)


def test_unknown_identifiers_are_told() -> None:
    """An identifier in AMD's arc that we do not know is reported; others are not AMD's to name."""
    more = {f"{ARC}.6": b"", f"{ARC}.3.10": b"", "2.5.29.14": b"", "1.3.6.1.4.1.3704.19": b""}
    assert extensions.parse(GOOD | more).unknown == (f"{ARC}.3.10", f"{ARC}.6")


def _without(oid: str) -> dict[str, bytes]:
    return {key: value for key, value in GOOD.items() if key != oid}


REFUSED: dict[str, tuple[dict[str, bytes], str, str]] = {
    "no version": (
        _without(f"{ARC}.1"),
        f"VEK certificate.structVersion: extension {ARC}.1 is missing",
        "cert_profile",
    ),
    "no product": (
        _without(f"{ARC}.2"),
        f"VEK certificate.product: extension {ARC}.2 is missing",
        "cert_profile",
    ),
    "no boot loader": (
        _without(f"{ARC}.3.1"),
        f"VEK certificate.boot_loader SPL: extension {ARC}.3.1 is missing",
        "cert_profile",
    ),
    "no tee": (
        _without(f"{ARC}.3.2"),
        f"VEK certificate.tee SPL: extension {ARC}.3.2 is missing",
        "cert_profile",
    ),
    "no snp": (
        _without(f"{ARC}.3.3"),
        f"VEK certificate.snp SPL: extension {ARC}.3.3 is missing",
        "cert_profile",
    ),
    "no microcode": (
        _without(f"{ARC}.3.8"),
        f"VEK certificate.microcode SPL: extension {ARC}.3.8 is missing",
        "cert_profile",
    ),
    "too large": (
        GOOD | {f"{ARC}.3.8": der.integer(256)},
        "VEK certificate.microcode SPL: want 0..255, got 0100",
        "bad_encoding",
    ),
    "not minimal": (
        GOOD | {f"{ARC}.3.8": b"\x02\x02\x00\x1b"},
        "VEK certificate.microcode SPL: integer is not minimal",
        "bad_encoding",
    ),
    "trailing": (
        GOOD | {f"{ARC}.3.1": b"\x02\x01\x04\x00"},
        "VEK certificate.boot_loader SPL at 0x3: 1 bytes after the end",
        "trailing_data",
    ),
    "product is no text": (
        GOOD | {f"{ARC}.2": b"\x0c\x05Milan"},
        "VEK certificate.product: want tag 0x16, got 0x0c",
        "bad_type",
    ),
    "product is empty": (
        GOOD | {f"{ARC}.2": b"\x16\x00"},
        "VEK certificate.product: want 1 to 256 printable characters",
        "bad_encoding",
    ),
    "product with a newline": (
        GOOD | {f"{ARC}.2": b"\x16\x06Milan\n"},
        "VEK certificate.product: want 1 to 256 printable characters",
        "bad_encoding",
    ),
    "chip id too short": (
        GOOD | {f"{ARC}.4": bytes(63)},
        "VEK certificate.hwID: want 64 or 8 bytes, plain or in an OCTET STRING, got 63",
        "bad_length",
    ),
    "chip id wrapped in something else": (
        GOOD | {f"{ARC}.4": b"\x0c\x40" + bytes(64)},
        "VEK certificate.hwID: want 64 or 8 bytes, plain or in an OCTET STRING, got 66",
        "bad_length",
    ),
    "chip id's wrapping lies": (
        GOOD | {f"{ARC}.4": b"\x04\x41" + bytes(64)},
        "VEK certificate.hwID: want 64 or 8 bytes, plain or in an OCTET STRING, got 66",
        "bad_length",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """A missing or malformed extension is refused, with its name."""
    values, message, code = REFUSED[name]
    with pytest.raises(FormatError) as caught:
        extensions.parse(values)
    assert (str(caught.value), caught.value.code) == (message, code)


@pytest.mark.parametrize("text", ["M", " ~", "x" * 256])
def test_text(text: str) -> None:
    """Text is 1 to 256 printable characters of ASCII, the space among them."""
    made = VekExtensions(struct_version=0, product_name=text, spls=MILAN.spls, csp_id=text)
    assert extensions.parse(made.encode()) == made


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (der.element(0x16, b"x" * 257), "VEK certificate.cspID: want 1 to 256 printable characters"),
        (der.element(0x16, b"CN=a\x7f"), "VEK certificate.cspID: want 1 to 256 printable characters"),
        (der.element(0x16, b"CN=a\x1f"), "VEK certificate.cspID: want 1 to 256 printable characters"),
        (b"\x16", "VEK certificate.cspID at 0x0: element is cut short"),
    ],
    ids=["long", "delete", "control", "cut"],
)
def test_text_refuses(value: bytes, message: str) -> None:
    """Unprintable or overlong text is refused, with its name."""
    with pytest.raises(FormatError) as caught:
        extensions.parse(GOOD | {f"{ARC}.5": value})
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["Milano", "milan", "Rome", "Genoa2-B0", "-Milan"])
def test_products_are_compared_exactly(name: str) -> None:
    """A name that begins as a product's does is another's."""
    made = VekExtensions(struct_version=0, product_name=name, spls=MILAN.spls)
    with pytest.raises(UnsupportedError) as caught:
        _ = made.product
    assert str(caught.value) == (
        f"VEK certificate.product: want one of ['Milan', 'Genoa', 'Turin', 'Venice'], got {name!r}"
    )
    assert caught.value.code == "product_mismatch"


@pytest.mark.parametrize(
    ("product", "spls", "message"),
    [
        ("Milan", {**MILAN.spls, "fmc": 0}, "VEK certificate.fmcSPL: want none on Milan"),
        ("Turin", MILAN.spls, "VEK certificate.fmcSPL: want one on Turin"),
        ("Milan", {**MILAN.spls, "spl4": 1}, "VEK certificate.spl4: must be 0, found 1"),
        ("Genoa", {**MILAN.spls, "spl7": 9}, "VEK certificate.spl7: must be 0, found 9"),
    ],
)
def test_components_are_the_products(product: str, spls: dict[str, int], message: str) -> None:
    """Turin has a first-mutable-code version and others have none; spare ones are 0."""
    made = VekExtensions(struct_version=0, product_name=product, spls=spls)
    with pytest.raises(FormatError) as caught:
        _ = made.tcb
    assert (str(caught.value), caught.value.code) == (message, "cert_profile")


@PROPERTY
@given(st.data(), st.sampled_from((MILAN, TURIN, VLEK)))
def test_same_bytes_or_refused(data: st.DataObject, made: VekExtensions) -> None:
    """Whatever parses writes back to the same values; only our errors escape."""
    good = made.encode()
    oid = data.draw(st.sampled_from(sorted(good)))
    changed = good | {oid: data.draw(mutations(good[oid]))}
    try:
        read = extensions.parse(changed)
    except KluisError:
        return
    assert read.encode() == changed
