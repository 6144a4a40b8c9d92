"""Send commands to a TPM over a descriptor: the kernel's device, or a stream to another TPM."""

from __future__ import annotations

import os
import select
import threading
from typing import Final, Self

from kluis.errors import FormatError, UnavailableError
from kluis.formats.tpm import command

DEVICE: Final = "/dev/tpmrm0"
"""The kernel's resource manager: it swaps objects, and closes them with the descriptor."""
SECONDS: Final = 300
"""TPMs may take minutes to create a key; this ends only a command that hangs."""


class Transport:
    """A TPM behind a descriptor, which this object owns.

    Args:
        descriptor: open for reading and writing. One write sends a command, and reads return the response.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str = DEVICE) -> Self:
        """Open a TPM device.

        Raises:
            UnavailableError: there is none, or it cannot be opened.
        """
        try:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
        except FileNotFoundError:
            raise UnavailableError(f"TPM: no {path}", code="tpm_absent") from None
        except OSError as error:
            raise UnavailableError(
                f"TPM: {path}: {error.strerror}",
                hint="run it as root, or as a member of the group tss; no other program may hold the device",
                code="tpm_absent",
            ) from None

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def exchange(self, request: bytes) -> bytes:
        """Send one command and return the response, 10 to 4096 bytes; threads take turns.

        Raises:
            UnavailableError: the TPM does not answer, or the connection fails.
            FormatError: the response has an impossible size.
        """
        with self._lock:
            return self._exchange(request)

    def _exchange(self, request: bytes) -> bytes:
        try:
            if os.write(self._descriptor, request) != len(request):
                raise UnavailableError("TPM: took only a part of a command", code="tpm_silent")
            response = self._read(command.MAX_SIZE)
            while len(response) < command.HEADER_SIZE:
                response += self._read(command.HEADER_SIZE - len(response))
            size = command.size_of(response)
            while len(response) < size:
                response += self._read(size - len(response))
        except OSError as error:
            raise UnavailableError(f"TPM: does not answer: {error.strerror}", code="tpm_silent") from None
        if len(response) > size:
            raise FormatError(f"TPM response: {len(response) - size} bytes follow it", code="trailing_data")
        return response

    def _read(self, most: int) -> bytes:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(SECONDS * 1000):
            raise UnavailableError(f"TPM: no response in {SECONDS} s", code="tpm_silent")
        data = os.read(self._descriptor, most)
        if not data:
            raise UnavailableError("TPM: closed the connection", code="tpm_silent")
        return data
