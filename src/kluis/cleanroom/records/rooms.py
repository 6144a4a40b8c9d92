"""A room's folder, which the parties share. Nothing in it is secret, and nothing in it is trusted unchecked.

    room.json                      its random id, title and purpose
    parties/PARTY.json             who takes part, with public keys
    datasets/NAME.vN.json          terms and hashes of a sealed data set, signed by its owner
    datasets/NAME.vN.PART.parquet  the sealed files
    agreement.json                 what is proposed, canonical
    signatures/PARTY.json          who signed it
    stops/PARTY.HASH.json          who withdrew from which agreement
    runs/RUN/                      sealed results and the receipt
    events.jsonl                   what happened, each line holding the hash of the one before (``events``)

It can be a network share, a repository, or anything that carries files. Anyone who can write it can delay a
run and truncate the log; every other change is detected. No link in it is followed (``folder``).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from kluis.cleanroom.agreement import shown
from kluis.cleanroom.agreement.agreement import Agreement, Dataset, Party, Signature, SignedAgreement, Text
from kluis.cleanroom.agreement.documents import MAX_BYTES, Document, decode, encode
from kluis.cleanroom.agreement.exchange import SignatureBytes, SignedStop
from kluis.cleanroom.agreement.keys import check_signature
from kluis.cleanroom.agreement.terms import ColumnName, Hex32, Identifier
from kluis.cleanroom.receipts.receipt import ReceiptFile
from kluis.cleanroom.records.folder import Folder
from kluis.cleanroom.records.home import Home
from kluis.errors import (
    AuthenticityError,
    FormatError,
    KluisError,
    PolicyError,
    UnavailableError,
    UsageError,
    foreign,
)

T = TypeVar("T", bound=Document)
DATASET = "dataset/1"
PARTY = "party/1"
# Limits for each kind of document; an agreement names at most 100 parties and 100 data sets.
MOST: Final = 1000
MAX_RESULT: Final = 256 << 20
_RUN: Final = re.compile("[0-9a-f]{64}")
_FOLDERS: Final = ("parties", "datasets", "signatures", "stops", "runs")


class RoomFile(Document, frozen=True):
    """The description of a room before anything is agreed."""

    kind: Literal["kluis-room/1"]
    room: Hex32
    title: Text
    purpose: Text


class Joined(Document, frozen=True):
    """A party, self-signed to prove that it has the private key."""

    party: Annotated[bytes, msgspec.Meta(max_length=64 * 1024)]
    signature: SignatureBytes


class Offered(Document, frozen=True):
    """A data set, signed by its owner."""

    dataset: Annotated[bytes, msgspec.Meta(max_length=1024 * 1024)]
    signature: SignatureBytes


class Room:
    """A room's folder.

    Args:
        path: the folder.

    Raises:
        UnavailableError: it is not a room.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = Folder(path)
        if not self.folder.has("room.json"):
            raise UnavailableError(f"{path}: is not a room", hint=f"kluis room init {path} --as PARTY")
        self.file = self._read("room.json", RoomFile)

    @classmethod
    def create(cls, path: Path, title: str, purpose: str) -> Room:
        """Create a room.

        Raises:
            UsageError: the folder is already a room.
            PolicyError: the title or the purpose cannot be shown unchanged.
        """
        file = RoomFile(kind="kluis-room/1", room=os.urandom(32).hex(), title=title, purpose=purpose)
        shown.check(file, "room")
        path.mkdir(parents=True, exist_ok=True)
        folder = Folder(path)
        for each in _FOLDERS:
            folder.make(each)
        try:
            folder.create("room.json", encode(file))
        except FileExistsError:
            raise UsageError(f"{path}: is a room already") from None
        return cls(path)

    def join(self, home: Home, party: Party) -> None:
        """Add a party to the room, signed with its own key; its home records which room this is.

        Raises:
            PolicyError: its name, or the room's title or purpose, cannot be shown unchanged.
            AuthenticityError: as :meth:`require_same`.
            UsageError: a party with other keys has joined under its short name.
        """
        shown.check(party, "party")
        shown.check(self.file, "room")
        self.require_same(home)
        with contextlib.suppress(FormatError, AuthenticityError):  # a file that nobody signed is replaced
            if self.keys(party.id) not in ((), (party.signing_key,)):
                raise UsageError(
                    f"party {party.id}: has joined {self.path} with other keys",
                    hint=f"join as another name; if they were yours, delete its parties/{party.id}.json",
                )
        home.keep_place(self.path, self.file.room, self.file.title, self.file.purpose)
        raw = encode(party)
        joined = Joined(party=raw, signature=home.signing.sign(PARTY, raw))
        self.folder.replace(f"parties/{party.id}.json", encode(joined))

    def require_same(self, home: Home) -> None:
        """Refuse a folder that is another room than the one that a party joined there, or states its id.

        Anyone who can write the folder chooses the id, the title and the purpose in it: data would be sealed,
        and an agreement signed, for another room.

        Raises:
            AuthenticityError: by the party's own record, the folder was another room, or the room of this id
                has another title or purpose.
        """
        here = home.places_at(self.path)
        # The one that makes a room can give it another's id from the beginning.
        same = [each for each in home.places() if each.room == self.file.room]
        for known in (*here, *same):
            for what, want, got in (
                ("room", known.room, self.file.room),
                ("title", known.title, self.file.title),
                ("purpose", known.purpose, self.file.purpose),
            ):
                if got != want:
                    hint = "somebody copied that room's id: join nothing here, and ask who made this folder"
                    if known in here:
                        records = " and ".join(map(str, home.place_paths(self.path)))
                        hint = "somebody replaced room.json, or the folder by a link: ask the other parties"
                        hint += f"; if it is a new room, remove {records} and join it"
                    raise AuthenticityError(
                        f"{self.path}: want {what} {foreign(want, 80)!a}, as {home.party} joined it in "
                        f"{known.folder}, got {foreign(got, 80)!a}",
                        hint=hint,
                        code="room_changed",
                    )

    def require_joined(self, home: Home) -> None:
        """Refuse a folder in which a party joined no room, or another one.

        Raises:
            PolicyError: it joined none, by its own record.
            AuthenticityError: as :meth:`require_same`.
        """
        self.require_same(home)
        if not home.places_at(self.path):
            raise PolicyError(
                f"{self.path}: {home.party} joined no room there, by its own record; it states to be "
                f"{foreign(self.file.title, 80)!a}, room {self.file.room[:16]}..",
                hint=f"if that is the room that you mean: kluis room init {self.path} --as {home.party}, with"
                " --role and --name as before",
                code="room_unjoined",
            )

    def party(self, name: Identifier) -> Party:
        """A joined party, with its keys from the folder; nothing else confirms them.

        Raises:
            UnavailableError: it has not joined.
            AuthenticityError: its file is another's, or is not signed by the key in it.
        """
        path = f"parties/{name}.json"
        if not self.folder.has(path):
            raise UnavailableError(
                f"party {name}: has not joined {self.path}", hint=f"kluis room init {self.path} --as {name}"
            )
        joined = self._read(path, Joined)
        party = decode(joined.party, Party, path)
        check_signature(party.signing_key, joined.signature, PARTY, joined.party, f"party {name}")
        if party.id != name:
            raise AuthenticityError(f"party {name}: want a file about it, got one about {party.id}")
        return party

    def keys(self, party: str) -> tuple[bytes, ...]:
        """The folder's signing key of a party, which nothing else confirms; () if there is none.

        Args:
            party: its short name, an ``Identifier``.

        Raises:
            AuthenticityError: its file is not signed by that key.
        """
        if not self.folder.has(f"parties/{party}.json"):
            return ()
        return (self.party(party).signing_key,)

    def add_dataset(self, home: Home, dataset: Dataset, files: tuple[bytes, ...]) -> None:
        """Add a sealed data set to the room.

        Raises:
            UsageError: another owner has one of this name and version there.
        """
        self.require_free(dataset.id, dataset.version, dataset.owner)
        for number, data in enumerate(files):
            self.folder.replace(_file(dataset, number), data)
        raw = encode(dataset)
        offered = Offered(dataset=raw, signature=home.signing.sign(DATASET, raw))
        self.folder.replace(f"datasets/{dataset.id}.v{dataset.version}.json", encode(offered))

    def require_free(self, name: ColumnName, version: int, owner: str) -> None:
        """Refuse a data set whose name and version another owner has given to one in this room.

        Raises:
            UsageError: there is one.
        """
        same = (each.owner for each in self.offers(name) if each.version == version)
        if others := sorted(set(same) - {owner}):
            raise UsageError(
                f"data set {name} version {version}: {others[0]} has one in {self.path}",
                hint="seal it under another name: --dataset NAME",
            )

    def offers(self, name: ColumnName) -> tuple[Dataset, ...]:
        """Every version of a data set with this name, of any owner, that its owner signed.

        Other files are ignored: anyone who can add one can also remove the real one.

        Raises:
            FormatError: the folder is full.
        """
        named = re.compile(rf"{re.escape(name)}\.v[1-9][0-9]{{0,9}}\.json")
        datasets = []
        for each in filter(named.fullmatch, self._names("datasets")):
            with contextlib.suppress(KluisError):
                offered = self._read(f"datasets/{each}", Offered)
                dataset = decode(offered.dataset, Dataset, each)
                key = self.party(dataset.owner).signing_key
                check_signature(key, offered.signature, DATASET, offered.dataset, each)
                if dataset.id == name:
                    datasets.append(dataset)
        return tuple(datasets)

    def files(self, dataset: Dataset) -> Iterator[bytes]:
        """The sealed files of a data set, unchecked: the enclave checks them.

        Raises:
            UnavailableError: one is missing.
            FormatError: one is longer than the agreed file.
        """
        for number, part in enumerate(dataset.parts):
            yield self.folder.read(_file(dataset, number), part.size_bytes)

    def propose(self, agreement: Agreement) -> None:
        """Propose an agreement; signatures on an earlier proposal are dropped."""
        self.folder.replace("agreement.json", encode(agreement))
        for name in self._names("signatures"):
            self.folder.remove(f"signatures/{name}")

    def proposal(self) -> Agreement:
        """The current proposal, from any party.

        Raises:
            UnavailableError: there is none.
        """
        if not self.folder.has("agreement.json"):
            raise UnavailableError(
                f"{self.path}: no agreement is proposed",
                hint=f"kluis room propose {self.path} --as PARTY --plan PLAN.toml --image FILE.kluis",
            )
        return self._read("agreement.json", Agreement)

    def require_own(self, agreement: Agreement) -> None:
        """Refuse an agreement of another room.

        Anyone who can write the folder chooses the id in it: a client that continued would sign lines for the
        log of another room.

        Raises:
            PolicyError: it is of another room.
        """
        if agreement.room != self.file.room:
            raise PolicyError(
                f"agreement: want room {self.file.room[:16]}.., got {agreement.room[:16]}..", code="agreement"
            )

    def add_signature(self, signature: Signature) -> None:
        """Add a party's signature to the proposal."""
        self.folder.replace(f"signatures/{signature.party}.json", encode(signature))

    def signed_agreement(self) -> SignedAgreement:
        """The agreement with its parties' signatures that are there; ``check_signed`` checks them.

        What is not a signature is left out: its party has not signed, and ``check_signed`` names it.
        """
        agreement = self.proposal()
        signatures = []
        for party in agreement.parties:
            with contextlib.suppress(FormatError, UnavailableError):
                signatures.append(self._read(f"signatures/{party.id}.json", Signature))
        return SignedAgreement(agreement=encode(agreement), signatures=tuple(signatures))

    def add_stop(self, party: str, agreement: str, signed: SignedStop) -> None:
        """Add a party's withdrawal from an agreement, by its hash, to the room."""
        self.folder.replace(f"stops/{party}.{agreement}.json", encode(signed))

    def stops(self, agreement: Agreement) -> tuple[SignedStop, ...]:
        """Every withdrawal of an owner from an agreement; other files are passed over, whatever they are.

        Raises:
            FormatError: a file in the place of such a withdrawal is something else; it can have been one.
        """
        names = [f"stops/{owner}.{agreement.hash}.json" for owner in agreement.owners]
        return tuple(self._read(name, SignedStop) for name in names if self.folder.has(name))

    def add_run(self, run: str, results: dict[str, bytes], receipt: ReceiptFile) -> Path:
        """Add the results of a run to the room; the receipt last, so that a run with one is complete."""
        self.folder.make(f"runs/{run}")
        for analysis, sealed in results.items():
            self.folder.replace(f"runs/{run}/{analysis}.sealed", sealed)
        self.folder.replace(f"runs/{run}/receipt.json", encode(receipt))
        return self.path / "runs" / run

    def runs(self) -> tuple[str, ...]:
        """The completed runs, oldest first."""
        ended = [
            (when, name)
            for name in self.run_names()
            if (when := self.folder.modification_time(f"runs/{name}/receipt.json")) is not None
        ]
        return tuple(name for _, name in sorted(ended))

    def run_names(self) -> tuple[str, ...]:
        """Every run that has a folder, completed or not."""
        return tuple(name for name in self.folder.names("runs") if _RUN.fullmatch(name))

    def receipt(self, run: str) -> ReceiptFile:
        """The receipt of a run, unchecked."""
        return self._read(f"runs/{run}/receipt.json", ReceiptFile)

    def sealed_result(self, run: str, analysis: Identifier) -> bytes:
        """A sealed result, unchecked.

        Raises:
            UnavailableError: the run has no result with this name.
            FormatError: it is longer than 256 MiB.
        """
        return self.folder.read(f"runs/{run}/{analysis}.sealed", MAX_RESULT)

    def _names(self, folder: str) -> tuple[str, ...]:
        return self.folder.names(folder, ".json", MOST)

    def _read(self, name: str, kind: type[T]) -> T:
        return decode(self.folder.read(name, MAX_BYTES), kind, name)


def _file(dataset: Dataset, number: int) -> str:
    return f"datasets/{dataset.id}.v{dataset.version}.{number}.parquet"
