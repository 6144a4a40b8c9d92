"""Compare two images: every setting, interface line and file that changed a measurement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from kluis.errors import FormatError
from kluis.files import named
from kluis.formats.encoding import jcs
from kluis.frozen import frozen
from kluis.tee import sigstruct
from kluis.tee.image import archive, pyc
from kluis.tee.image.archive import Image
from kluis.tee.image.build import recompiled
from kluis.tee.image.layers import Entry

MOST_PARTS: Final = 1 << 18
"""Members and items of an interface that are compared individually."""
_SETTINGS: Final = {
    "kluis": "kluis release",
    "python": "python",
    "name": "name",
    "product_id": "product_id",
    "svn": "svn",
    "entry": "entry",
    "date": "date",
    "heap_bytes": "heap_bytes",
    "scratch_bytes": "scratch_bytes",
    "threads": "threads",
}


@frozen
class Change:
    """One difference between two images.

    Attributes:
        kind: ``setting``, ``interface``, ``package``, ``file``, ``bytecode``, or ``signature``; all but the
            last change the measurement. ``hidden``: bytecode in the second image that does not match its
            source; ``uncompared``: bytecode that this version of Python cannot check; ``native``: the number
            of machine code files in its app layer, if any; ``in_place``: machine code in another layer, or
            a source, that is imported in the place of a module whose source is in the image, too. The last
            three do not change the measurement.
        what: the setting, the line of the interface, or the file's path in the image.
        before: its value in the first image, or None if it is new; likewise ``after``.
    """

    kind: str
    what: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.kind in ("hidden", "uncompared", "native", "in_place"):
            return self.what
        if self.before is None:
            return f"{self.what}: added{_value(self)}"
        if self.after is None:
            return f"{self.what}: removed{_value(self)}"
        if self.kind in ("file", "bytecode"):
            return f"{self.what}: changed"
        return f"{self.what} {_shown(self.before)} -> {_shown(self.after)}"


def _value(change: Change) -> str:
    value = change.after if change.before is None else change.before
    return "" if change.kind in ("file", "bytecode") or not value else f" {_shown(value)}"


def _shown(value: str) -> str:
    """On one line, whatever it is: a value with line ends would look like other changes."""
    return value if value.isprintable() else json.dumps(value)


def diff(a: Path, b: Path) -> list[Change]:
    """List what changed from image ``a`` to image ``b``; empty if they are identical.

    An index has each file's hash, so little of the layers' data is read. Bytecode of ``b`` is recompiled and
    compared if ``a`` does not have it, or has it for another source.

    Raises:
        FormatError: one of them is not an image; or as :func:`recompiled.differing` raises it.
        AuthenticityError: a file that was read does not match its index.
        UsageError: one of them cannot be read.
    """
    before, after = _read(a), _read(b)
    changes = compare(before, after)
    with named(b) as f:
        return [*changes, *_find_hidden(f, before, after), *_native(f, after)]


def compare(before: Image, after: Image) -> list[Change]:
    """List what changed between two images that were already read."""
    measured = [
        *_settings(before, after),
        *_interface(before, after),
        *_packages(before, after),
        *_files(before, after),
    ]
    if not measured and before.image_id != after.image_id:
        measured.append(Change("setting", "image_id", before.image_id.hex(), after.image_id.hex()))
    return [*measured, *_signature(before, after)]


def _read(path: Path) -> Image:
    with named(path) as f:
        return archive.read_image(f)


def _settings(before: Image, after: Image) -> Iterator[Change]:
    for field, what in _SETTINGS.items():
        old, new = getattr(before.manifest, field), getattr(after.manifest, field)
        if old != new:
            yield Change("setting", what, str(old), str(new))
    if before.manifest.argv != after.manifest.argv:
        yield Change("setting", "argv", json.dumps(before.manifest.argv), json.dumps(after.manifest.argv))
    old_grants, new_grants = set(before.manifest.grants), set(after.manifest.grants)
    for grant in sorted(old_grants ^ new_grants):
        there = grant in old_grants
        yield Change("setting", "grant", grant if there else None, None if there else grant)
    old_env, new_env = before.manifest.env, after.manifest.env
    for name in sorted({*old_env, *new_env}):
        if old_env.get(name) != new_env.get(name):
            yield Change("setting", f"env.{name}", old_env.get(name), new_env.get(name))


def _interface(before: Image, after: Image) -> Iterator[Change]:
    if before.interface == after.interface:
        return
    old, new = dict(_lines(_json(before), "interface")), dict(_lines(_json(after), "interface"))
    for path in [*old, *(path for path in new if path not in old)]:
        if old.get(path) != new.get(path):
            yield Change("interface", path, old.get(path), new.get(path))
    first, then = dict(_orders(_json(before), "interface")), dict(_orders(_json(after), "interface"))
    for path in first.keys() & then.keys():
        was = [name for name in first[path] if name in then[path]]
        now = [name for name in then[path] if name in first[path]]
        if was != now:  # of parameters, for example: a call may pass them by position
            yield Change("interface", f"{path}: order", json.dumps(was), json.dumps(now))


def _json(image: Image) -> Any:
    """The interface, parsed; its hash if it cannot be parsed."""
    if image.interface.count(b",") > MOST_PARTS:  # a load refuses it for its types, and each is a line here
        return {"unreadable": image.manifest.interface}
    try:
        return jcs.loads_canonical(image.interface, "interface", max_size=archive.MAX_INTERFACE_BYTES)
    except FormatError:
        return {"unreadable": image.manifest.interface}


def _lines(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value, by its path; list items that have a name are identified by it."""
    match value:
        case dict() if value:
            for key, item in value.items():
                yield from _lines(
                    item, f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"
                )
        case list() if value:
            named: set[str] = set()
            for index, item in enumerate(value):
                name = item.get("name") if isinstance(item, dict) else None
                if isinstance(name, str) and name.isidentifier() and name not in named:
                    named.add(name)
                    yield from _lines(item, f"{path}.{name}")
                else:
                    yield from _lines(item, f"{path}[{index}]")
        case _:
            yield path, json.dumps(value)


