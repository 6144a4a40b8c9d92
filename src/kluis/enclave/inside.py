"""Where this code runs: the launch document and what attests it, once the runtime has both."""

from __future__ import annotations

import os

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256, Hash

from kluis.enclave.attester import Attester
from kluis.enclave.boundary import memfile
from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.formats.kluis.channel import Info, Platform

MAX_LAUNCH_BYTES = 1 << 20


class Launch(msgspec.Struct, frozen=True):
    """What was launched, and how; the platform vouches for the hashes of both.

    Attributes:
        entry: ``module:attribute`` of the Enclave.
        argv: measured arguments, without the program's name.
        interface: SHA-256 of the interface document, 32 bytes.
        threads: of the runtime: the one that serves, the one that listens, and workers. One call fewer than
            threads may run at once, and two at least.
        svn: ISVSVN, 0..65535.
        grants: what the manifest grants beyond nothing.
        image_id: 32 bytes.
        launch_configuration: canonical JSON, whose SHA-512 is CONFIGID.
        level: the protection level of this launch.
        debug: whether host and people may look in.
        sockets: grants such as ``listen:web`` that the host brought a socket for, and its descriptor.
        layers: SHA-256 of each layer's index, hex, by its mount point.
        platform: the platform's X25519 key for this launch's session, 32 bytes.
    """

    entry: str
    argv: tuple[str, ...]
    interface: bytes
    threads: int
    svn: int
    grants: frozenset[str]
    image_id: bytes
    launch_configuration: bytes
    level: str
    debug: bool
    sockets: dict[str, int]
    layers: dict[str, str]
    platform: bytes

    @classmethod
    def read(cls, descriptor: int) -> Launch:
        """Read the launch document from its sealed memory file, and close it.

        Raises:
            FormatError: not the document.
            AuthenticityError: its image id is not the manifest's.
        """
        try:
            document = bytes(memfile.map_bytes(descriptor, MAX_LAUNCH_BYTES, WHAT))
        finally:
            os.close(descriptor)
        try:
            parsed = msgspec.json.decode(document, type=_Document)
            _check_image_id(parsed)
            manifest = msgspec.json.decode(parsed.manifest, type=_Manifest)
            return cls(
                entry=manifest.entry,
                argv=tuple(manifest.argv),
                interface=bytes.fromhex(manifest.interface),
                threads=manifest.threads,
                svn=manifest.svn,
                grants=frozenset(manifest.grants),
                image_id=bytes.fromhex(parsed.image_id),
                launch_configuration=bytes(parsed.launch_configuration),
                level=parsed.level,
                debug=parsed.debug,
                sockets=parsed.sockets,
                layers={layer.mount: layer.digest for layer in manifest.layers},
                platform=bytes.fromhex(parsed.platform),
            )
        except (*UNREADABLE, ValueError) as error:
            raise FormatError(f"{WHAT}: {error}") from None


class Inside:
    """This enclave, seen from inside.

    Attributes:
        launch: what was launched.
        attester: what attests it.
    """

    def __init__(self, launch: Launch, attester: Attester) -> None:
        self.launch = launch
        self.attester = attester
        self._platform: Platform | None = None

    def platform(self) -> Platform:
        """What the platform says it is; asked once."""
        if self._platform is None:
            self._platform = self.attester.request(Info(), Platform)
        return self._platform


def enter(here: Inside | None) -> None:
    """Say that this process is the enclave ``here``; the runtime's first act."""
    global _here  # noqa: PLW0603 - a process is one enclave
    _here = here


def inside(what: str) -> Inside:
    """This enclave.

    Args:
        what: the function that needs one, for the error.

    Raises:
        UsageError: this process is not an enclave.
    """
    if _here is None:
        raise UsageError(
            f"{what}: works only inside an enclave",
            hint="call it from an @ecall of a running image: kluis run FILE ECALL",
            code="outside",
        )
    return _here


class _Layer(msgspec.Struct):
    digest: str
    mount: str


class _Manifest(msgspec.Struct):
    entry: str
    argv: list[str]
    interface: str
    threads: int
    svn: int
    grants: list[str]
    layers: list[_Layer] = []


class _Document(msgspec.Struct):
    """The launch document; being canonical JSON, each part of it is too, as it stands."""

    manifest: msgspec.Raw
    image_id: str
    launch_configuration: msgspec.Raw
    level: str
    debug: bool
    platform: str
    sockets: dict[str, int] = {}


def _check_image_id(found: _Document) -> None:
    digest = Hash(SHA256())
    digest.update(bytes(found.manifest))
    if (measured := digest.finalize().hex()) != found.image_id:
        raise AuthenticityError(f"{WHAT}: image_id: want its manifest's, {measured}, got {found.image_id}")


WHAT = "launch document"
_here: Inside | None = None
