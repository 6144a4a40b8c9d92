"""Streaming ecalls on the wire: three plain calls, so that limits, types, errors and cancellation are theirs.

An ecall that returns an iterator of ``T`` is *opened* by a call with a number that the host chooses, and the
ecall's arguments. A second call takes the number and returns the next item, of type ``T``, or ends with the
error ``stream_end``. A third closes the stream before its end. The second calls are numbered after all
ecalls, one for each streaming ecall in their order; the third, one for all, comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from kluis.enclave.boundary.interface import Parameter, Signature

StreamId = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
END = "stream_end"
_STREAM = Parameter("(stream)", StreamId)  # no parameter of an application has this name


def calls_of(ecalls: Sequence[Signature]) -> list[Signature]:
    """The signatures of all plain calls, in the order of their numbers."""
    streams = [one for one in ecalls if one.stream]
    signatures = [opening(one) if one.stream else one for one in ecalls]
    signatures += [Signature(one.name, (_STREAM,), one.returns, one.raises) for one in streams]
    if streams:
        signatures.append(Signature("close", (_STREAM,), None))
    return signatures


def opening(ecall: Signature) -> Signature:
    """The call that opens a stream."""
    parameters = (_STREAM, *ecall.parameters)
    return msgspec.structs.replace(ecall, parameters=parameters, returns=None, stream=False)
