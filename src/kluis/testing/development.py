"""Run a project's application as a rehearsal, and replace it whenever a file of the project changes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

from packaging.requirements import InvalidRequirement, Requirement

from kluis.enclave.boundary.interface import Signature
from kluis.errors import EnclaveError, KluisError, UnavailableError, UsageError
from kluis.host.proxy import Call, EnclaveProxy
from kluis.projects.needs import missing_packages
from kluis.tee.image.build import config
from kluis.testing.rehearsal import RehearsalPlatform

DRAIN_SECONDS: Final = 2.0
LOOK_MILLISECONDS: Final = 500
_SERVES: Final = frozenset({"serve", "drain"})
_UNWATCHED: Final = (".kluis", ".pem", ".lock")


class Development:
    """The newest rehearsal of a project; the one before ends once the new one runs.

    Args:
        folder: of the project; has a ``kluis.toml``.
        platform: that starts it.
        listen: opens the socket of an ASGI application, called once and only for one.

    Raises:
        UsageError: the folder is no project.
    """

    def __init__(
        self, folder: Path, platform: RehearsalPlatform, listen: Callable[[], socket.socket]
    ) -> None:
        if not (folder / config.NAME).is_file():
            raise UsageError(
                f"{folder}: want a project with a {config.NAME}, got "
                + ("a folder without one" if folder.is_dir() else "no folder"),
                hint="kluis new NAME --template ecall writes a project; an empty kluis.toml is enough, too",
            )
        self._folder, self._platform, self._listen = folder, platform, listen
        self._listener: socket.socket | None = None
        self._enclave: EnclaveProxy | None = None
        self._serving: Call | None = None

    @property
    def listener(self) -> socket.socket | None:
        """The socket of an ASGI application; None for any other."""
        return self._listener

    def restart(self) -> EnclaveProxy:
        """Start the application as its files are now; on an error, the one before continues.

        Raises:
            KluisError: it does not start; with the reason.
        """
        settings = config.load(self._folder)
        _check_installed(settings)
        app = _module(self._folder, settings)
        listens = [grant for grant in settings.grants if grant.startswith("listen:")]
        if listens and self._listener is None:
            self._listener = self._listen()
        enclave = self._platform.launch(
            app,
            threads=settings.threads,
            argv=settings.argv,
            env=settings.env,
            sockets={grant: self._listener for grant in listens if self._listener},
        )
        serving: Call | None = None
        try:
            if serves(enclave.interface.ecalls):
                serving = enclave.submit("serve")
        except BaseException:
            enclave.close()
            raise
        self.close()
        self._enclave, self._serving = enclave, serving
        return enclave

    def fault(self) -> KluisError | None:
        """Why the application no longer serves, if it ended by itself; reported once."""
        if self._serving is None or not self._serving.done():
            return None
        error, self._serving = self._serving.exception(), None
        return error if isinstance(error, KluisError) else EnclaveError("it stopped serving")

    def close(self) -> None:
        """End the rehearsal that runs, if there is one."""
        enclave, serving = self._enclave, self._serving
        self._enclave = self._serving = None
        if enclave is None:
            return
        with contextlib.suppress(KluisError, TimeoutError):
            if serving is not None and not serving.done():
                enclave.drain.within(DRAIN_SECONDS)(DRAIN_SECONDS)
                serving.result(timeout=2 * DRAIN_SECONDS)
        enclave.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serves(ecalls: tuple[Signature, ...]) -> bool:
    """Whether an application with these ecalls is an ASGI application."""
    return {one.name for one in ecalls} >= _SERVES


def changes(folder: Path, stopped: Callable[[], bool]) -> Iterator[bool]:
    """Watch a folder, until ``stopped`` returns True.

    Yields:
        True after a change of a file that may be the project's, False twice a second without one.

    Raises:
        UnavailableError: this machine watches too many files already.
    """
    import watchfiles  # only for development

    def is_watched(change: watchfiles.Change, path: str) -> bool:
        return default(change, path) and not path.endswith(_UNWATCHED)

    class Stop:
        def is_set(self) -> bool:
            return stopped()

    default = watchfiles.DefaultFilter()
    try:
        for changed in watchfiles.watch(
            folder,
            watch_filter=is_watched,
            stop_event=Stop(),
            rust_timeout=LOOK_MILLISECONDS,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            yield bool(changed)
    except (OSError, RuntimeError) as error:
        raise UnavailableError(
            f"{folder}: cannot be watched: {error}",
            hint="WATCHFILES_FORCE_POLLING=1 kluis dev ... looks at the files instead",
        ) from None


def _module(folder: Path, settings: config.Config) -> Path:
    module, _, name = settings.entry.partition(":")
    if name != "app" or "." in module:
        raise UsageError(
            f'{config.NAME}: entry: want "MODULE:app" for a rehearsal, got {settings.entry!r}',
            hint="kluis build and kluis run take any entry",
        )
    path = folder / f"{module}.py"
    if not path.is_file():
        raise UsageError(f"{folder}: want {module}.py, found none", hint=f"{config.NAME} names the entry")
    return path


def _check_installed(settings: config.Config) -> None:
    """A rehearsal imports what is installed here, of any version."""
    if isinstance(settings.requirements, str):
        return
    named: list[str] = []
    for line in settings.requirements:
        with contextlib.suppress(InvalidRequirement):
            named.append(Requirement(line).name)
    if lacking := missing_packages(named):
        wanted = " ".join(f"'{line}'" for line in settings.requirements)
        raise UnavailableError(
            f"{config.NAME}: requirements: {', '.join(lacking)}: not installed here, where a rehearsal runs",
            hint=f"python -m pip install {wanted}",
        )
