"""Which tables a governance script may read and write, by its phase.

    phase              public:ccf.gov.   public:ccf.internal.   the application's   others of ccf.
    validate, resolve, read              read                   no                  no
    ballots
    apply              read and write    read                   write               no

Spec: CCF, "Access permissions", "Read-Write Restrictions".
"""

from __future__ import annotations

import enum
from typing import Final

from kluis.formats.ccf import tables
from kluis.ledger.js import HostFault

_RESERVED: Final = ("ccf.", "public:ccf.")


class Phase(enum.Enum):
    """What a script runs for."""

    JUDGE = "validate, resolve or a ballot"
    APPLY = "apply"


class Access(enum.Flag):
    """What may be done with a table."""

    NONE = 0
    READ = 1
    WRITE = 2


def access(phase: Phase, table: str) -> Access:
    """What a script of a phase may do with a table."""
    if table.startswith(tables.GOVERNANCE):
        return Access.READ if phase is Phase.JUDGE else Access.READ | Access.WRITE
    if table.startswith(tables.INTERNAL):
        return Access.READ
    if table.startswith(_RESERVED):
        return Access.NONE
    return Access.NONE if phase is Phase.JUDGE else Access.WRITE


def check(phase: Phase, table: str, wanted: Access) -> None:
    """Refuse what is not allowed, as an error that the script can catch.

    Raises:
        HostFault: it is not.
    """
    if not wanted & access(phase, table):
        doing = "read" if wanted is Access.READ else "written"
        raise HostFault(f"table {table[:200]} cannot be {doing} in {phase.value}", "TypeError")
