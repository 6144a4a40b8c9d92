"""The authority of one machine: the emulated authority, its keys and its state in files of the platform's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Self

from kluis import authority, files
from kluis.authority import Keys, State
from kluis.tee.platform.root import keyfiles


class Authority(authority.Authority):
    """The emulated authority of this machine; ``save`` writes its keys readable by this user alone."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read an authority that ``save`` wrote.

        Raises:
            UnavailableError: a file is missing, another user's, or open to others.
            FormatError: a file is not what ``save`` writes.
        """
        names = [field.name for field in dataclasses.fields(Keys)]
        keys = {name: keyfiles.load_key(directory / f"{name}.key") for name in names}
        return cls(Keys(**keys), State.parse(keyfiles.read(directory / "authority.json")))

    def save(self, directory: Path) -> None:
        """Write keys and state into ``directory``, each file 0600, whole or not at all."""
        for field in dataclasses.fields(Keys):
            keyfiles.save_key(directory / f"{field.name}.key", getattr(self.keys, field.name))
        files.write(directory / "authority.json", self.state.encode())
