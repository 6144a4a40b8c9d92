"""Small images, wheels and applications, made whole and real, for the tests of this room."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.hashes import sha256
from kluis.tee import sigstruct
from kluis.tee.image import archive, layers, manifest, sources
from kluis.tee.image.build import cache, interpreter
from kluis.tee.image.sources import Source
from tests.keys import author_key

INTERFACE = b'{"ecalls":[{"name":"greet","parameters":[{"name":"who","type":"str"}]}],"version":1}'
APP = """
from kluis.enclave import Enclave

app = Enclave("hello", product_id=7, svn=3)


@app.ecall
def greet(who: str) -> str:
    return f"hello {who}"
"""


def python() -> interpreter.Interpreter:
    """The runtime's interpreter, laid out in the user's cache as a build does."""
    return _laid(cache.of_user())


@functools.cache
def _laid(store: cache.Cache) -> interpreter.Interpreter:
    # One for each cache: a test's own is gone after it.
    with store.work() as work:
        return interpreter.lay(store, work)


def key(index: int = 0) -> rsa.RSAPrivateKey:
    """An author's key; one for each index in a run of the tests."""
    return author_key(index)


def keep_key(path: Path) -> Path:
    """Write an author's key to a file for a build, which then generates none; returns the file."""
    path.write_bytes(
        key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    return path


def contents(**extra: Mapping[str, bytes]) -> dict[str, list[Source]]:
    """Layers of a few files each; ``extra`` adds files to a layer, or replaces them."""
    files: dict[str, dict[str, bytes]] = {
        "python": {
            "bin/kluis-launcher": b"\x7fELF launcher",
            "lib/ld-linux-x86-64.so.2": b"\x7fELF loader" * 500,
            "lib/python3.11/os.py": b"name = 'posix'\n",
        },
        "kluis": {"kluis/__init__.py": b"", "kluis/errors.py": b"class KluisError(Exception): ...\n"},
        "app": {"app.py": b"app = 1\n", "empty.txt": b""},
    }
    for layer, added in extra.items():
        files.setdefault(layer, {}).update(added)
    programs = {"bin/kluis-launcher", "lib/ld-linux-x86-64.so.2"}
    return {
        name: [
            sources.of_bytes(path, data, 0o555 if path in programs else 0o444)
            for path, data in files[name].items()
        ]
        for name in manifest.MOUNTS
        if name in files
    }


def image(
    files: Mapping[str, list[Source]] | None = None,
    *,
    signer: rsa.RSAPrivateKey | None = None,
    debug: bool = False,
    interface: bytes = INTERFACE,
    **changed: object,
) -> bytes:
    """The bytes of an image; signed by ``signer``, or by nobody; ``changed`` goes into the manifest."""
    laid = {
        name: (layers.encode_index((f.path, f.mode, f.size, f.sha256) for f in found), found)
        for name, found in (files or contents()).items()
    }
    fields: dict[str, object] = {
        "argv": [],
        "date": "20260101",
        "entry": "app:app",
        "env": {"LD_LIBRARY_PATH": "/k/python/lib"},
        "format": manifest.FORMAT,
        "grants": [],
        "heap_bytes": 512 << 20,
        "interface": sha256(interface).hex(),
        "kluis": "0.1.0",
        "layers": [
            manifest.LayerReference(size, layers.digest(index).hex(), len(index), manifest.MOUNTS[name], name)
            for name, ((index, size), _) in laid.items()
        ],
        "name": "hello",
        "product_id": 7,
        "python": "3.11.7",
        "svn": 3,
        "threads": 8,
    }
    made = manifest.Manifest(**{**fields, **changed})  # type: ignore[arg-type]
    encoded = made.encode()
    struct = sigstruct.build_unsigned(
        sha256(encoded), product_id=made.product_id, svn=made.svn, date=made.date, debug=debug
    )
    if signer is not None:
        struct = sigstruct.sign(struct, signer)
    out = io.BytesIO()
    archive.write_image(
        out, encoded, struct.encode(), interface, ((index, size, f) for (index, size), f in laid.values())
    )
    return out.getvalue()


def wheel(
    folder: Path,
    name: str,
    files: Mapping[str, bytes],
    *,
    version: str = "1.0",
    unrecorded: Mapping[str, bytes] | None = None,
    record: str | None = None,
    requires: tuple[str, ...] = (),
) -> Path:
    """A pure wheel with a true RECORD, unless ``unrecorded`` files or another ``record`` say otherwise."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {other}\n" for other in requires)
    members = {
        **files,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if record is None:
        record = "".join(f"{path},{_recorded(data)},{len(data)}\n" for path, data in members.items())
        record += f"{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as out:
        for member, data in {**members, **(unrecorded or {}), f"{info}/RECORD": record.encode()}.items():
            out.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), data)
    return path


def _recorded(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def application(folder: Path, **files: str) -> Path:
    """A folder with ``app.py``, and other files by name (``__`` stands for a dot)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(APP)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder
