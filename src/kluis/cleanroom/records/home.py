"""A party's own folder: its keys, data keys, signed agreements and releases, readable only by its user.

Every file is written atomically and only its user can read it. A record that must be unique (a data key, a
release) is created with O_EXCL, so that two clients at once cannot both create it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self, TypeVar

import msgspec

from kluis import files, parents
from kluis.cleanroom.agreement.agreement import Agreement, Party, Role
from kluis.cleanroom.agreement.documents import Document, decode, encode
from kluis.cleanroom.agreement.exchange import ReleaseStatement
from kluis.cleanroom.agreement.keys import SEALING_SECRET_SIZE, SIGNING_SIZE, SealingKey, SigningKey
from kluis.cleanroom.agreement.terms import ColumnName, Hex32, Identifier
from kluis.errors import PolicyError, UnavailableError, UsageError
from kluis.hashes import sha256

T = TypeVar("T", bound=Document)


class Secrets(Document, frozen=True):
    """A party's private keys."""

    party: Identifier
    signing: Annotated[bytes, msgspec.Meta(min_length=SIGNING_SIZE, max_length=SIGNING_SIZE)]
    sealing: Annotated[bytes, msgspec.Meta(min_length=SEALING_SECRET_SIZE, max_length=SEALING_SECRET_SIZE)]

    def __repr__(self) -> str:
        return f"Secrets({self.party!r})"


class DataKey(Document, frozen=True):
    """The key of one version of one data set, and the terms that it is sealed under."""

    room: Hex32
    dataset: ColumnName
    version: int
    terms: Hex32
    parts: tuple[Hex32, ...]
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

    def __repr__(self) -> str:
        return f"DataKey({self.dataset!r}, {self.version})"


class Pin(Document, frozen=True):
    """Another party's keys, compared over another channel (``fingerprint.keys_hash``)."""

    party: Identifier
    keys: Hex32


class Place(Document, frozen=True):
    """The room that a folder was when this party joined it there, as ``room.json`` described it."""

    folder: str
    room: Hex32
    title: str
    purpose: str


class Current(Document, frozen=True):
    """The only agreement of a room under which this party releases keys: the last one that it signed."""

    room: Hex32
    agreement: Hex32


