"""JSON of a ledger's tables and of its members' requests: whatever members wrote, and scripts wrote again.

Members' data have any numbers: 1.5, and 1e20, which JavaScript writes as 100000000000000000000. A reader that
refuses one refuses the whole row, and with it a node, a member, or an honest ledger.

Spec: CCF, "Built-in Maps"; ECMA-262, "JSON.stringify".
"""

from __future__ import annotations

from typing import Any, Final

from kluis.formats.encoding import jcs

MAX_SIZE: Final = 64 << 20
"""Bytes. A node of ours writes entries of at most 8 MiB, and signed requests are in base64 there."""
MAX_DEPTH: Final = 64


def read_json(data: bytes, what: str) -> Any:
    """Read a value; a number that is no integer up to 2^53-1 is a float.

    Raises:
        FormatError: not JSON, a key twice, half a surrogate pair, too large or deep.
    """
    # The type of canonical JSON has no floats, and of a table's value nothing canonical is made.
    return jcs.loads(
        data,
        what,
        max_size=MAX_SIZE,
        max_depth=MAX_DEPTH,
        real=float,  # type: ignore[arg-type]
        large=float,  # type: ignore[arg-type]
    )
