"""Sign an existing image, with a local key or with one that is kept elsewhere.

For a key kept elsewhere, the digest is exported (32 bytes, SHA-256), and the signature is imported: RSA PKCS
#1 v1.5 over that digest, which every HSM, smart card and key service supports.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kluis.errors import UnavailableError
from kluis.files import named, write_new
from kluis.hashes import sha256
from kluis.tee import author_keys, sigstruct
from kluis.tee.image import archive, files
from kluis.tee.image.launchable import check_manifest
from kluis.tee.sigstruct import SigStruct


def digest(path: Path) -> bytes:
    """The digest to sign: SHA-256 of the signed bytes of the image's SIGSTRUCT, 32 bytes.

    Raises:
        FormatError: not an image, or its SIGSTRUCT belongs to another.
        UsageError: it cannot be read.
    """
    return sha256(_read(path)[1].message())


def sign(path: Path, key: rsa.RSAPrivateKey, out: Path) -> bytes:
    """Sign the image at ``path`` into ``out``, which may be the same; return MRSIGNER, 32 bytes."""
    image, struct = _read(path)
    return _write(path, image, sigstruct.sign(struct, key), out)


def insert(path: Path, public: rsa.RSAPublicKey, signature: bytes, out: Path) -> bytes:
    """Put an externally made signature (384 bytes, big-endian) into ``out``; return MRSIGNER, 32 bytes.

    Raises:
        AuthenticityError: ``public`` did not sign this image.
    """
    image, struct = _read(path)
    return _write(path, image, sigstruct.with_signature(struct, public, signature), out)


def author_key(path: Path) -> rsa.RSAPrivateKey:
    """Read an author's key.

    Raises:
        UsageError: it cannot be read, or is not a key that SGX supports.
    """
    return author_keys.load(files.read(path), str(path))


def ensure_key(path: Path) -> bool:
    """Create an author's key at ``path``, mode 0600, if there is none; return whether it was created.

    Raises:
        UnavailableError: it cannot be written.
    """
    if path.exists():
        return False
    pem = author_keys.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_new(path, pem)  # what is sealed to a signer is lost with the key
    except FileExistsError:
        return False
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error
    return True


def _read(path: Path) -> tuple[archive.Image, SigStruct]:
    with named(path) as f:
        image = archive.read_image(f)
    struct = sigstruct.parse(image.sigstruct)
    check_manifest(image, struct)
    return image, struct


def _write(path: Path, image: archive.Image, struct: SigStruct, out: Path) -> bytes:
    with files.replacing(out) as target, path.open("rb") as source:
        shutil.copyfileobj(source, target, archive.CHUNK)
        target.seek(image.sigstruct_offset)
        target.write(struct.encode())
    return struct.mrsigner
