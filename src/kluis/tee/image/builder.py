"""A folder becomes an image: gather the layers, ask for the interface, write the manifest, sign."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

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
from kluis.tee.image import files as userfiles
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
    say: Callable[[str], None] = lambda line: None,
) -> Built:
    """Build the application in ``directory`` into the image ``out``.

    Args:
        directory: holds ``app.py``, or a ``kluis.toml`` that names another entry point.
        out: replaced whole once the image is complete, and left alone if anything fails.
        key_path: the author's RSA-3072 key, PEM; made if absent. None leaves the image unsigned.
        debug: sign a debug enclave, whose memory its host may read.
        launcher: the launcher program; by default the one installed with Kluis.
        cache_folder: where to keep what is dear to make; by default the user's.
        say: told, a line at a time, of what may take more than a second.

    Raises:
        UsageError: the folder's content cannot be an image; says which file or setting, and why.
        UnavailableError: this machine lacks something; says what.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: want a folder, got {'a file' if directory.exists() else 'nothing'}")
    settings = config.load(directory)
    store = cache.made(cache_folder) if cache_folder else cache.folder()
    contents, notes = _contents(directory, settings, launcher or native.launcher(), store, say)
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
        struct = sigstruct.sign(struct, sigstruct.load_key(userfiles.read(key_path), str(key_path)))
    with userfiles.replacing(out) as f:
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
    directory: Path, settings: config.Config, launcher: Path, store: Path, say: Callable[[str], None]
) -> tuple[dict[str, list[Source]], list[str]]:
    """Every layer's files but the bytecode, in the order of the manifest."""
    own = inside.layer()
    app = application(directory, settings)
    site = requirements.site(directory, settings.requirements, inside.versions(), store / "wheels", say)
    _refuse_shadows(own, site, app)
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


def _refuse_shadows(own: list[Source], site: list[Source], app: list[Source]) -> None:
    """The order of search is the standard library, Kluis, the requirements, the application.

    Raises:
        UsageError: a module that an earlier layer hides.
    """
    taken = dict.fromkeys(sys.stdlib_module_names, "the standard library")
    taken |= dict.fromkeys(_modules(own), "Kluis's own part of the image")
    for name in sorted(_modules(site) & taken.keys()):
        raise UsageError(f"requirements: {name}: is hidden by {taken[name]}", hint="leave it out")
    taken |= dict.fromkeys(_modules(site), "a requirement")
    for name in sorted(_modules(app) & taken.keys()):
        raise UsageError(f"{name}: is hidden by {taken[name]}", hint="give the module another name")


def _modules(files: list[Source]) -> set[str]:
    found = set()
    for file in files:
        top, slash, rest = file.path.partition("/")
        if rest == "__init__.py" or (not slash and top.endswith((".py", ".so"))):
            found.add(top.split(".", 1)[0])
    return found


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
