"""Build an image from a folder: gather the layers, get the interface, write the manifest, sign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

import kluis
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.frozen import frozen
from kluis.hashes import sha256
from kluis.tee import sigstruct
from kluis.tee.image import archive, files, layers, manifest, pyc, signing
from kluis.tee.image.build import (
    application,
    bytecode,
    cache,
    closure,
    config,
    inside,
    interface,
    interpreter,
)
from kluis.tee.image.build.interface import Answer
from kluis.tee.image.build.packages import requirements
from kluis.tee.image.sources import Source
from kluis.tee.process import native


@frozen
class Built:
    """The result of a build.

    Attributes:
        image_id: 32 bytes.
        mrsigner: 32 bytes; None for an image that still has no signature.
        key_made: whether this build created the author's key.
        notes: warnings for the author, one per line.
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
    cache_folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Built:
    """Build the application in ``directory`` into the image ``out``.

    Args:
        directory: contains ``app.py``, or a ``kluis.toml`` that names another entry point.
        out: replaced atomically once the image is complete, and unchanged if anything fails.
        key_path: the author's RSA-3072 key, PEM; created if absent. None leaves the image unsigned.
        debug: sign a debug enclave, whose memory its host may read.
        cache_folder: where to keep wheels and bytecode for later builds; by default the user's.
        say: called with one line before each step that may take more than a second.

    Raises:
        UsageError: the folder's content cannot be an image; names the file or setting, and why.
        UnavailableError: this machine does not have something that the build needs; names it.
    """
    if not directory.is_dir():
        raise UsageError(
            f"{directory}: want a folder, got {'a file' if directory.exists() else 'nothing'}",
            hint=f"give the folder that it is in: kluis build {directory.parent} ..."
            if directory.exists()
            else "give the folder that has app.py, as in: kluis build cohort, where cohort/app.py is",
        )
    for path in (out, key_path):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(
                f"{path}: want a folder to write it to, got none", hint=f"mkdir -p {path.parent}"
            )
    settings = config.load(directory)
    # An unsuitable key is reported before the work, not after it.
    key = signing.author_key(key_path) if key_path is not None and key_path.exists() else None
    store = cache.at(cache_folder) if cache_folder else cache.of_user()
    try:
        with store.work() as work:
            apart = [path for path in (out, key_path) if path is not None]
            python = interpreter.lay(store, work)
            own = inside.layer()
            contents, notes = _gather(directory, settings, own, python, store, work, apart, say)
            say(f"reading the interface of {settings.entry}")
            answer = interface.ask(settings.entry, contents, settings.env, python, work)
            _check_tables(settings, contents, answer)
            tag = native.runtime().tag
            for name, listed in contents.items():
                if name != "python":  # whose bytecode the runtime brings
                    mount = manifest.MOUNTS[name]
                    # Kluis's part is compiled whole: all images share what is kept of it.
                    whole = own if name == "kluis" else listed
                    made = bytecode.layer(whole, mount, store.bytecode, work, python, say)
                    paths = {pyc.pyc_path(file.path, tag) for file in listed}
                    listed.extend(file for file in made if file.path in paths)
            say(f"writing {out}")
            return _write(out, key_path, key, debug, settings, contents, answer, notes)
    except OSError as error:
        raise UnavailableError(
            f"build: {error.filename or store.path}: {error.strerror}",
            hint="name another file with -o, or a folder for the cache with XDG_CACHE_HOME",
        ) from error


def _gather(
    directory: Path,
    settings: config.Config,
    own: list[Source],
    python: interpreter.Interpreter,
    store: cache.Cache,
    work: Path,
    apart: list[Path],
    say: Callable[[str], None],
) -> tuple[dict[str, list[Source]], list[str]]:
    """Every layer's files except the bytecode, in the order of the manifest, and notes for the author."""
    app = application.layer(directory, settings, apart)
    site, left_out = requirements.site(
        directory, settings, inside.versions(), store.wheels, work, python, say
    )
    application.refuse_shadows(own, site, app)
    roots = (settings.entry.partition(":")[0], *settings.modules)
    reached = closure.choose(own, site, app, roots, python, work)
    contents = {"python": interpreter.base(), "kluis": reached, "site": site, "app": app}
    objects = {
        f"{name}/{file.path}": file.origin
        for name, listed in (("site", site), ("app", app))
        for file in listed
        if isinstance(file.origin, Path) and ".so" in file.path
    }
    missing = interpreter.missing(objects, contents["python"])
    notes = [f"{name}: is in no layer; {users[0]} will not load" for name, users in missing.items()]
    notes += left_out
    notes += [
        f"{path}: is left out, for its name is a key's; if it belongs in the image, name it as root.crt is"
        for path in application.named_as_keys(directory, settings, apart)
    ]
    return {name: listed for name, listed in contents.items() if listed}, notes


def _check_tables(settings: config.Config, contents: dict[str, list[Source]], answer: Answer) -> None:
    """A Table needs Arrow: an application that takes one must include pyarrow."""
    wants = "table" in settings.grants or b'{"kind":"table"}' in answer.interface
    if wants and not any(file.path == "pyarrow/__init__.py" for file in contents.get("site", [])):
        raise UsageError(
            "requirements: want pyarrow, for the interface has a Table, got none",
            hint=f'add it in {config.NAME}: requirements = ["pyarrow"]',
        )


def _write(
    out: Path,
    key_path: Path | None,
    key: rsa.RSAPrivateKey | None,
    debug: bool,
    settings: config.Config,
    contents: dict[str, list[Source]],
    answer: Answer,
    notes: list[str],
) -> Built:
    indexes = {
        name: layers.encode_index((file.path, file.mode, file.size, file.sha256) for file in listed)
        for name, listed in contents.items()
    }
    made = _manifest(settings, indexes, answer)
    manifest_bytes = made.encode()
    struct = sigstruct.build_unsigned(
        sha256(manifest_bytes), product_id=made.product_id, svn=made.svn, date=made.date, debug=debug
    )
    key_made = False
    if key_path is not None:
        key_made = signing.ensure_key(key_path)
        struct = sigstruct.sign(struct, key or signing.author_key(key_path))
    with files.replacing(out) as f:
        archive.write_image(
            f,
            manifest_bytes,
            struct.encode(),
            answer.interface,
            ((*indexes[name], listed) for name, listed in contents.items()),
        )
    mrsigner = struct.mrsigner if key_path is not None else None
    return Built(out, sha256(manifest_bytes), mrsigner, key_made, tuple(notes))


def _manifest(
    settings: config.Config, indexes: dict[str, tuple[bytes, int]], answer: Answer
) -> manifest.Manifest:
    made = manifest.Manifest(
        argv=list(settings.argv),
        date=settings.date,
        entry=settings.entry,
        env={**settings.env, **manifest.LOADER_ENV},
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
        scratch_bytes=settings.scratch_bytes,
    )
    try:
        manifest.check(made)
    except FormatError as error:
        raise UsageError(error.message) from error
    return made
