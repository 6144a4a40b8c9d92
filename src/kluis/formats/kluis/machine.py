"""The configuration of a machine with a platform inside, as its TEE endorses it. Nothing here is verified.

It is the payload of runtime data of purpose ``platform``, and names the key of the platform's root:

    {"boot": hex, "debug": flag, "missing": [text], "only": hex, "release": text, "root": hex, "version": 1}

Canonical JSON (RFC 8785); ``missing`` is sorted and has no duplicates. ``only`` is present only in a machine
that runs one image, and ``release`` only if the guest states one.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from kluis.frozen import frozen
from kluis.hashes import sha256

MAX_SIZE: Final = 64 * 1024
MAX_NAMES: Final = 256
MAX_RELEASE: Final = 64
BOOT_SIZE: Final = 16
NO_IMAGE: Final = bytes(32)
_MEMBERS: Final = ("boot", "debug", "missing", "root", "version")
_OPTIONAL: Final = ("only", "release")
_WHAT: Final = "machine configuration"


@frozen(kw_only=True)
class MachineConfiguration:
    """The document's fields.

    Attributes:
        root: 32 bytes, SHA-256 of the SubjectPublicKeyInfo (DER) of the platform's root.
        boot: 16 random bytes, generated at each boot.
        debug: whether the guest lets its host look inside, as with a console that has a shell.
        missing: protections that the machine does not have, sorted.
        only: the image id of the only image that the machine runs, 32 bytes; None if it may run any.
        release: of the guest, at most 64 characters; empty if the guest states none.
    """

    root: bytes
    boot: bytes
    debug: bool
    missing: tuple[str, ...]
    only: bytes | None = None
    release: str = ""

    def encode(self) -> bytes:
        """Write the document."""
        document: dict[str, jcs.Writable] = {
            "version": 1,
            "root": self.root.hex(),
            "boot": self.boot.hex(),
            "debug": self.debug,
            "missing": list(self.missing),
        }
        if self.only is not None:
            document["only"] = self.only.hex()
        if self.release:
            document["release"] = self.release
        return jcs.dumps(document)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a document in its one canonical form.

        Raises:
            UnsupportedError: another version.
            FormatError: not canonical, a member missing, unknown or of the wrong kind.
        """
        value = Members(jcs.loads_canonical(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        present = [name for name in _OPTIONAL if name in value]
        value.only((*_MEMBERS, *present))
        value.version(1)
        missing = value.texts("missing", most=MAX_NAMES)
        if list(missing) != sorted(set(missing)):
            raise FormatError(f"{_WHAT}.missing: want sorted names, none twice", code="bad_encoding")
        release = value.text("release", limit=MAX_RELEASE) if "release" in present else ""
        if "release" in present and not (release and release.isprintable()):
            raise FormatError(
                f"{_WHAT}.release: want 1 to {MAX_RELEASE} printable characters", code="bad_encoding"
            )
        return cls(
            root=value.hex("root", 32, lower=True),
            boot=value.hex("boot", BOOT_SIZE, lower=True),
            debug=value.flag("debug"),
            missing=missing,
            only=value.hex("only", 32, lower=True) if "only" in present else None,
            release=release,
        )

    def runtime_data(self) -> bytes:
        """The document whose hash a TEE binds: runtime data of purpose ``platform`` with this payload."""
        made = RuntimeData(purpose=Purpose.PLATFORM, image_id=NO_IMAGE, nonce=b"", payload=self.encode())
        return made.encode()


def of_runtime_data(document: bytes) -> MachineConfiguration:
    """Parse the runtime data that a TEE binds, and the configuration in it.

    Raises:
        UnsupportedError: another version.
        FormatError: malformed, of another purpose, or with an image id, a nonce or a key.
    """
    runtime_data = RuntimeData.parse(document)
    if runtime_data.purpose is not Purpose.PLATFORM:
        raise FormatError(
            f"runtime data.purpose: want {Purpose.PLATFORM}, got {runtime_data.purpose}", code="bad_type"
        )
    if runtime_data.image_id != NO_IMAGE or runtime_data.nonce or runtime_data.keys:
        raise FormatError(
            f"runtime data: want no image id, no nonce and no key with purpose {Purpose.PLATFORM}",
            code="bad_type",
        )
    return MachineConfiguration.parse(runtime_data.payload)


def name_of(spki: bytes) -> bytes:
    """What a configuration names a root by: SHA-256 of its SubjectPublicKeyInfo, DER."""
    return sha256(spki)
