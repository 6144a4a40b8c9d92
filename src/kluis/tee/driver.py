"""The interface of a driver: what endorses the root of a platform on one kind of hardware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from kluis.errors import FormatError, UnavailableError, UsageError

REPORT_DATA: Final = 64


class Driver(Protocol):
    """One way to get evidence of this machine's TEE.

    Attributes:
        name: of the driver, as it is chosen.
    """

    name: str

    def available(self) -> str | None:
        """Why the driver cannot be used on this machine; None if it can."""

    def kind(self) -> str:
        """The kind of the endorsement, such as ``snp`` or ``azure-tdx``.

        Raises:
            UnavailableError: the machine does not have this TEE.
        """

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get evidence over 64 bytes of report data.

        Args:
            report_data: 64 bytes. A TPM signs the first 32 of them; then the others must be zeros.

        Returns:
            The parts of the evidence, by the names of an endorsement.

        Raises:
            UnavailableError: the TEE is missing, refuses, or gives something malformed.
            UsageError: report data of another size.
        """

    def seal_secret(self) -> bytes | None:
        """A secret of this machine and its measured software, 32 bytes; None if the TEE has none.

        Raises:
            UnavailableError: the TEE refuses.
        """


def check_report_data(report_data: bytes) -> None:
    """Refuse report data that is not 64 bytes.

    Raises:
        UsageError: it has another size.
    """
    if len(report_data) != REPORT_DATA:
        raise UsageError(f"report data: want {REPORT_DATA} bytes, got {len(report_data)}")


@contextlib.contextmanager
def answers(name: str) -> Iterator[None]:
    """Report what is malformed in a device's answer as an error of this machine.

    Raises:
        UnavailableError: a parser refused the answer; code ``driver_answer``.
    """
    try:
        yield
    except FormatError as error:
        raise UnavailableError(
            f"{name}: {error.message}",
            hint="the kernel or its host gave it: look into dmesg, and update them",
            code="driver_answer",
        ) from None


def check_equal(name: str, what: str, want: object, got: object) -> None:
    """Refuse a value in an answer that is not the requested one.

    Raises:
        UnavailableError: they differ; code ``driver_answer``.
    """
    if want != got:
        shown = [each.hex() if isinstance(each, bytes) else str(each) for each in (want, got)]
        raise UnavailableError(f"{name}: {what}: want {shown[0]}, got {shown[1]}", code="driver_answer")
