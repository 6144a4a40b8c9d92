"""The options of room commands that name a party, and the folder of the parties' keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kluis.cli.parameters import option

As = Annotated[str, option("Your short name in the room, such as clinic.", "PARTY", "--as")]
Homes = Annotated[
    Path | None,
    option("The folder of the parties' keys. [default: KLUIS_PARTIES, or the user's data]", "DIR", "--home"),
]
