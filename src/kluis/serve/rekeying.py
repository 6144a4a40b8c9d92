"""Every store under a fresh key, before its service starts; and nobody else of this machine at it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from kluis.errors import RemoteError, UnavailableError
from kluis.host.proxy import EnclaveProxy
from kluis.serve.images import ServiceImage
from kluis.serve.instance import load_instance, own

FILE: Final = "lock"


class Hold:
    """A state folder that is in use; several commands may use one, but for one that changes keys."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def share(self) -> None:
        """Let others use it again."""
        fcntl.flock(self._file, fcntl.LOCK_SH)


@contextmanager
def hold(state: Path, *, alone: bool, file: str = FILE) -> Iterator[Hold]:
    """Use a state folder, until the end of the ``with`` or of this process.

    Args:
        state: the folder.
        alone: whether nobody else may use it, until :meth:`Hold.share`.
        file: in it, that is locked.

    Raises:
        UnavailableError: another command uses it, or changes keys there; or there is no such folder.
    """
    try:
        opened = (state / file).open("ab")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        option = "--state" if file == FILE else "--database"
        raise UnavailableError(
            f"{state / file}: cannot be locked: {reason}",
            hint=f"kluis serve ... {option} names a folder that is there, and that can be written",
            code="store_database",
        ) from None
    with opened as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            what = "runs here" if alone else "is changing the stores' keys here"
            raise UnavailableError(
                f"{state if file == FILE else state / file}: another kluis serve {what}",
                hint="stop it first" if alone else "wait until it is done",
                code="state_in_use",
            ) from None
        yield Hold(lock)


@contextmanager
def making(state: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Make what a state folder lacks, as its keys and images: another command that starts there waits.

    Args:
        state: the folder.
        say: told that it waits.
    """
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another kluis serve, which starts in {state}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def rekey(
    image: ServiceImage,
    listener: socket.socket,
    *,
    ocalls: Mapping[str, Callable[..., Any]],
    opened: Callable[[EnclaveProxy], None],
    insecure_allow_missing: frozenset[str],
) -> int:
    """Seal a service's store under a fresh key, in an enclave of its own that serves nobody.

    Args:
        image: the service's.
        listener: that its grant names.
        ocalls: what the host does for it.
        opened: sees its store open.
        insecure_allow_missing: protections that this machine may lack.

    Returns:
        How many records there are.

    Raises:
        KluisError: it was not done; the store opens as before, or is done.
    """
    enclave = load_instance(image, listener, ocalls, insecure_allow_missing)
    try:
        opened(enclave)
        count: int = enclave.store_rekey()
    except RemoteError as error:
        raise own(error) from None
    finally:
        enclave.close()
    return count
