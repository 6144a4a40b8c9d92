"""Values that cross between Python and a script, and what a script can end with.

JavaScript                  Python
null, undefined             None
boolean, string             bool, str
number, BigInt              int, or float
Array                       list; a tuple may go in
plain object                dict with keys of text
ArrayBuffer, Uint8Array     bytes, which go in as Uint8Array
"""

from __future__ import annotations

from typing import TypeAlias, Union

from kluis.errors import InternalError, KluisError, foreign

Value: TypeAlias = Union[bool, int, float, str, bytes, "list[Value]", "dict[str, Value]", None]


class ScriptError(KluisError):
    """A script did not come to its end."""

    code = "script"
    exit_code = 6
    http_status = 400


class ScriptThrew(ScriptError):
    """A script threw, or is not JavaScript.

    Args:
        name: of the error that it threw, as ``TypeError``; empty for another value.
        reason: the message that it threw; the script's own text.
        trace: where, a line for each call; the script's own text.
    """

    code = "script_threw"

    def __init__(self, name: str, reason: str, trace: str) -> None:
        super().__init__(f"script: threw {foreign(f'{name}: {reason}' if name else reason)}")
        self.name = name
        self.reason = reason
        self.trace = trace


class ScriptLimit(ScriptError):
    """A script ran past its time, or out of its memory or stack. Its engine is freed."""

    code = "script_limit"


class HostFault(Exception):
    """Raised by a bound function: the script sees it as an error that it can catch.

    Args:
        message: what the script reads.
        name: of the error, as ``TypeError``.
    """

    def __init__(self, message: str, name: str = "Error") -> None:
        super().__init__(message)
        self.message = message
        self.name = name


def engine_fault(engine: str) -> InternalError:
    """What a panic of the engine becomes: a panic is no Exception, and callers expect one."""
    return InternalError(f"script engine: failed: {foreign(engine)}")
