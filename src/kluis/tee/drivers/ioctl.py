"""Requests to the devices of TEEs. Some of their structures contain addresses of further buffers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from kluis.errors import UnavailableError


def address(buffer: bytearray) -> int:
    """The address of a buffer, which the caller keeps until the kernel is done with it."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def missing(name: str, path: Path) -> str | None:
    """Why a device cannot be used; None if it can."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{name}: {path}: {error.strerror}"
    return None


@contextlib.contextmanager
def device(name: str, path: Path) -> Iterator[int]:
    """Open a device; its descriptor is closed at the end.

    Raises:
        UnavailableError: there is none, or it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hint = f"modprobe the driver of {path}" if error.errno == errno.ENOENT else "run it as root"
        raise UnavailableError(f"{name}: {path}: {error.strerror}", hint=hint, code="driver_absent") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def send(name: str, descriptor: int, request: int, structure: bytearray) -> None:
    """Send one request; the kernel changes ``structure``.

    Raises:
        UnavailableError: the kernel or its host refuses; code ``driver_refused``.
    """
    try:
        fcntl.ioctl(descriptor, request, structure, True)
    except OSError as error:
        raise UnavailableError(
            f"{name}: request {request:#x}: {error.strerror}",
            hint="dmesg states why the kernel or its host refused; a busy host answers later",
            code="driver_refused",
        ) from None
