"""A room's folder with the sample's sealed data, and an unsigned agreement; made for tests."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kluis.cleanroom.agreement.agreement import SIGNED_AS, Agreement, Signature, SignedAgreement
from kluis.cleanroom.agreement.documents import encode
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.rooms import Room, RoomFile
from kluis.cli.main import run
from tests.cleanroom import samples
from tests.cleanroom.platform import Platform


class Table:
    """Two owners around one folder, and the commands that they type."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.platform = Platform(samples.NOW)
        self.setting = samples.setting(folder / "homes", samples.code(root=self.platform.root()))
        self.agreement = self.setting.agreement
        self.homes = self.setting.homes
        self.room = Room.create(folder / "room", "Sample", "Tests")
        file = RoomFile(kind="kluis-room/1", room=samples.ROOM, title="Sample", purpose="Tests")
        self.room.folder.replace("room.json", encode(file))
        self.room = Room(self.room.path)
        for dataset in self.agreement.datasets:
            home = self.homes[dataset.owner]
            self.room.join(home, self.agreement.party(dataset.owner))
            self.room.add_dataset(home, dataset, (self.setting.files[dataset.id],))
        self.root = folder / "root.pem"
        self.root.write_text(self.platform.root())
        self.propose()

    def propose(self, **changes: object) -> Agreement:
        """Put an agreement on the table, as anyone who holds the folder can."""
        self.agreement = msgspec.structs.replace(self.setting.agreement, **changes)
        self.room.propose(self.agreement)
        return self.agreement

    def approve(self, party: str, *words: object, root: bool = True) -> tuple[int, str, str]:
        """Type ``kluis room approve`` as a party; with the root that it got from the machine's owner."""
        given = ["--root", str(self.root)] if root else []
        return self("approve", "--as", party, "--yes", *given, *words)

    def __call__(self, command: str, *words: object) -> tuple[int, str, str]:
        code = run(
            ["room", command, str(self.room.path), "--home", str(self.folder / "homes"), *map(str, words)]
        )
        return (code, *self._capsys.readouterr())

    def signatures(self) -> list[str]:
        """Who signed what is on the table, as the folder has it."""
        return sorted(path.stem for path in (self.room.path / "signatures").iterdir())


def signed_unchecked(agreement: Agreement, homes: dict[str, Home]) -> SignedAgreement:
    """An agreement that all sign with their own clients, which check nothing."""
    raw = encode(agreement)
    given = tuple(Signature(party=name, signature=homes[name].signing.sign(SIGNED_AS, raw)) for name in homes)
    for home in homes.values():
        home.agree(agreement)
    return SignedAgreement(agreement=raw, signatures=given)
