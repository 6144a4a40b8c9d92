"""The running enclave: its launch document and its attester, set by the runtime."""

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
    """The launched code and its options; the platform certifies the hashes of both.

    Attributes:
        entry: ``module:attribute`` of the Enclave.
        argv: measured arguments, without the program's name.
        interface: SHA-256 of the interface document, 32 bytes.
        threads: of the runtime: the one that serves, the one that listens, and workers. One call fewer than
            threads may run at once, and at least two.
        svn: ISVSVN, 0..65535.
        grants: in the manifest.
        image_id: 32 bytes.
        launch_configuration: canonical JSON, whose SHA-512 is CONFIGID.
        level: the protection level of this launch.
        debug: whether the host can read its memory.
        sockets: descriptors from the host by grant, such as ``listen:web``.
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
            FormatError: not a launch document.
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
    """The running enclave.

    Attributes:
        launch: the launch document.
        attester: answers its requests for evidence, keys and counters.
    """

    def __init__(self, launch: Launch, attester: Attester) -> None:
        self.launch = launch
        self.attester = attester
        self._platform: Platform | None = None

    def platform(self) -> Platform:
        """The platform's description; requested once."""
        if self._platform is None:
            self._platform = self.attester.request(Info(), Platform)
        return self._platform


def enter(here: Inside | None) -> None:
    """Declare that this process is the enclave ``here``; the runtime's first step."""
    global _here  # noqa: PLW0603 - a process is one enclave
    _here = here


def inside(what: str) -> Inside:
    """This enclave.

    Args:
        what: the function that needs an enclave, for the error.

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
    """The launch document; because it is canonical JSON, each part of its bytes is too."""

    manifest: msgspec.Raw
    image_id: str
    launch_configuration: msgspec.Raw
    level: str
    debug: bool
    platform: str
    sockets: dict[str, int] = {}


def _check_image_id(document: _Document) -> None:
    digest = Hash(SHA256())
    digest.update(bytes(document.manifest))
    if (measured := digest.finalize().hex()) != document.image_id:
        raise AuthenticityError(f"{WHAT}: image_id: want its manifest's, {measured}, got {document.image_id}")


WHAT = "launch document"
_here: Inside | None = None
