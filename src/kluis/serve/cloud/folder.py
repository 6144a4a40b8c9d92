"""The folder of a local cloud: only its user can enter it, one process runs in it, and one format fits it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from kluis import files, parents
from kluis.errors import FormatError, UnavailableError, UnsupportedError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.tee import places

VERSION: Final = 1
"""Of the folder's format."""
MOST_BYTES: Final = 1 << 20


class Settings(msgspec.Struct, frozen=True):
    """What stays between two starts.

    Attributes:
        version: of the folder's format.
        ports: of each service, since a store accepts its first address only.
    """

    version: int = VERSION
    ports: dict[str, int] = {}


class Folder:
    """A local cloud's folder.

    Args:
        path: absolute.

    Attributes:
        path: of the folder.
        record: the file that describes the running services.
        log: the file for the services' log.
        services: the folder for the services' keys, images and database.
        client: the file for the user's key and certificate.
        roots: the file for the certificate authorities that a client of the services needs.
        authority: the file of the services' own certificate authority.
        ledger_certificate: the file of the certificate that a ledger's clients trust.
        az: the folder for what Azure's command line keeps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record, self.log = path / "run.json", path / "log"
        self.client, self.roots = path / "client.pem", path / "roots.pem"
        self.services, self.az = path / "services", path / "az"
        self.authority = self.services / "ca" / "root.pem"
        self.ledger_certificate = self.services / "service_cert.pem"
        self._settings = path / "cloud.json"

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create the folder, mode 0700, or check the existing one.

        Raises:
            UnavailableError: it is a link, another user's, accessible to others, or cannot be created.
            UnsupportedError: a newer version of Kluis made it.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            pass  # the check names what it is
        except OSError as error:
            raise UnavailableError(
                f"{path}: cannot be created: {error.strerror}",
                hint="--state FOLDER names one that can be written",
                code="cloud_folder",
            ) from None
        made = cls.open(path)
        if not made._settings.exists():
            made.save(Settings())
        return made

    @classmethod
    def open(cls, path: Path) -> Self:
        """Check an existing folder.

        Raises:
            UnavailableError: it does not exist, is a link, another user's, or accessible to others.
            UnsupportedError: a newer version of Kluis made it.
        """
        _check(path)
        folder = cls(path)
        folder.settings()
        return folder

    def settings(self) -> Settings:
        """Read what stays between two starts.

        Raises:
            UnsupportedError: a newer version of Kluis wrote it.
            FormatError: it is damaged.
        """
        if not self._settings.exists():
            return Settings()
        data = files.read(self._settings, MOST_BYTES)
        try:
            decoded = msgspec.json.decode(data, type=Settings)
        except UNREADABLE as error:
            raise FormatError(f"{self._settings}: {error}", code="cloud_damaged") from None
        if decoded.version > VERSION:
            raise UnsupportedError(
                f"{self.path}: version: want at most {VERSION}, got {decoded.version}, of a newer Kluis",
                hint="update Kluis; or --state FOLDER names another folder",
                code="cloud_newer",
            )
        return decoded

    def save(self, settings: Settings) -> None:
        """Write what stays between two starts."""
        self.write(self._settings, msgspec.json.encode(settings))

    def remember_ports(self, ports: Mapping[str, int]) -> None:
        """Record the ports that are in use, for the next start."""
        known = self.settings()
        merged = {**known.ports, **ports}
        if merged != known.ports:
            self.save(Settings(ports=merged))

    def write(self, path: Path, data: bytes) -> None:
        """Write a file of the folder: a kill leaves the old one or the new one.

        Raises:
            UnavailableError: it cannot be written.
        """
        try:
            files.write(path, data)
        except OSError as error:
            raise UnavailableError(
                f"{path}: cannot be written: {error.strerror}",
                hint="df shows whether the disk is full",
                code="cloud_folder",
            ) from None


def _check(path: Path) -> None:
    """Refuse a folder that another user could read, change or exchange."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnavailableError(
            f"{path}: no local cloud is here", hint="kluis up -d starts one", code="cloud_missing"
        ) from None
    except OSError as error:
        what = "a link or a file" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
        raise UnavailableError(
            f"{path}: want a folder, got {what}",
            hint="--state FOLDER names the folder itself",
            code="cloud_folder",
        ) from None
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    places.require_own(path, status, os.geteuid(), hint="--state FOLDER names a folder of this user")
    parents.require(path, "--state FOLDER names a folder elsewhere")
