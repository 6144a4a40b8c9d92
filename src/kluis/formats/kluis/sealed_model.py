"""A sealed model: the files of a folder, encrypted under one key, which everyone who reads them needs.

    model  = "KLUISMDL" 1 || header size (4, little-endian) || header || chunks
    header = {"commitment": hex, "files": [file, ...], "salt": hex, "version": 1}
    file   = {"mac": hex, "name": text, "size": number}

The header is canonical JSON (RFC 8785), with files sorted by name. Its SHA-256 is the model's id. Each file
is cut into chunks of 1 MiB, of which the last may be shorter, and an empty file has one empty chunk. A chunk
is AES-256-GCM ciphertext and its tag. Its nonce is the file's number (4, big-endian) and the chunk's (8). Its
associated data are the id. So a chunk opens only at its place, in its file, under its name and length.

HKDF-SHA-256 over the key, with the salt and a purpose as info, gives each sealing separate keys: ``encrypt``,
``mac`` and ``commit``. The last one is the commitment: another key is detected before anything is opened.
``mac`` is HMAC-SHA-256 over a file's plaintext. So one id has one key and one content, also for a holder of
the key. Spec: NIST SP 800-38D; RFC 5869; RFC 2104.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis._primitives import AESGCM
from kluis.frozen import frozen
from kluis.hashes import sha256

MAGIC: Final = b"KLUISMDL\x01"
KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
CHUNK_BYTES: Final = 1 << 20
TAG_BYTES: Final = 16
MAX_FILES: Final = 256
MAX_FILE_BYTES: Final = 1 << 40
MAX_HEADER_BYTES: Final = 128 * 1024
_SIZE_BYTES: Final = 4
_WHAT: Final = "sealed model"
_NAME: Final = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,3}", re.ASCII
)


@frozen
class SealedFile:
    """A file of a sealed model.

    Attributes:
        name: relative, with ``/`` between at most 4 parts.
        size: bytes of the plaintext.
        mac: HMAC-SHA-256 of the plaintext, 32 bytes.
    """

    name: str
    size: int
    mac: bytes

    def chunks(self) -> int:
        """The number of its chunks, at least 1."""
        return max(1, -(-self.size // CHUNK_BYTES))

    def sealed_bytes(self) -> int:
        """The size of its ciphertext, with a tag for each chunk."""
        return self.size + TAG_BYTES * self.chunks()


@frozen
class Header:
    """What a sealed model states about itself, in plaintext.

    Attributes:
        salt: 32 random bytes of this sealing.
        commitment: 32 bytes derived from the key.
        files: sorted by name.
    """

    salt: bytes
    commitment: bytes
    files: tuple[SealedFile, ...]

    def document(self) -> bytes:
        """Write the header's JSON."""
        return jcs.dumps({
            "version": 1,
            "salt": self.salt.hex(),
            "commitment": self.commitment.hex(),
            "files": [{"name": one.name, "size": one.size, "mac": one.mac.hex()} for one in self.files],
        })  # fmt: skip

    def encode(self) -> bytes:
        """Write everything before the chunks."""
        document = self.document()
        return MAGIC + len(document).to_bytes(_SIZE_BYTES, "little") + document

    def model_id(self) -> bytes:
        """The model's id, 32 bytes."""
        return sha256(self.document())

    @classmethod
    def parse(cls, data: bytes | memoryview, total: int) -> tuple[Self, int]:
        """Parse the beginning of a sealed model.

        Args:
            data: its beginning, of at least the header's size.
            total: the size of the whole file.

        Returns:
            The header, and the position of the first chunk.

        Raises:
            FormatError: not a sealed model, or another size than its files have.
            UnsupportedError: another version.
        """
        head = bytes(data[: len(MAGIC) + _SIZE_BYTES])
        if len(head) < len(MAGIC) + _SIZE_BYTES or not head.startswith(MAGIC):
            raise FormatError(f"{_WHAT}: does not begin as one", code="bad_magic")
        size = int.from_bytes(head[len(MAGIC) :], "little")
        if size > MAX_HEADER_BYTES:
            raise FormatError(
                f"{_WHAT}.header: is {size} bytes, must be at most {MAX_HEADER_BYTES}", code="too_large"
            )
        first = len(head) + size
        if len(data) < first:
            raise FormatError(
                f"{_WHAT}.header: needs {size} bytes, {len(data) - len(head)} left", code="truncated"
            )
        header = cls._of(
            jcs.loads_canonical(bytes(data[len(head) : first]), _WHAT, max_size=MAX_HEADER_BYTES)
        )
        want = first + sum(one.sealed_bytes() for one in header.files)
        if total != want:
            raise FormatError(
                f"{_WHAT}: want {want} bytes, got {total}",
                hint="transfer the whole file again, and compare its size",
                code="truncated" if total < want else "trailing_data",
            )
        return header, first

    @classmethod
    def _of(cls, value: jcs.Json) -> Self:
        members = Members(value, _WHAT)
        members.version(1)
        members.only(("commitment", "files", "salt", "version"))
        listed = members["files"]
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_FILES:
            raise FormatError(f"{_WHAT}.files: want a list of 1 to {MAX_FILES} files", code="bad_type")
        files = []
        for each in listed:
            one = Members(each, f"{_WHAT}.files")
            one.only(("mac", "name", "size"))
            name = one.text("name", limit=260)
            check_name(name)
            files.append(
                SealedFile(name, one.integer("size", most=MAX_FILE_BYTES), one.hex("mac", 32, lower=True))
            )
        names = [one.name for one in files]
        if names != sorted(set(names)):
            raise FormatError(f"{_WHAT}.files: want sorted names, none twice", code="bad_encoding")
        return cls(
            members.hex("salt", SALT_BYTES, lower=True),
            members.hex("commitment", 32, lower=True),
            tuple(files),
        )