def _orders(value: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """The names in every list of items that have one, by the list's path."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _orders(item, f"{path}.{key}")
        case list():
            names = [each["name"] for each in value if isinstance(each, dict) and "name" in each]
            yield path, [name for name in names if isinstance(name, str)]
            for index, item in enumerate(value):
                name = item.get("name") if isinstance(item, dict) else None
                yield from _orders(item, f"{path}.{name}" if isinstance(name, str) else f"{path}[{index}]")
        case _:
            pass


def _packages(before: Image, after: Image) -> Iterator[Change]:
    for layer in ("kluis", "site"):
        old, new = _versions(before, layer), _versions(after, layer)
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                yield Change("package", f"{layer}: {name}", old.get(name), new.get(name))


def _versions(image: Image, layer: str) -> dict[str, str]:
    versions = {}
    for path in _entries(image, layer):
        folder, _, rest = path.partition("/")
        if rest == "METADATA" and folder.endswith(".dist-info"):
            name, _, version = folder.removesuffix(".dist-info").partition("-")
            versions[name] = version
    return versions


def _entries(image: Image, layer: str) -> dict[str, Entry]:
    entries = image.layer(layer)
    return {entry.path: entry for entry in entries.files} if entries else {}


def _files(before: Image, after: Image) -> Iterator[Change]:
    for layer in ("python", "kluis", "site", "app"):
        old, new = _entries(before, layer), _entries(after, layer)
        changed = {
            path
            for path in {*old, *new}
            if (o := old.get(path)) is None
            or (n := new.get(path)) is None
            or (o.sha256, o.mode) != (n.sha256, n.mode)
        }
        for path in sorted(changed):
            if (source := pyc.source_path(path)) in changed:
                continue
            yield Change(
                "file" if source is None else "bytecode",
                f"{layer}/{path}",
                old[path].sha256 if path in old else None,
                new[path].sha256 if path in new else None,
            )


def _find_hidden(f: BinaryIO, before: Image, after: Image) -> Iterator[Change]:
    """Bytecode that is new, or whose source is new or missing, and does not match its source."""
    fresh, sources = set(), set()
    for layer in after.layers:
        old, new = _entries(before, layer.name), _entries(after, layer.name)
        changed = {path for path, entry in new.items() if path not in old or old[path].sha256 != entry.sha256}
        sources |= {f"{layer.name}/{path}" for path in changed if path.endswith(".py")}
        fresh |= {
            f"{layer.name}/{path}"
            for path in new
            if path.endswith((".pyc", ".pyo"))
            and (path in changed or (source := pyc.source_path(path)) in changed or source not in new)
        }
    if fresh and not recompiled.comparable(after):
        want, got = after.manifest.python, recompiled.version()
        yield Change("uncompared", f"{len(fresh)} files: want Python {want} here, got {got}", "", "")
    elif fresh or (sources and recompiled.comparable(after)):
        for path in recompiled.differing(f, after, fresh):
            yield Change("hidden", path, "", "")
    else:
        recompiled.check_encodings(f, after, sources)


def _native(f: BinaryIO, after: Image) -> Iterator[Change]:
    for path in archive.imported_in_place(after):
        yield Change("in_place", path, "", "")
    if found := archive.native_objects(f, after):
        yield Change("native", f"{len(found)} in the app layer, such as {found[0]}", "", "")


def _signature(before: Image, after: Image) -> Iterator[Change]:
    old, new = sigstruct.parse(before.sigstruct), sigstruct.parse(after.sigstruct)
    signers = [struct.mrsigner.hex() if struct.signed else "none" for struct in (old, new)]
    if signers[0] != signers[1]:
        yield Change("signature", "signer", *signers)
    if old.debug != new.debug:
        yield Change("signature", "debug", *("on" if struct.debug else "off" for struct in (old, new)))
