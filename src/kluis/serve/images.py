"""The services' images: built here once from the installed package, and signed with a local key."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from kluis import files
from kluis.enclave.store.keys.custody import SIGNER_ARGUMENT
from kluis.errors import UsageError, unknown
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.hashes import sha256
from kluis.tee.image.build import inside

SERVICES: Final = ("attestation", "keyvault", "ledger", "provisioning")
STORE_KEYS: Final = ("measurement", "signer")


class ServiceImage(msgspec.Struct, frozen=True):
    """A service's image.

    Attributes:
        path: of the image file.
        image_id: 32 bytes, its measurement.
        mrsigner: 32 bytes; anyone who has the key ``author.pem`` next to it can sign for this signer.
    """

    path: Path
    image_id: bytes
    mrsigner: bytes


def folder_of(service: str) -> Path:
    """The folder that the service's image is built from.

    Raises:
        UsageError: no service has this name.
    """
    if service not in SERVICES:
        raise unknown("service", service, SERVICES)
    return Path(__file__).parent / "images" / service


def image_of(
    service: str, state: Path, store_key: str, say: Callable[[str], None], application: Path | None = None
) -> ServiceImage:
    """The service's image, rebuilt if its sources have changed.

    Args:
        service: name.
        state: folder of images and the author's key.
        store_key: which images can unseal the store's key: ``measurement``, only this exact image, not later
            versions of Kluis; or ``signer``, any image with the author's signature. It is measured.
        say: prints a line about a step that may take more than a second.
        application: a folder whose files are added to the service's, and replace those of the same name.

    Raises:
        UnavailableError: this machine does not have something that the build needs; names it.
    """
    source = folder_of(service)
    if store_key not in STORE_KEYS:
        raise unknown("--store-key", store_key, STORE_KEYS)
    name = service if application is None else f"{service}-application"
    folder = state / "images" / (name if store_key == "measurement" else f"{name}-{store_key}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made, out = folder / "made.json", folder / f"{service}.kluis"
    want = _fingerprint(source, *(() if application is None else (application,)))
    known = _find_made(made)
    if known is not None and known.fingerprint == want and out.exists() and out.stat().st_size == known.size:
        return ServiceImage(out, bytes.fromhex(known.image_id), bytes.fromhex(known.mrsigner))
    made.unlink(missing_ok=True)  # a build that is cut short leaves an image of which nothing is known
    from kluis.tee.image.build import builder  # the second start builds nothing

    say(f"building the image of {service}")
    work = folder / "source"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)
    if application is not None:
        _add(application, work)
    if store_key == "signer":
        with (work / "kluis.toml").open("a") as file:
            file.write(f'argv = ["{SIGNER_ARGUMENT}"]\n')
    built = builder.build(work, out, state / "author.pem", say=say)
    mrsigner = built.mrsigner or bytes(32)
    size = _flush(out)  # first: what is known must not outlive a cut of the power that the image does not
    files.write(made, msgspec.json.encode(_Made(want, built.image_id.hex(), mrsigner.hex(), size)))
    return ServiceImage(out, built.image_id, mrsigner)


class _Made(msgspec.Struct):
    """An image's sources and result."""

    fingerprint: str
    image_id: str
    mrsigner: str
    size: int


def _flush(out: Path) -> int:
    """Flush an image to disk; return its size in bytes."""
    with out.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _find_made(made: Path) -> _Made | None:
    """The record of an image; None if the file is damaged, or from an earlier Kluis."""
    try:
        return msgspec.json.decode(made.read_bytes(), type=_Made)
    except (FileNotFoundError, *UNREADABLE):
        return None


def _add(application: Path, work: Path) -> None:
    """Add an application's folder to a copy of its service's."""
    if not (application / "service.py").is_file():
        raise UsageError(
            f"{application}: want a folder with service.py, got none",
            hint="service.py imports app and application from kluis.services.ledger.inside",
        )
    if (application / "kluis.toml").exists():  # with other requirements, which the build pins
        for lock in work.glob("requirements.*.lock"):
            lock.unlink()
    shutil.copytree(application, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def _fingerprint(*sources: Path) -> str:
    """SHA-256 (hex) over the sources of the image: Kluis's installed part, and the folders' files."""
    parts = [f"{file.path} {file.sha256}" for file in inside.layer()]
    parts += [
        f"{file.relative_to(source)} {sha256(file.read_bytes()).hex()}"
        for source in sources
        for file in sorted(source.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]
    return sha256("\n".join(parts).encode()).hex()