class ModelKeys:
    """The keys of one sealing.

    Args:
        key: 32 bytes, of the model's owner.
        salt: 32 random bytes, used for no other sealing.

    Raises:
        UsageError: the key has another length.
    """

    __slots__ = ("_encrypt", "_mac", "commitment")

    def __init__(self, key: bytes, salt: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise UsageError(f"model key: want {KEY_BYTES} bytes, got {len(key)}")

        def derive(purpose: str) -> bytes:
            return HKDF(SHA256(), 32, salt=salt, info=f"kluis sealed model {purpose}".encode()).derive(key)

        self._encrypt = AESGCM(derive("encrypt"))
        self._mac = derive("mac")
        self.commitment = derive("commit")

    def check(self, header: Header) -> None:
        """Check that a model was sealed under this key.

        Raises:
            AuthenticityError: another key, or a changed header.
        """
        if not hmac.compare_digest(self.commitment, header.commitment):
            raise AuthenticityError(
                f"{_WHAT}: is sealed under another key",
                hint="pass the key that kluis model seal used for this file",
                code="sealed_model",
            )

    def mac(self) -> hmac.HMAC:
        """Begin the HMAC of a file's plaintext."""
        return hmac.new(self._mac, digestmod="sha256")

    def seal(self, model_id: bytes, file: int, chunk: int, data: bytes | memoryview) -> bytes:
        """Encrypt one chunk; its ciphertext and tag."""
        return self._encrypt.encrypt(_nonce(file, chunk), data, model_id)

    def open(
        self, model_id: bytes, file: int, chunk: int, data: memoryview, into: memoryview, name: str
    ) -> None:
        """Decrypt one chunk into memory of its plaintext's size.

        Raises:
            AuthenticityError: a changed bit, or a chunk of another place.
        """
        try:
            self._encrypt.decrypt_into(_nonce(file, chunk), data, model_id, into)
        except InvalidTag:
            raise AuthenticityError(
                f"{_WHAT}: {name}: chunk {chunk} was changed, or is not at its place", code="sealed_model"
            ) from None


def check_name(name: str) -> None:
    """Check the name of a file in a model.

    Raises:
        FormatError: it is not a plain relative name.
    """
    if not _NAME.fullmatch(name):
        raise FormatError(
            f"{_WHAT}: file name: want 1 to 4 parts of letters, digits, _, - and ., got {name[:64]!a}",
            code="bad_encoding",
        )


def spans(size: int) -> Iterator[tuple[int, int]]:
    """The start and end of each chunk of a plaintext of ``size`` bytes."""
    for start in range(0, max(size, 1), CHUNK_BYTES):
        yield start, min(size, start + CHUNK_BYTES)


def _nonce(file: int, chunk: int) -> bytes:
    return file.to_bytes(4, "big") + chunk.to_bytes(8, "big")
