"""The documents of attested TLS that both ends exchange after the handshake. Nothing here is verified.

Evidence in a certificate can be relayed: anyone who holds, or only forwards, such a certificate is believed.
So the evidence comes after the handshake, in answer to the requesting end's own nonce. Its runtime data
(purpose ``channel``) contain a *binding*: the role of the end that makes it, and the connection's exporter,
which no two connections share.

    POST /.well-known/kluis/evidence    question -> answer      the server attests itself
    PUT  /.well-known/kluis/evidence    answer   -> 204         the client attests itself

    binding:  {"exporter": hex, "role": "client" | "server", "version": 1}
    question: {"nonce": base64url, "version": 1}
    answer:   {"challenge": base64url, "launch_configuration": base64url, "quote": base64url,
               "runtime_data": base64url, "version": 1}

Canonical JSON (RFC 8785). The exporter is ``tls-exporter`` of RFC 9266: label ``EXPORTER-Channel-Binding``,
no context, 32 bytes. The role prevents one end's evidence from being returned to it as the other's.
"""

from __future__ import annotations

import enum
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.frozen import frozen

PATH: Final = "/.well-known/kluis/evidence"
LABEL: Final = b"EXPORTER-Channel-Binding"
EXPORTER_BYTES: Final = 32
NONCE_BYTES: Final = 32
MAX_QUESTION_BYTES: Final = 1024
MAX_ANSWER_BYTES: Final = 256 * 1024


class Role(enum.StrEnum):
    """An end of the connection."""

    CLIENT = "client"
    SERVER = "server"


@frozen
class Binding:
    """The payload of runtime data of purpose ``channel``.

    Attributes:
        role: the end that made the evidence.
        exporter: 32 bytes, of the connection that the evidence was made for.
    """

    role: Role
    exporter: bytes

    def encode(self) -> bytes:
        """Write the document.

        Raises:
            FormatError: the exporter has another length.
        """
        _length("channel binding.exporter", self.exporter, EXPORTER_BYTES)
        return jcs.dumps({"exporter": self.exporter.hex(), "role": self.role.value, "version": 1})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a document in its one canonical form.

        Raises:
            FormatError: not canonical, a member missing or unknown, out of bounds.
        """
        what = "channel binding"
        value = Members(jcs.loads_canonical(data, what, max_size=MAX_QUESTION_BYTES), what)
        value.only(("exporter", "role", "version"))
        value.version(1)
        role = value.text("role")
        if role not in set(Role):
            raise FormatError(f"{what}.role: want client or server, got {role!a}", code="bad_type")
        exporter = value.hex("exporter", lower=True)
        _length(f"{what}.exporter", exporter, EXPORTER_BYTES)
        return cls(Role(role), exporter)


@frozen
class Question:
    """A request for evidence.

    Attributes:
        nonce: 32 bytes, chosen by the requesting end, used once.
    """

    nonce: bytes

    def encode(self) -> bytes:
        """Write the document.

        Raises:
            FormatError: the nonce has another length.
        """
        _length("evidence question.nonce", self.nonce, NONCE_BYTES)
        return jcs.dumps({"nonce": b64.encode_url(self.nonce), "version": 1})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a document in its one canonical form.

        Raises:
            FormatError: not canonical, a member missing or unknown, out of bounds.
        """
        what = "evidence question"
        value = Members(jcs.loads_canonical(data, what, max_size=MAX_QUESTION_BYTES), what)
        value.only(("nonce", "version"))
        value.version(1)
        nonce = b64.decode_url(value.text("nonce"), f"{what}.nonce")
        _length(f"{what}.nonce", nonce, NONCE_BYTES)
        return cls(nonce)


class Answer(EvidenceBundle, frozen=True):
    """Evidence whose payload is a :class:`Binding`.

    Attributes:
        challenge: 32 bytes, the server's nonce for evidence of its client; empty in a client's answer.
    """

    challenge: bytes = b""

    def encode(self) -> bytes:
        """Write the document.

        Raises:
            FormatError: it is larger than a reader accepts, or the challenge has another length.
        """
        _challenge(self.challenge)
        made = jcs.dumps({name: b64.encode_url(getattr(self, name)) for name in _PARTS} | {"version": 1})
        if len(made) > MAX_ANSWER_BYTES:
            raise FormatError(
                f"evidence answer: is {len(made)} bytes, must be at most {MAX_ANSWER_BYTES}", code="too_large"
            )
        return made

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a document in its one canonical form.

        Raises:
            FormatError: not canonical, a member missing or unknown, out of bounds.
        """
        what = "evidence answer"
        value = Members(jcs.loads_canonical(data, what, max_size=MAX_ANSWER_BYTES), what)
        value.only((*_PARTS, "version"))
        value.version(1)
        answer = cls(**{name: b64.decode_url(value.text(name), f"{what}.{name}") for name in _PARTS})
        _challenge(answer.challenge)
        return answer


def _challenge(value: bytes) -> None:
    if value:
        _length("evidence answer.challenge", value, NONCE_BYTES)


def _length(what: str, value: bytes, want: int) -> None:
    if len(value) != want:
        raise FormatError(f"{what}: want {want} bytes, got {len(value)}", code="bad_length")


_PARTS: Final = ("challenge", "launch_configuration", "quote", "runtime_data")
