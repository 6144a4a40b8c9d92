"""The encrypted channel between an enclave and its platform: its messages, handshake and keys.

A descriptor is only a pipe: anyone allowed to trace a process can duplicate it. So the runtime makes an
X25519 key before any application code runs, and does one handshake. Every later frame is sealed under the
session's keys, numbered, with one key for each direction. A frame that was changed, repeated, reordered or
made by another process does not open, and the session ends.

Nothing here reads or writes a socket: :mod:`kluis.enclave.platform` and
:mod:`kluis.tee.platform.root.session` do.

Handshake: enclave sends ``READY``. Platform checks which program the enclave executes, and sends a challenge
(32). Enclave sends ``HELLO || public key (32)``, with a socket that it names after both. Platform answers
``HELLO || public key (32)``. It makes that key before the launch, the launch document states it, and the
enclave accepts no other. Keys: HKDF-SHA-256 over the X25519 secret, salt = both public keys, info = ``kluis
channel 1``: 32 bytes for each direction. Frames: AES-256-GCM, nonce = 4 zero bytes and the frame's number (64
bits, big-endian), no associated data. Spec: RFC 7748, RFC 5869, NIST SP 800-38D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kluis.errors import AuthenticityError, FormatError
from kluis.formats.encoding.unreadable import UNREADABLE
from kluis.formats.kluis._primitives import AESGCM, generate_x25519, read_x25519

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey


READY = b"KLUIS-READY-1\n"
CHALLENGE_SIZE = 32
HELLO = b"KLUIS-CHANNEL-1\n"
HELLO_SIZE = len(HELLO) + 32
MAX_FRAME = 128 * 1024
INFO = b"kluis channel 1"


class Report(msgspec.Struct, tag="report", frozen=True, forbid_unknown_fields=True):
    """Requests a 432-byte REPORT for ``target_info`` (512 bytes) over ``report_data`` (64 bytes)."""

    target_info: bytes
    report_data: bytes


class VerifyReport(msgspec.Struct, tag="verify_report", frozen=True, forbid_unknown_fields=True):
    """Requests a check that ``report`` (432 bytes) was made for this enclave on this platform."""

    report: bytes


class TargetInfo(msgspec.Struct, tag="target_info", frozen=True, forbid_unknown_fields=True):
    """Requests this enclave's own TARGETINFO (512 bytes)."""


class Quote(msgspec.Struct, tag="quote", frozen=True, forbid_unknown_fields=True):
    """Requests a DCAP v3 quote over ``report_data`` (64 bytes)."""

    report_data: bytes


class SealKey(msgspec.Struct, tag="seal_key", frozen=True, forbid_unknown_fields=True):
    """Requests a 32-byte sealing key.

    Attributes:
        policy: ``measurement`` or ``signer``.
        svn: 0..65535, the security version of the key; refused if above the caller's own.
        key_id: 32 bytes, chosen by the caller and stored with the data that the key seals.
        cpusvn: 16 bytes, the platform version of the key, from :class:`Platform`, stored with the data that
            the key seals; refused if above the platform's own.
    """

    policy: str
    svn: int
    key_id: bytes
    cpusvn: bytes


class Counter(msgspec.Struct, tag="counter", frozen=True, forbid_unknown_fields=True):
    """Reads or changes a monotonic counter.

    Attributes:
        id: 32 bytes.
        op: ``read``, ``increment``, or ``advance``: sets ``to`` and ``mark`` if that is forward.
        to: 1..2^53-1, for ``advance``.
        mark: at most 32 bytes, for ``advance``.
        policy: of the counter's owner: ``measurement`` or ``signer``, as for :class:`SealKey`.
    """

    id: bytes
    op: str
    to: int = 0
    mark: bytes = b""
    policy: str = "signer"


class Info(msgspec.Struct, tag="info", frozen=True, forbid_unknown_fields=True):
    """Requests the platform's description."""


class Bytes(msgspec.Struct, tag="bytes", frozen=True, forbid_unknown_fields=True):
    """An answer that is bytes."""

    value: bytes


class Truth(msgspec.Struct, tag="truth", frozen=True, forbid_unknown_fields=True):
    """An answer that is yes or no."""

    value: bool


class Count(msgspec.Struct, tag="count", frozen=True, forbid_unknown_fields=True):
    """The state of a counter.

    Attributes:
        value: 0 if it was never changed.
        witness: what would detect a rollback; ``unwitnessed`` if nothing would.
        mark: stored with the value, at most 32 bytes.
    """

    value: int
    witness: str
    mark: bytes = b""


class Platform(msgspec.Struct, tag="platform", frozen=True, forbid_unknown_fields=True):
    """The platform's description: level, root (PEM), collateral (JSON), version (32 bytes), CPUSVN (16)."""

    level: str
    root: bytes
    collateral: bytes
    version: bytes
    cpusvn: bytes


class Refused(msgspec.Struct, tag="refused", frozen=True, forbid_unknown_fields=True):
    """The request was understood and refused."""

    code: str
    message: str


Request = Report | VerifyReport | TargetInfo | Quote | SealKey | Counter | Info
Reply = Bytes | Truth | Count | Platform | Refused

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_encode = msgspec.msgpack.Encoder().encode


