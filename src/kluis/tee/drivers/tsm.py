"""SEV-SNP and TDX by Linux's configfs-tsm: one folder for each report.

Spec: Linux, ``Documentation/ABI/testing/configfs-tsm-report``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kluis.errors import UnavailableError
from kluis.formats.wrappers.tsm import SEV, TDX
from kluis.tee.driver import check_report_data
from kluis.tee.drivers import reports

ROOT: Final = Path("/sys/kernel/config/tsm/report")
MAX_BLOB: Final = 256 * 1024 + 1184
_TEXT: Final = 64
_TRIES: Final = 16
_PROVIDERS: Final = {SEV: "snp", TDX: "tdx"}
_HINT: Final = (
    "mount -t configfs none /sys/kernel/config; modprobe sev-guest, or tdx-guest; else --endorse snp or tdx"
)


class Tsm:
    """The driver over configfs-tsm.

    Args:
        root: folder in which the kernel makes reports.
        privilege_level: VMPL to request, 0..3; by default the lowest number that the kernel permits.
    """

    name = "tsm"

    def __init__(self, root: Path = ROOT, privilege_level: int | None = None) -> None:
        self._root = root
        self._level = privilege_level

    def available(self) -> str | None:
        """Why it cannot be used; None if it can."""
        try:
            self.kind()
        except UnavailableError as error:
            return error.message
        return None

    def kind(self) -> str:
        """``snp`` or ``tdx``."""
        with self._folder() as folder:
            return self._kind(folder)

    def _kind(self, folder: Path) -> str:
        provider = _read_text(folder / "provider")
        if provider not in _PROVIDERS:
            raise UnavailableError(
                f"tsm: provider: want {' or '.join(_PROVIDERS)}, got {provider[:32]!a}", code="driver_absent"
            )
        return _PROVIDERS[provider]

    def endorse(self, report_data: bytes) -> Mapping[str, bytes]:
        """Get a report or a TD quote; repeat it if another program wrote into the same folder."""
        check_report_data(report_data)
        for _ in range(_TRIES):
            with self._folder() as folder:
                parts = self._report(folder, report_data)
            if parts is not None:
                return parts
        raise UnavailableError(
            f"tsm: another program wrote into each of {_TRIES} reports",
            hint=f"end the program that writes into {self._root}",
            code="driver_raced",
        )

    def seal_secret(self) -> None:
        """None: configfs-tsm derives no keys."""
        return

    def _report(self, folder: Path, report_data: bytes) -> dict[str, bytes] | None:
        """The parts; None if the generation shows a write that is not this function's."""
        kind = self._kind(folder)
        writes = 0
        level = self._level
        if kind == "snp" and (folder / "privlevel").exists():
            level = self._level_of(folder)
            _write(folder / "privlevel", str(level).encode())
            writes += 1
        _write(folder / "inblob", report_data)
        writes += 1
        blob = _read(folder / "outblob")
        table = _read(folder / "auxblob") if kind == "snp" and (folder / "auxblob").exists() else b""
        generation = _read_text(folder / "generation")
        if generation != str(writes):
            return None
        if kind == "snp":
            return reports.snp_parts("tsm", blob, table, report_data, level)
        reports.check_quote("tsm", blob, report_data)
        return {"quote": blob}

    def _level_of(self, folder: Path) -> int:
        text = _read_text(folder / "privlevel_floor")
        if text not in ("0", "1", "2", "3"):
            raise UnavailableError(
                f"tsm: privlevel_floor: want 0..3, got {text[:16]!a}", code="driver_answer"
            )
        floor = int(text)
        if self._level is None:
            return floor
        if not floor <= self._level <= 3:
            raise UnavailableError(
                f"tsm: privilege level: want {floor}..3, got {self._level}", code="driver_refused"
            )
        return self._level

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder for one report, removed at the end."""
        folder = self._root / f"kluis-{secrets.token_hex(16)}"
        try:
            folder.mkdir()
        except OSError as error:
            raise UnavailableError(
                f"tsm: {self._root}: {error.strerror}", hint=_HINT, code="driver_absent"
            ) from None
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _write(path: Path, data: bytes) -> None:
    """Write an attribute: it takes effect when the file is closed after one write."""
    with _faults(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
    if written != len(data):
        raise UnavailableError(
            f"tsm: {path.name}: took {written} of {len(data)} bytes", code="driver_refused"
        )


def _read(path: Path, most: int = MAX_BLOB) -> bytes:
    parts, size = [], 0
    with _faults(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while part := os.read(descriptor, most + 1 - size):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise UnavailableError(
                        f"tsm: {path.name}: is larger than {most} bytes", code="driver_answer"
                    )
        finally:
            os.close(descriptor)
    return b"".join(parts)


def _read_text(path: Path) -> str:
    return _read(path, _TEXT).decode("ascii", "replace").removesuffix("\n")


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"tsm: {path.name}: {error.strerror}",
            hint="dmesg states why the kernel or its host refused; a busy host answers later",
            code="driver_refused",
        ) from None
