"""This side of a new connection to an enclave, without a socket: the handshake, evidence and its judgement.

For each connection there is the TLS 1.3 handshake, a question with this side's nonce, the server's evidence,
and its judgement. Only then may the first byte of an application's request be sent. Spec:
:mod:`kluis.formats.kluis.attested_tls`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Final

import h11

from kluis.appraisal import AttestationResult
from kluis.enclave.attested_tls.judge import Judge
from kluis.enclave.attested_tls.link import Link, client_context
from kluis.errors import AuthenticityError, UsageError
from kluis.formats.kluis.attested_tls import MAX_ANSWER_BYTES, NONCE_BYTES, PATH, Answer, Question, Role

Present = Callable[[Link, bytes], Answer]
"""Makes this end's evidence over the server's challenge: ``judge.attest_self``."""


class ClientEnd:
    """This side of connections, without sockets: produces the bytes to send, and consumes those received.

    Args:
        judge: requirements on the server.
        present: makes this end's evidence, if it is an enclave that attests itself; None if it is not.
    """

    def __init__(self, judge: Judge, present: Present | None) -> None:
        self._judge = judge
        self._present = present
        self._context = client_context()

    def open(self) -> Link:
        """This end of a new connection."""
        return Link(self._context, Role.CLIENT)

    def believed_until(self, began: float) -> float:
        """When a judgement expires whose evidence was requested at ``began`` or later.

        Both times are by :func:`kluis.enclave.attested_tls.judge.elapsed`.
        """
        return began + self._judge.evidence_seconds

    def introduce(self, link: Link) -> Generator[bool, bytes, AttestationResult]:
        """Do the handshake and exchange evidence: yields whether it needs input, after pending output was
        sent.

        Raises:
            AuthenticityError: no evidence arrived, or it is not authentic.
            KluisError: as for :meth:`kluis.enclave.attested_tls.judge.Judge.judge`.
            ConnectionError: the server ends the connection after its evidence.
        """
        while not link.handshake():
            link.feed((yield True))
        nonce = os.urandom(NONCE_BYTES)
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_BYTES)
        answer = Answer.parse((yield from _exchange(link, http, "POST", Question(nonce).encode(), 200)))
        result = self._judge.judge(answer, link, nonce)
        if self._present is not None:
            if not answer.challenge:
                raise UsageError("evidence: this server requests no evidence from its clients")
            http.start_next_cycle()
            own = self._present(link, answer.challenge)
            yield from _exchange(link, http, "PUT", own.encode(), 204)
        return result


def _exchange(
    link: Link, http: h11.Connection, method: str, body: bytes, want: int
) -> Generator[bool, bytes, bytes]:
    """Send one request of the protocol, before any of the application's."""
    headers = [("host", "enclave"), ("content-length", str(len(body)))]
    for sent in (
        h11.Request(method=method, target=PATH, headers=headers),
        h11.Data(body),
        h11.EndOfMessage(),
    ):
        link.write(http.send(sent) or b"")
    yield False
    status, parts, taken = 0, [], 0
    try:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                while not (plain := link.read()):
                    if plain is None:
                        raise AuthenticityError(NO_EVIDENCE.format("the end"), code="channel_evidence")
                    link.feed((yield True))
                taken += len(plain)  # heads, interim answers and chunks' extensions too
                if taken > MOST_TAKEN:
                    raise AuthenticityError(NO_EVIDENCE.format("more bytes"), code="channel_evidence")
                http.receive_data(plain)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise AuthenticityError(NO_EVIDENCE.format("the end"), code="channel_evidence")
    except h11.RemoteProtocolError:
        raise AuthenticityError(NO_EVIDENCE.format("no HTTP/1.1"), code="channel_evidence") from None
    if status != want:
        text = b"".join(parts)[:200]
        raise AuthenticityError(
            f"evidence: want status {want}, got {status} {text.decode('ascii', 'backslashreplace')}",
            hint="is an enclave of Kluis's at this address, and nothing in between?",
            code="channel_evidence",
        )
    if http.our_state is h11.MUST_CLOSE:
        raise ConnectionError("evidence: the server ends the connection with it")
    return b"".join(parts)


MOST_TAKEN: Final = 2 * MAX_ANSWER_BYTES
NO_EVIDENCE: Final = "evidence: want an answer, got {}"
