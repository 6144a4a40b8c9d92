"""The interface of what attests an enclave: the platform process, or a driver of hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from kluis.formats.kluis import channel


def nothing() -> None:
    """Do nothing while an answer is on its way."""


T = TypeVar("T", channel.Bytes, channel.Truth, channel.Count, channel.Platform)


class Attester(Protocol):
    """Answers this enclave's requests for evidence, keys and counters; safe to use from several threads."""

    def request(self, message: channel.Request, want: type[T], meanwhile: Callable[[], None] = nothing) -> T:
        """Send one request and wait for its answer.

        Args:
            message: the request.
            want: the type of the answer.
            meanwhile: runs once the request was sent, in this thread; other requests wait for it, and it
                must not raise.

        Raises:
            EnclaveError: the session has ended, and with it the attestation; the enclave must end.
            KluisError: the request is refused, with the class of its error.
        """

    async def request_async(self, message: channel.Request, want: type[T]) -> T:
        """As :meth:`request`, from a coroutine: its event loop goes on until the answer comes."""
