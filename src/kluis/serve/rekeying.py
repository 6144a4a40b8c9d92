"""Re-key every store before its service starts, while no other command of this machine uses it."""

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
from kluis.serve.instance import as_own, load_instance

FILE: Final = "lock"


class Hold:
    """A state folder in use; several commands can use one, except when one changes keys."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def share(self) -> None:
        """Allow others to use it again."""
        fcntl.flock(self._file, fcntl.LOCK_SH)


@contextmanager
def hold(state: Path, *, exclusive: bool, file: str = FILE) -> Iterator[Hold]:
    """Use a state folder, until the end of the ``with`` or of this process.

    Args:
        state: the folder.
        exclusive: whether no other command may use it, until :meth:`Hold.share`.
        file: the lock file within it.

    Raises:
        UnavailableError: another command uses it, or changes keys there; or the folder does not exist.
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
            fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            what = "runs here" if exclusive else "is changing the stores' keys here"
            raise UnavailableError(
                f"{state if file == FILE else state / file}: another kluis serve {what}",
                hint="stop it first" if exclusive else "wait until it is done",
                code="state_in_use",
            ) from None
        yield Hold(lock)


@contextmanager
def making(state: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Lock a state folder while its missing keys and images are created; other starting commands wait.

    Args:
        state: the folder.
        say: prints that it waits.
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
    """Re-key a service's store, in a separate enclave that does not serve.

    Args:
        image: the service's.
        listener: named in its grant.
        ocalls: the host's functions.
        opened: opens its store.
        insecure_allow_missing: protections that this machine may do without.

    Returns:
        The number of records.

    Raises:
        KluisError: it failed; the store opens as before, or is already re-keyed.
    """
    enclave = load_instance(image, listener, ocalls, insecure_allow_missing)
    try:
        opened(enclave)
        count: int = enclave.store_rekey()
    except RemoteError as error:
        raise as_own(error) from None
    finally:
        enclave.close()
    return count