class Home:
    """One party's folder.

    Args:
        path: the folder itself.

    Raises:
        UnavailableError: it does not exist, is another user's, or is accessible to others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "keys.json").is_file():
            raise UnavailableError(
                f"party {path.name}: no keys in {path.parent}",
                hint=f"if {path.name} has keys elsewhere, name their folder, as then: --home DIR;"
                f" for new keys: kluis room init ROOM --as {path.name}",
            )
        parents.require(path, "--home DIR names a folder elsewhere")
        _require_own(path.stat(), path)
        self._secrets = self._read("keys.json", Secrets)
        self.party = self._secrets.party
        self.signing = SigningKey(self._secrets.signing)
        self.sealing = SealingKey(self._secrets.sealing)

    @classmethod
    def create(cls, path: Path, party: str) -> Self:
        """Create a party's folder and keys.

        Raises:
            UsageError: it exists already.
            UnavailableError: a link, or another user's folder, is in its place.
        """
        if (path / "keys.json").exists():
            raise UsageError(f"party {party}: has keys in {path}")
        _make_own(path)
        secrets = Secrets(
            party=party, signing=SigningKey.generate().secret, sealing=SealingKey.generate().secret
        )
        write_once(path / "keys.json", encode(secrets))
        return cls(path)

    def public(self, name: str, roles: tuple[Role, ...]) -> Party:
        """This party in the form of an agreement."""
        return Party(
            id=self.party,
            name=name,
            roles=tuple(sorted(roles)),
            signing_key=self.signing.public,
            sealing_key=self.sealing.public,
        )

    def keep_key(self, key: DataKey) -> None:
        """Store a data key.

        Raises:
            UsageError: this version of this data set was already sealed.
        """
        try:
            write_once(self._key_path(key.room, key.dataset, key.version), encode(key))
        except FileExistsError as error:
            raise UsageError(
                f"data set {key.dataset}: version {key.version} is sealed already",
                hint="run it again: it takes the next version",
            ) from error

    def key(self, room: str, dataset: str, version: int) -> DataKey:
        """Find a data key.

        Raises:
            UnavailableError: this party did not seal it.
        """
        path = self._key_path(room, dataset, version)
        if not path.is_file():
            raise UnavailableError(f"data set {dataset} version {version}: {self.party} has no key for it")
        return self._read(str(path.relative_to(self.path)), DataKey)

    def next_version(self, room: str, dataset: str) -> int:
        """The first version of a data set that this party has not sealed."""
        version = 1
        while self._key_path(room, dataset, version).exists():
            version += 1
        return version

    def agree(self, agreement: Agreement) -> None:
        """Record that this party signed an agreement; earlier ones of its room are no longer in force."""
        path = self.path / "agreed" / agreement.hash
        if not path.exists():
            write_once(path, encode(agreement))
        current = Current(room=agreement.room, agreement=agreement.hash)
        files.write(self.path / "current" / f"{agreement.room}.json", encode(current))

    def current(self, room: str) -> str:
        """The hash of the agreement that this party signed last in a room; "" if it signed none."""
        name = f"current/{room}.json"
        return self._read(name, Current).agreement if (self.path / name).is_file() else ""

    def pin_path(self, party: str) -> Path:
        """The path of the pin of another party's keys."""
        return self.path / "parties" / f"{party}.json"

    def pinned_keys(self, party: str) -> str:
        """The hash of another party's keys that this party confirmed; "" if it confirmed none."""
        path = self.pin_path(party)
        return self._read(str(path.relative_to(self.path)), Pin).keys if path.exists() else ""

    def pin(self, party: str, keys: str) -> None:
        """Store the hash of another party's keys.

        Raises:
            FileExistsError: keys are already pinned for it.
        """
        write_once(self.pin_path(party), encode(Pin(party=party, keys=keys)))

    def place_paths(self, folder: Path) -> tuple[Path, ...]:
        """The paths of the records of the room that this party joined in a folder.

        One is by the folder's name, and one by where links in that name lead, if that is elsewhere: others
        can put a link to another room in a folder's place.
        """
        names = dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder)))
        return tuple(self.path / "places" / f"{sha256(os.fsencode(each)).hex()}.json" for each in names)

    def places_at(self, folder: Path) -> tuple[Place, ...]:
        """The room that this party joined in a folder, by its name and by where that leads; () if none."""
        paths = [each for each in self.place_paths(folder) if each.exists()]
        return tuple(self._read(str(each.relative_to(self.path)), Place) for each in paths)

    def places(self) -> tuple[Place, ...]:
        """Every room that this party joined, with its folder."""
        names = sorted(each.name for each in (self.path / "places").glob("[0-9a-f]*.json"))
        return tuple(self._read(f"places/{name}", Place) for name in names)

    def keep_place(self, folder: Path, room: str, title: str, purpose: str) -> None:
        """Record the room that this party joined in a folder."""
        name = os.fsencode(os.path.abspath(folder)).decode("utf-8", "backslashreplace")
        place = Place(folder=name, room=room, title=title, purpose=purpose)
        for each in self.place_paths(folder):
            files.write(each, encode(place))

    def accept_root(self, root: str) -> None:
        """Record that this party accepts evidence under a root, by ``trust.identity_of``."""
        path = self.path / "roots" / root
        if not path.exists():
            write_once(path, b"")

    def accepts_root(self, root: str) -> bool:
        """Whether this party accepted a root before, at that level."""
        return (self.path / "roots" / root).is_file()

    def has_signed(self, agreement_hash: str) -> bool:
        """Whether this party signed an agreement, by its own record."""
        return (self.path / "agreed" / agreement_hash).is_file()

    def agreements(self, room: str) -> tuple[Agreement, ...]:
        """The agreements of a room that this party signed, by its own record; oldest first.

        Args:
            room: the room's random id, 64 hex digits.
        """
        mine = [each for each in self.all_agreements() if each.room == room]
        return tuple(sorted(mine, key=lambda each: each.created))

    def all_agreements(self) -> Iterator[Agreement]:
        """Every agreement that this party signed in any room, by its own record."""
        for name in sorted(path.name for path in (self.path / "agreed").glob("[0-9a-f]*")):
            yield self._read(f"agreed/{name}", Agreement)

    def stop(self, agreement_hash: str) -> None:
        """Record that this party withdrew; it releases nothing more, whatever the room's folder contains."""
        path = self.path / "stopped" / agreement_hash
        if not path.exists():
            write_once(path, b"")

    def has_withdrawn(self, agreement_hash: str) -> bool:
        """Whether this party withdrew from an agreement, by its own record."""
        return (self.path / "stopped" / agreement_hash).exists()

    def record_release(self, statement: ReleaseStatement, most: int) -> None:
        """Record a release, before its keys leave this machine.

        Raises:
            PolicyError: this run already has its keys, or the agreement's runs are used up.
        """
        folder = self.path / "releases" / statement.agreement
        for number in range(1, most + 1):
            path = folder / f"{number:04}.json"
            if not path.exists():
                with contextlib.suppress(FileExistsError):  # another client was first: its run is read below
                    write_once(path, encode(statement))
                    return
            if self._read(str(path.relative_to(self.path)), ReleaseStatement).run == statement.run:
                raise PolicyError(f"release: run {statement.run[:16]} has its keys", code="release_again")
        raise PolicyError(
            f"release: want at most {most} runs under this agreement, {self.party} released {most}",
            code="release_runs",
        )

    def releases(self, agreement_hash: str) -> tuple[ReleaseStatement, ...]:
        """This party's releases under an agreement, oldest first."""
        folder = self.path / "releases" / agreement_hash
        names = sorted(each.name for each in folder.glob("[0-9]*.json"))
        return tuple(self._read(f"releases/{agreement_hash}/{name}", ReleaseStatement) for name in names)

    def _key_path(self, room: str, dataset: str, version: int) -> Path:
        return self.path / "data" / room / f"{dataset}.v{version}.json"

    def _read(self, name: str, kind: type[T]) -> T:
        path = self.path / name
        status = path.stat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise UnavailableError(
                f"{path}: want it readable only by its owner, got mode {stat.S_IMODE(status.st_mode):04o}",
                hint=f"chmod 600 {path}",
            )
        return decode(path.read_bytes(), kind, path.name)


