"""A room's folder: what the parties share. Nothing in it is secret, and nothing in it is believed unchecked.

    room.json                      its random id, title and purpose
    parties/PARTY.json             who takes part, with public keys
    datasets/NAME.vN.json          terms and hashes of a sealed data set, signed by its owner
    datasets/NAME.vN.PART.parquet  the sealed files
    agreement.json                 what is proposed, canonical
    signatures/PARTY.json          who signed it
    stops/PARTY.json               who withdrew
    runs/RUN/                      sealed results and the receipt
    events.jsonl                   what happened, each line holding the hash of the one before (``events``)

It can be a network share, a repository, or anything that carries files: whoever changes it can delay a
run and cut the log's end off, and is found out in everything else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from kluis.cleanroom.agreement import (
    Agreement,
    Dataset,
    Party,
    Signature,
    SignedAgreement,
    Text,
)
from kluis.cleanroom.documents import MAX_BYTES, Document, decode, encode
from kluis.cleanroom.exchange import SignatureBytes, SignedStop
from kluis.cleanroom.home import Home
from kluis.cleanroom.keys import check_signature
from kluis.cleanroom.receipt import ReceiptFile
from kluis.cleanroom.terms import Hex32, Identifier
from kluis.errors import UnavailableError, UsageError
from kluis.files import read

T = TypeVar("T", bound=Document)
DATASET = "dataset/1"
PARTY = "party/1"


class RoomFile(Document, frozen=True):
    """What a room is about before anything is agreed."""

    kind: Literal["kluis-room/1"]
    room: Hex32
    title: Text
    purpose: Text


class Joined(Document, frozen=True):
    """A party, signed with its own key: it holds the private half."""

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
        if not (path / "room.json").is_file():
            raise UnavailableError(f"{path}: is not a room", hint=f"kluis room init {path} --as PARTY")
        self.file = self._read("room.json", RoomFile)

    @classmethod
    def create(cls, path: Path, title: str, purpose: str) -> Room:
        """Make a room.

        Raises:
            UsageError: the folder is one already.
        """
        if (path / "room.json").exists():
            raise UsageError(f"{path}: is a room already")
        for folder in ("parties", "datasets", "signatures", "stops", "runs"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        file = RoomFile(kind="kluis-room/1", room=os.urandom(32).hex(), title=title, purpose=purpose)
        replace(path / "room.json", encode(file))
        return cls(path)

    def join(self, home: Home, party: Party) -> None:
        """Put a party into the room, signed with its own key."""
        raw = encode(party)
        joined = Joined(party=raw, signature=home.signing.sign(PARTY, raw))
        replace(self.path / "parties" / f"{party.id}.json", encode(joined))

    def parties(self) -> tuple[Party, ...]:
        """Everyone who joined, by name.

        Raises:
            AuthenticityError: a file that its party did not sign.
        """
        return tuple(self._party(path.name) for path in sorted((self.path / "parties").glob("*.json")))

    def keys(self, party: str) -> tuple[bytes, ...]:
        """The signing key that the folder has of a party, on the folder's word alone; () where it has none.

        Args:
            party: its short name, an ``Identifier``.

        Raises:
            AuthenticityError: its file is not signed by that key.
        """
        if not (self.path / "parties" / f"{party}.json").exists():
            return ()
        found = self._party(f"{party}.json")
        return (found.signing_key,) if found.id == party else ()

    def add_dataset(self, home: Home, dataset: Dataset, files: tuple[bytes, ...]) -> None:
        """Put a sealed data set into the room."""
        for number, data in enumerate(files):
            replace(self._file(dataset, number), data)
        raw = encode(dataset)
        offered = Offered(dataset=raw, signature=home.signing.sign(DATASET, raw))
        replace(self.path / "datasets" / f"{dataset.id}.v{dataset.version}.json", encode(offered))

    def datasets(self) -> tuple[Dataset, ...]:
        """The newest version of every data set in the room, by name.

        Raises:
            AuthenticityError: one that its owner did not sign.
        """
        owners = {party.id: party for party in self.parties()}
        newest: dict[str, Dataset] = {}
        for path in sorted((self.path / "datasets").glob("*.json")):
            offered = self._read(f"datasets/{path.name}", Offered)
            dataset = decode(offered.dataset, Dataset, path.name)
            if dataset.owner not in owners:
                raise UnavailableError(f"data set {dataset.id}: its owner {dataset.owner} has not joined")
            key = owners[dataset.owner].signing_key
            check_signature(key, offered.signature, DATASET, offered.dataset, f"data set {dataset.id}")
            if dataset.id not in newest or newest[dataset.id].version < dataset.version:
                newest[dataset.id] = dataset
        return tuple(newest[name] for name in sorted(newest))

    def files(self, dataset: Dataset) -> Iterator[bytes]:
        """The sealed files of a data set, unchecked: the enclave checks them.

        Raises:
            UnavailableError: one is missing.
        """
        for number in range(len(dataset.parts)):
            yield _bytes(self._file(dataset, number))

    def propose(self, agreement: Agreement) -> None:
        """Put an agreement on the table; earlier signatures, being on another, are dropped."""
        replace(self.path / "agreement.json", encode(agreement))
        for path in (self.path / "signatures").glob("*.json"):
            path.unlink()

    def proposal(self) -> Agreement:
        """What is on the table, by whoever put it there.

        Raises:
            UnavailableError: nothing is.
        """
        if not (self.path / "agreement.json").is_file():
            raise UnavailableError(
                f"{self.path}: no agreement is proposed", hint=f"kluis room propose {self.path} --as PARTY"
            )
        return self._read("agreement.json", Agreement)

    def add_signature(self, signature: Signature) -> None:
        """Put a party's signature beside the agreement."""
        replace(self.path / "signatures" / f"{signature.party}.json", encode(signature))

    def signed(self) -> SignedAgreement:
        """The agreement with the signatures that are there; whether they suffice is for ``check_signed``."""
        signatures = [
            self._read(f"signatures/{path.name}", Signature)
            for path in sorted((self.path / "signatures").glob("*.json"))
        ]
        return SignedAgreement(agreement=encode(self.proposal()), signatures=tuple(signatures))

    def add_stop(self, party: str, signed: SignedStop) -> None:
        """Put a withdrawal into the room."""
        replace(self.path / "stops" / f"{party}.json", encode(signed))

    def stops(self) -> tuple[SignedStop, ...]:
        """Every withdrawal in the room."""
        return tuple(
            self._read(f"stops/{path.name}", SignedStop)
            for path in sorted((self.path / "stops").glob("*.json"))
        )

    def add_run(self, run: str, results: dict[str, bytes], receipt: ReceiptFile) -> Path:
        """Put what came out of a run into the room; the receipt last, so that a run with one is whole."""
        folder = self.path / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        for analysis, sealed in results.items():
            replace(folder / f"{analysis}.sealed", sealed)
        replace(folder / "receipt.json", encode(receipt))
        return folder

    def runs(self) -> tuple[str, ...]:
        """The runs that ended, oldest first."""
        ended = [
            path.parent for path in (self.path / "runs").glob("*/receipt.json") if len(path.parent.name) == 64
        ]
        return tuple(
            path.name for path in sorted(ended, key=lambda each: (each.stat().st_mtime_ns, each.name))
        )

    def receipt(self, run: str) -> ReceiptFile:
        """The receipt of a run, unchecked."""
        return self._read(f"runs/{run}/receipt.json", ReceiptFile)

    def sealed_result(self, run: str, analysis: Identifier) -> bytes:
        """A sealed result, unchecked.

        Raises:
            UnavailableError: the run has none of this name.
        """
        return _bytes(self.path / "runs" / run / f"{analysis}.sealed")

    def _party(self, name: str) -> Party:
        joined = self._read(f"parties/{name}", Joined)
        party = decode(joined.party, Party, name)
        check_signature(party.signing_key, joined.signature, PARTY, joined.party, f"party {party.id}")
        return party

    def _file(self, dataset: Dataset, number: int) -> Path:
        return self.path / "datasets" / f"{dataset.id}.v{dataset.version}.{number}.parquet"

    def _read(self, name: str, kind: type[T]) -> T:
        return decode(read(self.path / name, MAX_BYTES), kind, name)


def replace(path: Path, data: bytes) -> None:
    """Write a file whole, or leave the old one."""
    temporary = path.parent / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be read: {error.strerror}") from error
