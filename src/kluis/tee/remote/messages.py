"""Messages between a host and a machine's agent, over streams of :mod:`kluis.streams`.

A message is canonical JSON, an object; a host sends requests, each with ``op``, and the agent answers in
order. Bytes of an image travel as files of a parcel.

| request                                          | answer                                           |
|--------------------------------------------------|--------------------------------------------------|
| ``hello``                                        | ``protocol``; ``only``: hex or null              |
| ``status``, ``root``, ``collateral``             | as of the platform                               |
| ``launch``: ``launch``, ``allow_missing``,       | ``want``: digests of layers; for each the host   |
| ``sockets``, ``fresh``: use no layers that the   | sends ``layer`` with its part of the file; then, |
| platform holds; file: the image's head           | after both ends have joined: the enclave         |
| ``join``: ``launch``, ``as``: calls or control   | ``joined``: from then on the stream is the       |
|                                                  | enclave's, numbered from 0 again                 |
| ``forward``: ``launch``, ``socket``: a grant     | ``forwarded``: from then on the stream carries   |
|                                                  | one connection, numbered from 0 again            |
| ``kill``, on the stream of a launch              | none                                             |

On the stream of a launch the agent reports ``exited``, with ``status`` and ``words``. When that stream ends,
so does the enclave. An error is ``error``, ``code``, ``message``, ``hint``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from kluis.errors import BY_NAME, FormatError, KluisError, UnavailableError, foreign
from kluis.formats.encoding import b64, jcs
from kluis.parcels import Place, RefusedParcel
from kluis.streams import INLINE, BrokenStream, Bytes, Stream

PROTOCOL: Final = 1
MAX_BYTES: Final = jcs.MAX_SIZE
ENDS: Final = ("calls", "control")
MOST_WORDS: Final = 2000
"""Characters of a text that a machine reports."""
BLOCK_BYTES: Final = 16
"""The two lengths before a layer's index and its data."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

Message = dict[str, jcs.Json]


def send(stream: Stream, message: Mapping[str, jcs.Writable], files: Sequence[Bytes] = ()) -> None:
    """Send a message, with the content of files.

    Raises:
        UnavailableError: the other end has closed, or reads nothing.
    """
    data = jcs.dumps(message)
    try:
        if files or len(data) > INLINE:
            stream.send_parcel(0, [data, *files])
        else:
            stream.send(data)
    except OSError as error:
        raise _gone_error(error) from None


def receive(
    stream: Stream, *, announced: bool = False, place: Place | None = None
) -> tuple[Message, tuple[int, ...]] | None:
    """Receive a message and descriptors of its files, sealed, which the caller must close.

    Args:
        stream: accepts files of ``stream.most_bytes``.
        announced: an answer must come, so wait no longer than the stream's patience.
        place: where the last of its files must go, which is then not one of those returned.

    Returns:
        None when the other end has closed.

    Raises:
        FormatError: not a message, or without the file that is wanted.
        UnavailableError: the other end violated the format of streams, or stalled.
    """
    try:
        received = stream.receive(announced=announced, place=place)
    except RefusedParcel as refused:
        raise FormatError(f"message: {refused.problem}", code="too_large") from None
    except OSError as error:
        raise _gone_error(error) from None
    if received is None:
        return None
    body, files = received.files[:1], received.files[1:]
    try:
        if place is not None and not body:
            raise FormatError("message: want a file with it, got none")
        return parse(read(body[0], MAX_BYTES) if body else received.frame), files
    except FormatError:
        for descriptor in files:
            os.close(descriptor)
        raise
    finally:
        for descriptor in body:
            os.close(descriptor)


def read(descriptor: int, max_bytes: int) -> bytes:
    """Read a sealed memory file.

    Raises:
        FormatError: it is larger than ``max_bytes``.
    """
    size = os.fstat(descriptor).st_size
    if size > max_bytes:
        raise FormatError(f"message: want at most {max_bytes} bytes, got {size}", code="too_large")
    return os.pread(descriptor, size, 0)


def parse(data: bytes) -> Message:
    """Parse a message.

    Raises:
        FormatError: not a JSON object.
    """
    message = jcs.loads(data, "message")
    if not isinstance(message, dict):
        raise FormatError(f"message: want an object, got {type(message).__name__}")
    return message


def text(message: Message, name: str) -> str:
    """A member that is a string.

    Raises:
        FormatError: it is missing, or of another type.
    """
    value = message.get(name)
    if not isinstance(value, str):
        raise FormatError(f"message.{name}: want a string, got {type(value).__name__}")
    return value


def octets(message: Message, name: str) -> bytes:
    """A member that is base64; raises as :func:`text`."""
    return b64.decode(text(message, name), f"message.{name}")


def digest(message: Message, name: str) -> bytes:
    """A member that is 32 bytes in lower-case hex; raises as :func:`text`."""
    value = text(message, name)
    if not _DIGEST.fullmatch(value):
        raise FormatError(f"message.{name}: want 64 hex digits, got {value[:80]!a}")
    return bytes.fromhex(value)


def number(message: Message, name: str) -> int:
    """A member that is an integer; raises as :func:`text`."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(f"message.{name}: want an integer, got {type(value).__name__}")
    return value


def texts(message: Message, name: str) -> list[str]:
    """A member that is a list of strings; raises as :func:`text`."""
    value = message.get(name)
    if not isinstance(value, list):
        raise FormatError(f"message.{name}: want a list of strings, got {type(value).__name__}")
    strings = [each for each in value if isinstance(each, str)]
    if len(strings) != len(value):
        raise FormatError(f"message.{name}: want a list of strings, got other items")
    return strings


def report(error: KluisError) -> Message:
    """The answer that reports an error."""
    kind = next(each.__name__ for each in type(error).__mro__ if each.__module__ == "kluis.errors")
    return {"error": kind, "code": error.code, "message": error.message, "hint": error.hint}


def check(answer: Message) -> Message:
    """Return an answer that reports no error.

    A machine is not trusted before it is judged. So the text of its errors is bounded, on one line, and names
    its author: nobody should run a command only because a stranger's machine proposes it.

    Raises:
        KluisError: the reported one; UnavailableError if its kind is unknown.
    """
    if "error" not in answer:
        return answer
    hint, code = answer.get("hint"), text(answer, "code")
    raise BY_NAME.get(text(answer, "error"), UnavailableError)(
        _format_words(text(answer, "message")),
        hint=f"the machine proposes: {_format_words(hint)}" if isinstance(hint, str) else None,
        code=code if _CODE.fullmatch(code) else None,
    )


def _format_words(words: str) -> str:
    return foreign(words.replace("\n", "; "), MOST_WORDS)


def _gone_error(error: OSError) -> UnavailableError:
    why = error.strerror if isinstance(error, BrokenStream) else f"closed: {error.strerror}"
    return UnavailableError(f"machine: its stream: {why}", code="machine_gone")
