"""The manifest: bounds on every field, one spelling, and nothing it does not know."""

from __future__ import annotations

import io

import msgspec
import pytest

from kluis.errors import FormatError
from kluis.tee.image import canonical, manifest, read_image
from tests.tee.image import samples

GOOD = read_image(io.BytesIO(samples.image())).manifest


def test_reads_what_was_written() -> None:
    """The canonical bytes read back to the same manifest."""
    assert manifest.parse(GOOD.encode()) == GOOD


def test_scratch_is_named_only_where_there_is_some() -> None:
    """An image without scratch has one spelling, and it is the one from before there was scratch."""
    assert b"scratch" not in GOOD.encode()
    assert b'"scratch_bytes":1048576' in msgspec.structs.replace(GOOD, scratch_bytes=1 << 20).encode()
    with pytest.raises(FormatError, match="another spelling"):
        manifest.parse(GOOD.encode().replace(b',"svn"', b',"scratch_bytes":0,"svn"'))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "kluis-image/2", "manifest.format: want 'kluis-image/1', got 'kluis-image/2'"),
        ("name", "a b", "manifest.name: want 1 to 64 of A-Z a-z 0-9 . _ -, got 'a b'"),
        ("name", "a\n", "manifest.name: want 1 to 64 of A-Z a-z 0-9 . _ -, got 'a\\n'"),
        ("product_id", 65536, "manifest.product_id: want 0..65535, got '65536'"),
        ("svn", -1, "manifest.svn: want 0..65535, got '-1'"),
        ("date", "2026-1-1", "manifest.date: want YYYYMMDD, got '2026-1-1'"),
        ("entry", "app.app", "manifest.entry: want module:attribute, got 'app.app'"),
        ("entry", "../app:app", "manifest.entry: want module:attribute, got '../app:app'"),
        (
            "heap_bytes",
            4097,
            "manifest.heap_bytes: want whole pages from 16777216 to 17592186044416, got '4097'",
        ),
        (
            "scratch_bytes",
            4096,
            "manifest.scratch_bytes: want none, or whole pages from 1048576 to 1099511627776, got '4096'",
        ),
        ("threads", 0, "manifest.threads: want 1..1024, got '0'"),
        ("interface", "", "manifest.interface: want a SHA-256 in hex, got ''"),
        (
            "grants",
            ["table", "listen:web"],
            "manifest.grants: want sorted and unique, got \"['table', 'listen:web']\"",
        ),
        (
            "grants",
            ["network"],
            "manifest.grants: want insecure_jit, insecure_raw_report_data, table, "
            "connect:NAME, listen:NAME, got 'network'",
        ),
        (
            "grants",
            ["listen:"],
            "manifest.grants: want insecure_jit, insecure_raw_report_data, table, "
            "connect:NAME, listen:NAME, got 'listen:'",
        ),
        ("env", {"A=B": "x"}, "manifest.env: want NAME: text without NUL, got 'A=B'"),
        ("argv", ["a\0"], "manifest.argv: want no NUL, got 'a\\x00'"),
        ("kluis", "new", "manifest.kluis: want a version, got 'new'"),
    ],
)
def test_every_field_has_bounds(field: str, value: object, message: str) -> None:
    """A value out of bounds is refused, and the field is named."""
    changed = msgspec.structs.replace(GOOD, **{field: value})
    with pytest.raises(FormatError) as caught:
        manifest.parse(canonical.encode(changed))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("index", "field", "value"),
    [
        (0, "mount", "/etc"),
        (0, "name", "base"),
        (1, "digest", "00"),
        (2, "data_size", -1),
        (2, "name", "python"),
        (0, "name", "app"),
    ],
)
def test_layers_are_the_known_ones(index: int, field: str, value: object) -> None:
    """Each layer appears once, in order, at its own mount point."""
    found = list(GOOD.layers)
    found[index] = msgspec.structs.replace(found[index], **{field: value})
    with pytest.raises(FormatError, match=r"^manifest\.layers"):
        manifest.parse(canonical.encode(msgspec.structs.replace(GOOD, layers=found)))


def test_an_unknown_field() -> None:
    """A field that this version does not know is refused: it might mean less protection."""
    data = GOOD.encode().replace(b'"date"', b'"dates":1,"date"')
    with pytest.raises(FormatError) as caught:
        manifest.parse(data)
    assert caught.value.message == "manifest: object contains unknown field `dates`"


def test_a_key_twice() -> None:
    """A key that appears twice, which readers resolve differently, is refused."""
    data = GOOD.encode().replace(b'"threads":8', b'"threads":8,"threads":8')
    with pytest.raises(FormatError) as caught:
        manifest.parse(data)
    assert caught.value.message == "manifest: want canonical JSON (RFC 8785), got another spelling"