def proof_name(hello: bytes, challenge: bytes) -> bytes:
    """The abstract name of the Unix socket on which an enclave listens to prove that a hello is its own.

    Args:
        hello: of the enclave.
        challenge: that the platform sent before, 32 bytes.
    """
    digest = Hash(SHA256())
    digest.update(hello + challenge)
    return b"\0kluis-" + digest.finalize().hex().encode()


def _parse_hello(data: bytes, who: str) -> X25519PublicKey:
    if len(data) != HELLO_SIZE or not data.startswith(HELLO):
        raise FormatError(
            f"channel handshake: want {HELLO_SIZE} bytes of {who}'s hello, got {len(data)} others"
        )
    return read_x25519(data[len(HELLO) :])


class Channel:
    """One end of an established channel. Not thread-safe: frames are numbered in their order.

    Use :meth:`Offer.accept` or :meth:`Answer.to` to make one.
    """

    __slots__ = ("_opener", "_received", "_sealer", "_sent")

    def __init__(self, send_key: bytes, receive_key: bytes) -> None:
        self._sealer = AESGCM(send_key)
        self._opener = AESGCM(receive_key)
        self._sent = 0
        self._received = 0

    def __repr__(self) -> str:
        return f"<Channel sent={self._sent} received={self._received}>"

    def _seal(self, message: Request | Reply) -> bytes:
        frame = self._sealer.encrypt(self._sent.to_bytes(12, "big"), _encode(message), None)
        if len(frame) > MAX_FRAME:
            raise FormatError(f"channel frame: want at most {MAX_FRAME} bytes, got {len(frame)}")
        self._sent += 1
        return frame

    def _open(self, frame: bytes) -> bytes:
        if len(frame) > MAX_FRAME:
            raise FormatError(f"channel frame: want at most {MAX_FRAME} bytes, got {len(frame)}")
        try:
            plain = self._opener.decrypt(self._received.to_bytes(12, "big"), frame, None)
        except InvalidTag:
            raise AuthenticityError(
                "channel frame: not the next frame of this session", code="channel_frame"
            ) from None
        self._received += 1
        return plain

    def seal_request(self, message: Request) -> bytes:
        """Seal the next request."""
        return self._seal(message)

    def seal_reply(self, message: Reply) -> bytes:
        """Seal the next reply."""
        return self._seal(message)

    def open_request(self, frame: bytes) -> Request:
        """Open the peer's next frame as a request.

        Raises:
            AuthenticityError: not the next frame of this session; the session must end.
            FormatError: it is the next frame, but does not parse.
        """
        try:
            return _requests.decode(self._open(frame))
        except UNREADABLE as error:
            raise FormatError(f"channel request: {error}") from None

    def open_reply(self, frame: bytes) -> Reply:
        """Open the peer's next frame as a reply; raises the errors of :meth:`open_request`."""
        try:
            return _replies.decode(self._open(frame))
        except UNREADABLE as error:
            raise FormatError(f"channel reply: {error}") from None


def _keys(private: X25519PrivateKey, peer: X25519PublicKey, transcript: bytes) -> tuple[bytes, bytes]:
    okm = HKDF(SHA256(), 64, salt=transcript, info=INFO).derive(private.exchange(peer))
    return okm[:32], okm[32:]


class Offer:
    """The enclave's side of the handshake: send :attr:`hello`, then :meth:`accept` the answer."""

    __slots__ = ("_private", "hello")

    def __init__(self) -> None:
        self._private = generate_x25519()
        self.hello = HELLO + self._private.public_key().public_bytes_raw()

    def accept(self, answer: bytes, public_key: bytes) -> Channel:
        """Create the channel from the platform's answer.

        Args:
            answer: unchanged.
            public_key: the platform's, 32 bytes, from the launch document.

        Raises:
            AuthenticityError: another process answered.
            FormatError: the answer is not a handshake.
        """
        peer = _parse_hello(answer, "the platform")
        if (got := answer[len(HELLO) :]) != public_key:
            raise AuthenticityError(
                f"channel handshake: platform's key: want {public_key.hex()}, got {got.hex()}",
                code="channel_sender",
            )
        try:
            outward, inward = _keys(self._private, peer, self.hello + answer)
        except ValueError:
            raise FormatError("channel handshake: the platform's key has a small order") from None
        return Channel(outward, inward)


class Answer:
    """The platform's side of one launch's handshake: send :attr:`hello`, use the channel of :meth:`to`.

    Attributes:
        public_key: 32 bytes, for the launch document.
    """

    __slots__ = ("_private", "hello", "public_key")

    def __init__(self) -> None:
        self._private = generate_x25519()
        self.public_key = self._private.public_key().public_bytes_raw()
        self.hello = HELLO + self.public_key

    def to(self, hello: bytes) -> Channel:
        """Create the channel from an enclave's hello.

        Raises:
            FormatError: not a hello.
        """
        peer = _parse_hello(hello, "the enclave")
        try:
            inward, outward = _keys(self._private, peer, hello + self.hello)
        except ValueError:
            raise FormatError("channel handshake: the enclave's key has a small order") from None
        return Channel(outward, inward)