def _make_own(path: Path) -> None:
    """Create a folder that only this user can access, or restrict an existing one."""
    parents.require(path, "--home DIR names a folder elsewhere")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)  # whatever the umask: others may not write
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        raise UnavailableError(f"{path}: want your own folder, got a link or something else") from None
    try:
        if os.fstat(folder).st_uid == os.getuid():  # another's is refused below
            os.fchmod(folder, 0o700)
        _require_own(os.fstat(folder), path)
    finally:
        os.close(folder)


def _require_own(status: os.stat_result, path: Path) -> None:
    """Refuse a folder in which others could remove or add a record: many records are only a file name."""
    if status.st_uid != os.getuid():
        raise UnavailableError(f"{path}: want it to be yours, got user {status.st_uid}'s")
    if status.st_mode & 0o077:
        raise UnavailableError(
            f"{path}: want it open to its owner only, got mode {stat.S_IMODE(status.st_mode) & 0o777:04o}",
            hint=f"chmod 700 {path}",
        )


def write_once(path: Path, data: bytes) -> None:
    """Create a file readable only by its user; flush it and its name to disk.

    Raises:
        FileExistsError: it exists already.
    """
    made = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # link, unlike rename, refuses to replace what is there
    finally:
        temporary.unlink()
    for folder in (path.parent, *(each.parent for each in made)):
        files.flush_folder(folder)
