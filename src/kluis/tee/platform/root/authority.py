"""The emulated authority of one machine, with its keys and state in the platform's files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Self

from kluis import authority, files
from kluis.authority import Keys, State
from kluis.tee import keyfiles


class Authority(authority.Authority):
    """The emulated authority of this machine; ``save`` writes its keys so that only this user can read
    them.
    """

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Load an authority from the output of ``save``.

        Raises:
            UnavailableError: a file is missing, another user's, or accessible to others.
            FormatError: a file is damaged.
        """
        names = [field.name for field in dataclasses.fields(Keys)]
        keys = {name: keyfiles.load_key(directory / f"{name}.key") for name in names}
        return cls(Keys(**keys), State.parse(keyfiles.read(directory / "authority.json")))

    def save(self, directory: Path) -> None:
        """Write keys and state into ``directory``, each file 0600, atomically."""
        for field in dataclasses.fields(Keys):
            keyfiles.save_key(directory / f"{field.name}.key", getattr(self.keys, field.name))
        files.write(directory / "authority.json", self.state.encode())
