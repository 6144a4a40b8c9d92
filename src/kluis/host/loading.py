"""``load``: start an image on this machine's platform and return the running enclave."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar, overload

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.hashes import sha256
from kluis.host import interface
from kluis.host.ocalls import functions_of
from kluis.host.proxy import EnclaveProxy, TypedEnclave
from kluis.host.starting import ENDING_SECONDS, await_ready
from kluis.tee import backends
from kluis.tee.backend import Backend
from kluis.tee.image import archive

START_SECONDS: Final = 120.0
E = TypeVar("E", bound=TypedEnclave)


@overload
def load(
    path: Path | str,
    typed: None = None,
    *,
    ocalls: object = None,
    timeout_seconds: float | None = None,
    start_seconds: float = START_SECONDS,
    insecure_allow_missing: frozenset[str] = frozenset(),
    sockets: Mapping[str, socket.socket] | None = None,
    platform: Backend | None = None,
) -> EnclaveProxy: ...
@overload
def load(
    path: Path | str,
    typed: type[E],
    *,
    ocalls: object = None,
    timeout_seconds: float | None = None,
    start_seconds: float = START_SECONDS,
    insecure_allow_missing: frozenset[str] = frozenset(),
    sockets: Mapping[str, socket.socket] | None = None,
    platform: Backend | None = None,
) -> E: ...
def load(
    path: Path | str,
    typed: type[TypedEnclave] | None = None,
    *,
    ocalls: object = None,
    timeout_seconds: float | None = None,
    start_seconds: float = START_SECONDS,
    insecure_allow_missing: frozenset[str] = frozenset(),
    sockets: Mapping[str, socket.socket] | None = None,
    platform: Backend | None = None,
) -> TypedEnclave:
    """Start an image, and wait until its application is loaded.

    Args:
        path: a ``.kluis`` file from ``kluis build``.
        typed: a class that ``kluis stubs`` wrote for an image with the same interface; the enclave is one of
            it. None: any name may be an ecall for a type checker.
        ocalls: the host's functions: a mapping from names to functions, an object with methods of those
            names, or the application's own Enclave (its bodies then run here, outside).
        timeout_seconds: of each call; None means no timeout. ``enclave.name.within(s)`` is for one call.
        start_seconds: timeout of the start; for a slower machine, that many times longer.
        insecure_allow_missing: protections that this machine may do without; written into the evidence.
        sockets: by grant, such as ``listen:web``: open sockets that the enclave gets a duplicate of.
        platform: that launches it; by default this machine's, started if none is running.

    Returns:
        The enclave; close it, or use it in a ``with``.

    Raises:
        UsageError: there is no such file, an ocall has a name that the image does not declare, or ``typed``
            is for another interface.
        FormatError, AuthenticityError: not an image, or not the signed one.
        PolicyError: the platform's operator does not allow it.
        UnavailableError: there is no platform, or it does not have a protection.
        RemoteError: the application cannot be imported; with the reason.
    """
    head = head_of(path)
    manifest, document = head.manifest_bytes, head.interface
    kind = typed or EnclaveProxy
    declared = interface.parse(document, kind._types)
    if kind._interface and kind._interface != (got := sha256(interface.shape(declared.document)).hex()):
        raise UsageError(
            f"{kind.__name__}: want interface {kind._interface[:16]}.., got {got[:16]}.. of image {path}",
            hint=f"kluis stubs {path} -o {kind.__module__}.py writes it again",
            code="stubs",
        )
    functions = functions_of(ocalls)
    backend = platform or backends.default()
    process = backend.launch(path, allow_missing=insecure_allow_missing, sockets=sockets)
    try:
        if process.image_id != sha256(manifest):
            raise AuthenticityError(
                f"image {path}: want image id {sha256(manifest).hex()}, got {process.image_id.hex()}",
                hint="the file changed while it was started; start it again",
            )
        await_ready(process, sha256(document), start_seconds * process.slowness)
        return kind(process, declared, functions, timeout_seconds, platform=backend)
    except BaseException:
        process.kill()
        process.wait(ENDING_SECONDS * process.slowness)
        raise


def interface_of(path: Path | str) -> interface.Interface:
    """Read the interface of an image, without starting it; its signature is not checked.

    Raises:
        UsageError: there is no such file.
        FormatError: not an image.
    """
    return interface.parse(head_of(path).interface)


def head_of(path: Path | str) -> archive.Head:
    """Read the head of an image: its manifest and interface, because the platform measures the whole.

    Raises:
        UsageError: there is no such file.
        FormatError: not an image.
    """
    try:
        with Path(path).open("rb") as file:
            if file.read(len(archive.MAGIC)) != archive.MAGIC:
                raise FormatError(
                    f"image {path}: is no image", hint="kluis build DIR -o FILE --key KEY makes one"
                )
            return archive.read_head(file, f"image {path}")
    except OSError as error:
        if Path(path).is_dir():
            name = Path(path).resolve().name
            raise UsageError(
                f"image {path}: want a file, got a folder",
                hint=f"kluis build {path} -o {name}.kluis --key author.pem; then name {name}.kluis here",
            ) from None
        raise UsageError(
            f"image {path}: {error.strerror}", hint="kluis build DIR -o FILE --key KEY makes one"
        ) from None
