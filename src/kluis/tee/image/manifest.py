"""The manifest of an image: everything that its identity includes. Its SHA-256 is the image id.

Canonical JSON (RFC 8785). Only the signature states whether the enclave is a debug one.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kluis.errors import FormatError
from kluis.tee.image import canonical

FORMAT: Final = "kluis-image/1"
MOUNTS: Final = {"python": "/k/python", "kluis": "/k/kluis", "site": "/k/site", "app": "/k/app"}
# Two programs of the python layer: one that the platform starts, and the loader that it runs under.
LAUNCHER: Final = "bin/kluis-launcher"
LOADER: Final = "lib/ld-linux-x86-64.so.2"
MAX_MANIFEST_BYTES: Final = 1 << 20
MIN_HEAP_BYTES: Final = 16 << 20
MAX_HEAP_BYTES: Final = 1 << 44
MIN_SCRATCH_BYTES: Final = 1 << 20
MAX_SCRATCH_BYTES: Final = 1 << 40
MAX_THREADS: Final = 1024
# The loader ignores a program's RPATH for libraries that have a RUNPATH, as many in wheels do.
LOADER_ENV: Final = {"LD_LIBRARY_PATH": f"{MOUNTS['python']}/lib"}
LAUNCHERS_ENV: Final = ("LD_", "PYTHON", "GLIBC_TUNABLES", "MALLOC_", "GCONV_PATH", "KLUIS_", "OPENSSL_")
"""Beginnings of variables of the loader and the interpreter, which decide what code runs."""
GRANTS: Final = ("insecure_jit", "insecure_raw_report_data", "table")
NAMED_GRANTS: Final = ("connect", "listen")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENTRY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*")
_ENV: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_HEX32: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[0-9]+(\.[0-9A-Za-z+]+){1,5}")


class LayerReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer by digest (hex of SHA-256 over its index), with the sizes of its two parts in bytes."""

    data_size: int
    digest: str
    index_size: int
    mount: str
    name: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of a manifest: 0..65535 for ``product_id`` and ``svn``, ``date`` as YYYYMMDD.

    ``scratch_bytes`` is the size of encrypted scratch. An image without scratch does not contain it, so that
    older image ids stay valid.
    """

    argv: list[str]
    date: str
    entry: str
    env: dict[str, str]
    format: str
    grants: list[str]
    heap_bytes: int
    interface: str
    kluis: str
    layers: list[LayerReference]
    name: str
    product_id: int
    python: str
    svn: int
    threads: int
    scratch_bytes: int = 0

    def encode(self) -> bytes:
        """Write the canonical bytes, whose SHA-256 is the image id."""
        return canonical.encode(self)


def parse(data: bytes) -> Manifest:
    """Parse a manifest, strictly.

    Raises:
        FormatError: not canonical, an unknown field, or a value out of bounds.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise FormatError(f"manifest: want at most {MAX_MANIFEST_BYTES} bytes, got {len(data)}")
    made = canonical.decode(data, Manifest, "manifest")
    check(made)
    return made


def check(manifest: Manifest) -> None:
    """Refuse a manifest with a value out of bounds.

    Raises:
        FormatError: names the field, want and got.
    """
    m = manifest
    _want(m.format == FORMAT, "format", f"{FORMAT!r}", m.format)
    _want(bool(_NAME.fullmatch(m.name)), "name", "1 to 64 of A-Z a-z 0-9 . _ -", m.name)
    _want(bool(_ENTRY.fullmatch(m.entry)), "entry", "module:attribute", m.entry)
    _want(len(m.date) == 8 and m.date.isascii() and m.date.isdigit(), "date", "YYYYMMDD", m.date)
    for field, number in (("product_id", m.product_id), ("svn", m.svn)):
        _want(0 <= number <= 0xFFFF, field, "0..65535", number)
    _want(
        MIN_HEAP_BYTES <= m.heap_bytes <= MAX_HEAP_BYTES and m.heap_bytes % 4096 == 0,
        "heap_bytes",
        f"whole pages from {MIN_HEAP_BYTES} to {MAX_HEAP_BYTES}",
        m.heap_bytes,
    )
    _want(
        m.scratch_bytes == 0
        or (MIN_SCRATCH_BYTES <= m.scratch_bytes <= MAX_SCRATCH_BYTES and m.scratch_bytes % 4096 == 0),
        "scratch_bytes",
        f"none, or whole pages from {MIN_SCRATCH_BYTES} to {MAX_SCRATCH_BYTES}",
        m.scratch_bytes,
    )
    _want(1 <= m.threads <= MAX_THREADS, "threads", f"1..{MAX_THREADS}", m.threads)
    _want(bool(_HEX32.fullmatch(m.interface)), "interface", "a SHA-256 in hex", m.interface)
    for field, text in (("python", m.python), ("kluis", m.kluis)):
        _want(bool(_VERSION.fullmatch(text)) and len(text) <= 64, field, "a version", text)
    _want(m.grants == sorted(set(m.grants)), "grants", "sorted and unique", m.grants)
    for grant in m.grants:
        check_grant(grant)
    for argument in m.argv:
        _want("\0" not in argument, "argv", "no NUL", argument)
    for key, value in m.env.items():
        _want(bool(_ENV.fullmatch(key)) and "\0" not in value, "env", "NAME: text without NUL", key)
        harmless = not key.upper().startswith(LAUNCHERS_ENV) or LOADER_ENV.get(key) == value
        _want(harmless, f"env.{key}", "a variable of the application's", value)
    _check_layers(m.layers)


def check_grant(grant: str) -> None:
    """Refuse an unknown grant.

    Raises:
        FormatError: not one of the known grants.
    """
    kind, colon, name = grant.partition(":")
    known = grant in GRANTS or (kind in NAMED_GRANTS and colon and _NAME.fullmatch(name))
    _want(bool(known), "grants", ", ".join([*GRANTS, *(f"{k}:NAME" for k in NAMED_GRANTS)]), grant)


def _check_layers(layers: list[LayerReference]) -> None:
    names = [layer.name for layer in layers]
    _want(names == [name for name in MOUNTS if name in names], "layers", "python, kluis, site, app", names)
    for layer in layers:
        where = f"layers.{layer.name}"
        _want(layer.mount == MOUNTS[layer.name], f"{where}.mount", MOUNTS[layer.name], layer.mount)
        _want(bool(_HEX32.fullmatch(layer.digest)), f"{where}.digest", "a SHA-256 in hex", layer.digest)
        for field, size in (("index_size", layer.index_size), ("data_size", layer.data_size)):
            _want(0 <= size <= canonical.LARGEST, f"{where}.{field}", "bytes", size)


def _want(holds: bool, field: str, want: str, got: object) -> None:
    if not holds:
        raise FormatError(f"manifest.{field}: want {want}, got {str(got)[:200]!r}")
