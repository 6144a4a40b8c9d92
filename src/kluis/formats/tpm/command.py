"""Write TPM 2.0 commands and parse responses: the header, the handles and the authorization area. Big-endian.

Spec: TCG "TPM 2.0 Library Part 1: Architecture", "Command/Response Structure"; Part 2: Structures, "TPM_CC",
"TPM_RC", "TPMS_AUTH_COMMAND", "TPMS_AUTH_RESPONSE".
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

from kluis.errors import FormatError, UsageError
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm.attest import encode_sized, read_sized
from kluis.frozen import frozen

WHAT: Final = "TPM response"
MAX_SIZE: Final = 4096
HEADER_SIZE: Final = 10
NO_SESSIONS: Final = 0x8001
SESSIONS: Final = 0x8002
# A TPM of another version, or one that rejects the tag, answers with this one.
OLD: Final = 0x00C4

OWNER: Final = 0x40000001
NULL: Final = 0x40000007
PASSWORD: Final = 0x40000009
ENDORSEMENT: Final = 0x4000000B
CONTINUE: Final = 1
MAX_HMAC: Final = 64


class Command(enum.IntEnum):
    """TPM_CC, of the commands that are used."""

    EVICT_CONTROL = 0x120
    NV_UNDEFINE_SPACE = 0x122
    NV_DEFINE_SPACE = 0x12A
    CREATE_PRIMARY = 0x131
    NV_INCREMENT = 0x134
    NV_WRITE = 0x137
    CERTIFY = 0x148
    NV_READ = 0x14E
    CREATE = 0x153
    LOAD = 0x157
    QUOTE = 0x158
    RSA_DECRYPT = 0x159
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    NV_READ_PUBLIC = 0x169
    READ_PUBLIC = 0x173
    START_AUTH_SESSION = 0x176
    GET_CAPABILITY = 0x17A
    GET_RANDOM = 0x17B
    PCR_READ = 0x17E
    POLICY_PCR = 0x17F
    PCR_EXTEND = 0x182
    AWS_NSM_REQUEST = 0x20000001


@frozen
class Authorization:
    """One authorization: a password, or a policy session that needs no HMAC.

    Attributes:
        session: handle of the session, or ``PASSWORD``.
        secret: the password, at most 64 bytes; empty for a policy session. Never printed.
    """

    session: int = PASSWORD
    secret: bytes = dataclasses.field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Write the TPMS_AUTH_COMMAND, without a nonce."""
        attributes = 0 if self.session == PASSWORD else CONTINUE
        return (
            self.session.to_bytes(4, "big")
            + encode_sized(b"")
            + bytes([attributes])
            + encode_sized(self.secret)
        )


@frozen
class Response:
    """A successful response.

    Attributes:
        handles: returned, in order.
        parameters: the bytes after them, without authorizations.
    """

    handles: tuple[int, ...]
    parameters: bytes = dataclasses.field(repr=False)


def encode(
    command: int, handles: tuple[int, ...], parameters: bytes = b"", *, auth: tuple[Authorization, ...] = ()
) -> bytes:
    """Write one command.

    Args:
        command: its code.
        handles: in order.
        parameters: after the handles and authorizations.
        auth: of the first handles, one each.

    Raises:
        UsageError: it is longer than 4096 bytes.
    """
    body = b"".join(handle.to_bytes(4, "big") for handle in handles)
    if auth:
        area = b"".join(each.encode() for each in auth)
        body += len(area).to_bytes(4, "big") + area
    body += parameters
    size = HEADER_SIZE + len(body)
    if size > MAX_SIZE:
        raise UsageError(f"TPM command {command:#x}: want at most {MAX_SIZE} bytes, got {size}")
    tag = SESSIONS if auth else NO_SESSIONS
    return tag.to_bytes(2, "big") + size.to_bytes(4, "big") + command.to_bytes(4, "big") + body


def size_of(header: bytes) -> int:
    """The size of a response that starts with ``header``, at least 10 bytes; itself 10..4096.

    Raises:
        FormatError: another size, or ``header`` is cut short.
    """
    r = Reader(header, WHAT, byte_order="big")
    r.u16("tag")
    size = r.u32("size")
    if not HEADER_SIZE <= size <= MAX_SIZE:
        raise FormatError(
            f"{WHAT}.size at 0x2: want {HEADER_SIZE}..{MAX_SIZE}, got {size}", code="bad_length"
        )
    return size


def parse_code(data: bytes) -> int:
    """The response code, TPM_RC; 0 is success. A response with an error has nothing else.

    Raises:
        FormatError: malformed.
    """
    r = Reader(data, WHAT, byte_order="big")
    tag, size, code = r.u16("tag"), r.u32("size"), r.u32("code")
    if size != len(data):
        raise FormatError(f"{WHAT}.size at 0x2: want {len(data)}, got {size}", code="bad_length")
    if tag not in (NO_SESSIONS, SESSIONS) and not (tag == OLD and code):
        raise FormatError(
            f"{WHAT}.tag at 0x0: want {NO_SESSIONS:#x} or {SESSIONS:#x}, got {tag:#x}", code="bad_type"
        )
    if code:
        r.end()
    return code


def parse(data: bytes, handles: int = 0, sessions: int = 0) -> Response:
    """Parse a successful response; no bytes may follow it.

    Args:
        data: at most 4096 bytes.
        handles: number of handles that the command returns.
        sessions: number of authorizations that the command had.

    Raises:
        FormatError: malformed, or it is an error.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    if code := parse_code(data):
        raise FormatError(f"{WHAT}.code at 0x6: want 0, got {code:#x}", code="bad_type")
    r = Reader(data, WHAT, byte_order="big")
    tag = r.u16("tag")
    r.take(HEADER_SIZE - 2, "header")
    if (tag == SESSIONS) != bool(sessions):
        raise FormatError(f"{WHAT}.tag at 0x0: got {tag:#x} to {sessions} authorizations", code="bad_type")
    returned = tuple(r.u32("handle") for _ in range(handles))
    if not sessions:
        return Response(returned, r.take(r.left, "parameters"))
    parameters = r.take(r.u32("parameter_size"), "parameters")
    for _ in range(sessions):
        read_sized(r, "nonce", MAX_HMAC)
        r.u8("attributes")
        read_sized(r, "hmac", MAX_HMAC)
    r.end()
    return Response(returned, parameters)
