"""Sign an image that is already built: with a key at hand, or with one that is kept elsewhere.

For a key kept elsewhere the digest goes out (32 bytes, SHA-256), and the signature comes in: RSA PKCS #1
v1.5 over that digest, which every HSM, smart card and key service can make.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import UsageError
from kluis.hashes import sha256
from kluis.tee import sigstruct
from kluis.tee.image import archive
from kluis.tee.image.files import replacing
from kluis.tee.image.launchable import check_manifest
from kluis.tee.sigstruct import SigStruct


def digest(path: Path) -> bytes:
    """The digest to sign: SHA-256 of the signed bytes of the image's SIGSTRUCT, 32 bytes.

    Raises:
        FormatError: not an image, or its SIGSTRUCT is another's.
        UsageError: it cannot be read.
    """
    return sha256(_read(path)[1].message())


def sign(path: Path, key: rsa.RSAPrivateKey, out: Path) -> bytes:
    """Sign the image at ``path`` into ``out``, which may be the same; return MRSIGNER, 32 bytes."""
    image, struct = _read(path)
    return _write(path, image, sigstruct.sign(struct, key), out)


def insert(path: Path, public: rsa.RSAPublicKey, signature: bytes, out: Path) -> bytes:
    """Put a signature made elsewhere (384 bytes, big-endian) into ``out``; return MRSIGNER, 32 bytes.

    Raises:
        AuthenticityError: ``public`` did not sign this image.
    """
    image, struct = _read(path)
    return _write(path, image, sigstruct.with_signature(struct, public, signature), out)


def _read(path: Path) -> tuple[archive.Image, SigStruct]:
    try:
        with path.open("rb") as f:
            image = archive.read_image(f)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    struct = sigstruct.parse(image.sigstruct)
    check_manifest(image, struct)
    return image, struct


def _write(path: Path, image: archive.Image, struct: SigStruct, out: Path) -> bytes:
    with replacing(out) as target, path.open("rb") as source:
        shutil.copyfileobj(source, target, archive.CHUNK)
        target.seek(image.sigstruct_offset)
        target.write(struct.encode())
    return struct.mrsigner
