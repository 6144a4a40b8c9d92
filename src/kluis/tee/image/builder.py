"""A folder becomes an image: gather the layers, ask for the interface, write the manifest, sign."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from cryptography.hazmat.primitives import serialization

import kluis
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.hashes import sha256
from kluis.tee import sigstruct
from kluis.tee.image import (
    archive,
    bytecode,
    cache,
    config,
    inside,
    interface,
    interpreter,
    layers,
    lock,
    manifest,
    requirements,
    sources,
)
from kluis.tee.image.sources import Source
from kluis.tee.process import native

# The loader passes over a program's RPATH for libraries that have a RUNPATH, as many in wheels do.
LOADER_ENV: Final = {"LD_LIBRARY_PATH": f"{manifest.MOUNTS['python']}/lib"}
# Never code: keys and images, what editors and version control keep, and what says how to build.
_LEFT_OUT: Final = (".*", "__pycache__", "*.kluis", "*.pem", "*.key", "*.sig", config.NAME, lock.PATTERN)


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """What a build made.

    Attributes:
        image_id: 32 bytes.
        mrsigner: 32 bytes; None of an image that waits for its signature.
        key_made: whether the author's key was made by this build.
        notes: what the author should know, a line each.
    """

    path: Path
    image_id: bytes
    mrsigner: bytes | None
    key_made: bool
    notes: tuple[str, ...]


def build(
    directory: Path,
    out: Path,
    key_path: Path | None = None,
    debug: bool = False,
    *,
    launcher: Path | None = None,
    cache_folder: Path | None = None,
) -> Built:
    """Build the application in ``directory`` into the image ``out``.

    Args:
        directory: holds ``app.py``, or a ``kluis.toml`` that names another entry point.
        out: replaced whole once the image is complete, and left alone if anything fails.
        key_path: the author's RSA-3072 key, PEM; made if absent. None leaves the image unsigned.
        debug: sign a debug enclave, whose memory its host may read.
        launcher: the launcher program; by default the one installed with Kluis.
        cache_folder: where to keep what is dear to make; by default the user's.

    Raises:
        UsageError: the folder's content cannot be an image; says which file or setting, and why.
        UnavailableError: this machine lacks something; says what.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: want a folder, got {'a file' if directory.exists() else 'nothing'}")
    settings = config.load(directory)
    store = cache.made(cache_folder) if cache_folder else cache.folder()
    contents, notes = _contents(directory, settings, launcher or native.launcher(), store)
    answer = interface.ask(settings.entry, contents, settings.env)
    indexes = {}
    for name, files in contents.items():
        files.extend(bytecode.layer(files, manifest.MOUNTS[name], store / "bytecode"))
        indexes[name] = layers.encode_index((file.path, file.mode, file.size, file.sha256) for file in files)
    made = manifest.Manifest(
        argv=list(settings.argv),
        date=settings.date,
        entry=settings.entry,
        env={**settings.env, **LOADER_ENV},
        format=manifest.FORMAT,
        grants=list(settings.grants),
        heap_bytes=settings.heap_bytes,
        interface=sha256(answer.interface).hex(),
        kluis=kluis.__version__,
        layers=[
            manifest.LayerReference(size, layers.digest(index).hex(), len(index), manifest.MOUNTS[name], name)
            for name, (index, size) in indexes.items()
        ],
        name=answer.name,
        product_id=answer.product_id,
        python=interpreter.version(),
        svn=answer.svn,
        threads=settings.threads,
    )
    try:
        manifest.check(made)
    except FormatError as error:
        raise UsageError(error.message) from error
    manifest_bytes = made.encode()
    struct = sigstruct.unsigned(
        sha256(manifest_bytes), product_id=made.product_id, svn=made.svn, date=made.date, debug=debug
    )
    key_made = False
    if key_path is not None:
        key_made = ensure_key(key_path)
        struct = sigstruct.sign(struct, sigstruct.load_key(read_file(key_path), str(key_path)))
    with replacing(out) as f:
        archive.write_image(
            f,
            manifest_bytes,
            struct.encode(),
            answer.interface,
            ((*indexes[name], files) for name, files in contents.items()),
        )
    mrsigner = struct.mrsigner if key_path is not None else None
    return Built(out, sha256(manifest_bytes), mrsigner, key_made, tuple(notes))


def _contents(
    directory: Path, settings: config.Config, launcher: Path, store: Path
) -> tuple[dict[str, list[Source]], list[str]]:
    """Every layer's files but the bytecode, in the order of the manifest."""
    own = inside.layer()
    app = application(directory, settings)
    site = requirements.site(directory, settings.requirements, inside.versions(), store / "wheels")
    _refuse_shadows(own, site)
    contents = {"python": interpreter.standard_library(), "kluis": own, "site": site, "app": app}
    objects = {
        f"{name}/{file.path}": file.origin
        for name, files in contents.items()
        for file in files
        if isinstance(file.origin, Path) and ".so" in file.path
    }
    found, missing = interpreter.libraries(launcher, objects)
    contents["python"].extend(found)
    notes = [f"{name}: not found here; {users[0]} will not load" for name, users in missing.items()]
    return {name: files for name, files in contents.items() if files}, notes


def application(directory: Path, settings: config.Config) -> list[Source]:
    """The ``app`` layer: the folder's files, less those that are never code and those excluded.

    Raises:
        UsageError: nothing to run, or a file that an interpreter would run unasked.
    """
    left_out = (*_LEFT_OUT, *settings.exclude)
    listed = settings.requirements if isinstance(settings.requirements, str) else None

    def keep(path: str, folder: bool) -> bool:
        name = path.rpartition("/")[2]
        return path != listed and not any(
            fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern) for pattern in left_out
        )

    found = []
    for path, origin in sources.walk(directory, keep):
        sources.refuse_hooks(path, str(directory))
        found.append(sources.of_file(path, origin))
    module = settings.entry.partition(":")[0].replace(".", "/")
    paths = {file.path for file in found}
    if not paths & {f"{module}.py", f"{module}/__init__.py"}:
        raise UsageError(
            f"{directory}: want {module}.py, found none",
            hint=f'{config.NAME} names another entry point: entry = "module:attribute"',
        )
    return found


def _refuse_shadows(own: list[Source], site: list[Source]) -> None:
    taken = {file.path.partition("/")[0] for file in own} - {""}
    for file in site:
        top = file.path.partition("/")[0]
        if top in taken and not top.endswith(".dist-info"):
            raise UsageError(
                f"requirements: {file.path}: {top} is Kluis's own part of the image", hint="leave it out"
            )


def ensure_key(path: Path) -> bool:
    """Make an author's key at ``path``, mode 0600, if there is none; tell whether it was made.

    Raises:
        UnavailableError: it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as f:
        f.write(
            sigstruct.generate_key().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return True


def read_file(path: Path) -> bytes:
    """Read a small file that the user named.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside ``path``, and put it in its place once it is complete; on failure nothing is left.

    Raises:
        UnavailableError: it cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".kluis-", delete=False) as f:
            temporary = f.name
            yield cast("BinaryIO", f)
            f.flush()
            os.fchmod(f.fileno(), 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
