"""Messages about a key of the machine's vTPM, between an enclave and the agent in its machine.

They travel over the granted socket ``connect:kluis.machine``, which the agent itself serves: no byte of them
leaves the machine. A message is its size (u32, little-endian) and MessagePack.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kluis.errors import FormatError
from kluis.formats.encoding.unreadable import UNREADABLE

GRANT: Final = "connect:kluis.machine"
SIZE_BYTES: Final = 4
MAX_SIZE: Final = 256 * 1024
MAX_CIPHERTEXT: Final = 512
MAX_NONCE: Final = 64


class Offer(msgspec.Struct, tag="offer", frozen=True, forbid_unknown_fields=True):
    """Requests the evidence of this machine's vTPM, with this launch's key; ``nonce``: at most 64 bytes."""

    nonce: bytes


class Open(msgspec.Struct, tag="open", frozen=True, forbid_unknown_fields=True):
    """Requests what was encrypted to this launch's key.

    Attributes:
        ciphertext: at most 512 bytes.
        scheme: ``rsaes``, or ``oaep-sha256``, without a label.
    """

    ciphertext: bytes
    scheme: str


class MachineOffer(msgspec.Struct, tag="offered", frozen=True, forbid_unknown_fields=True):
    """A key of a vTPM, and the evidence of its machine; may be an ecall's result. Nothing is verified.

    Attributes:
        key: TPMT_PUBLIC of an RSA key that decrypts, which belongs to one launch of one image.
        certification: TPMS_ATTEST of the attestation key about ``key``.
        certification_signature: TPMT_SIGNATURE of it.
        attestation_key: TPMT_PUBLIC.
        hcl: the paravisor's report.
        quote: TPMS_ATTEST of PCRs 0 to 15; its nonce is the SHA-256 of ``key`` and the offer's nonce.
        signature: TPMT_SIGNATURE of it.
        pcrs: the quoted values, JSON as in :mod:`kluis.formats.tpm.pcrs`.
        event_log: of the firmware; empty if there is none.
        certificates: of the processor, PEM.
    """

    key: bytes
    certification: bytes
    certification_signature: bytes
    attestation_key: bytes
    hcl: bytes
    quote: bytes
    signature: bytes
    pcrs: bytes
    event_log: bytes
    certificates: bytes


class Opened(msgspec.Struct, tag="opened", frozen=True, forbid_unknown_fields=True):
    """What was encrypted."""

    value: bytes

    def __repr__(self) -> str:
        return f"Opened({len(self.value)} bytes)"


class Refused(msgspec.Struct, tag="refused", frozen=True, forbid_unknown_fields=True):
    """The request was understood and refused."""

    code: str
    message: str


Request = Offer | Open
Reply = MachineOffer | Opened | Refused

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_encode = msgspec.msgpack.Encoder().encode


def encode(message: Request | Reply) -> bytes:
    """Write a message, with its size.

    Raises:
        FormatError: more than 256 KiB.
    """
    body = _encode(message)
    return read_size(len(body).to_bytes(SIZE_BYTES, "little")).to_bytes(SIZE_BYTES, "little") + body


def read_size(head: bytes) -> int:
    """The size of the message that follows, from its first 4 bytes.

    Raises:
        FormatError: another length, or more than 256 KiB.
    """
    size = int.from_bytes(head, "little")
    if len(head) != SIZE_BYTES or size > MAX_SIZE:
        raise FormatError(f"machine key: want a message of at most {MAX_SIZE} bytes, got {size}")
    return size


def read_request(body: bytes) -> Request:
    """Read a request, without its size.

    Raises:
        FormatError: not a request.
    """
    try:
        request = _requests.decode(body)
    except UNREADABLE as error:
        raise FormatError(f"machine key: request: {error}") from None
    size, most = (
        (len(request.nonce), MAX_NONCE)
        if isinstance(request, Offer)
        else (len(request.ciphertext), MAX_CIPHERTEXT)
    )
    if size > most:
        raise FormatError(f"machine key: request: want at most {most} bytes, got {size}", code="too_large")
    return request


def read_reply(body: bytes) -> Reply:
    """Read a reply, without its size.

    Raises:
        FormatError: not a reply.
    """
    try:
        return _replies.decode(body)
    except UNREADABLE as error:
        raise FormatError(f"machine key: reply: {error}") from None
