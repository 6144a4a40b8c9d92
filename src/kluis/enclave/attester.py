"""What attests an enclave: the platform process today, a driver of hardware where there is one."""

from __future__ import annotations

from typing import Protocol, TypeVar

from kluis.formats.kluis import channel

T = TypeVar("T", channel.Bytes, channel.Truth, channel.Count, channel.Platform)


class Attester(Protocol):
    """Answers this enclave's requests for evidence, keys and counters; safe to use from several threads."""

    def request(self, message: channel.Request, want: type[T]) -> T:
        """Send one request and wait for its answer.

        Args:
            message: the request.
            want: the kind of answer that belongs to it.

        Raises:
            EnclaveError: nothing attests this enclave any more; it must end.
            KluisError: the request is refused; the class says why.
        """
