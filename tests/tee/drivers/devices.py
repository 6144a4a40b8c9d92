"""The kernel's interfaces of TEEs, as FUSE trees: configfs-tsm, /dev/sev-guest, /dev/tdx_guest, /dev/nsm."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import struct
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.tee.drivers.fuse import Files, Memory
from tests.tee.tpm.tpms import Software

Report = Callable[[bytes, int], bytes]
"""A report over 64 bytes of report data, at a privilege level."""


class ConfigfsTsm(Files):
    """configfs-tsm with one provider, which counts writes as the kernel does.

    Attributes:
        raced: how many more reports another program writes into.
        folders: that exist now.
    """

    def __init__(self, provider: str, report: Report, table: bytes = b"", floor: int = 0) -> None:
        self.provider = provider
        self.report = report
        self.table = table
        self.floor = floor
        self.raced = 0
        self.faults: dict[str, int] = {}
        self.folders: dict[str, dict[str, bytes]] = {}

    def kind(self, path: str) -> int:
        folder, _, name = path.partition("/")
        if not path or path in self.folders:
            return stat.S_IFDIR | 0o755
        if folder in self.folders and name in self._names():
            return stat.S_IFREG | (0o200 if name in ("inblob", "privlevel") else 0o400)
        raise FileNotFoundError(errno.ENOENT, "")

    def _names(self) -> tuple[str, ...]:
        common = "provider", "generation", "inblob", "outblob"
        return (
            (*common, "auxblob", "privlevel", "privlevel_floor") if self.provider == "sev_guest" else common
        )

    def mkdir(self, path: str) -> None:
        if "mkdir" in self.faults:
            raise OSError(self.faults["mkdir"], "")
        self.folders[path] = {"generation": b"0"}

    def rmdir(self, path: str) -> None:
        del self.folders[path]

    def write(self, path: str, data: bytes) -> None:
        folder, _, name = path.partition("/")
        if name in self.faults:
            raise OSError(self.faults[name], "")
        held = self.folders[folder]
        if name == "privlevel" and not self.floor <= int(data) <= 3:
            raise OSError(errno.EINVAL, "")
        if name == "inblob" and len(data) > 64:
            raise OSError(errno.EINVAL, "")
        held[name] = data
        held["generation"] = b"%d" % (int(held["generation"]) + 1)

    def read(self, path: str) -> bytes:
        folder, _, name = path.partition("/")
        if name in self.faults:
            raise OSError(self.faults[name], "")
        held = self.folders[folder]
        match name:
            case "provider":
                return self.provider.encode() + b"\n"
            case "generation":
                return held["generation"] + b"\n"
            case "privlevel_floor":
                return b"%d\n" % self.floor
            case "outblob" if "inblob" in held:
                data = held["inblob"]
                if self.raced:
                    self.raced -= 1
                    data = b"X" * 64
                    held["generation"] = b"%d" % (int(held["generation"]) + 1)
                return self.report(data, int(held.get("privlevel", b"0")))
            case "auxblob" if "inblob" in held:
                return self.table
            case _:
                raise OSError(errno.EINVAL, "")


class SevGuest(Files):
    """``/dev/sev-guest``: the kernel reads and writes buffers of the calling process.

    Attributes:
        table: the host's certificates; None: it refuses extended requests.
    """

    def __init__(self, report: Report, table: bytes | None = b"", key: bytes = b"") -> None:
        self.report = report
        self.table = table
        self.key = key
        self.key_requests: list[tuple[int, ...]] = []

    def ioctl(self, path: str, request: int, data: bytes, pid: int) -> bytes:
        version, asked, answer, _ = struct.unpack("<B7xQQQ", data)
        assert version == 1
        memory = Memory(pid)
        if request == 0xC0205301:
            self.key_requests.append(struct.unpack("<IIQIIQ", memory.read(asked, 32)))
            memory.write(answer, bytes(32) + self.key.ljust(32, b"\0"))
            return data
        report_data, level = struct.unpack("<64sI", memory.read(asked, 68))
        if request == 0xC0205302:
            place, size = struct.unpack("<QI", memory.read(asked + 96, 12))
            if self.table is None or len(self.table) > size:
                raise OSError(errno.EIO, "")
            memory.write(place, self.table)
        elif request != 0xC0205300:
            raise OSError(errno.ENOTTY, "")
        report = self.report(report_data, level)
        memory.write(
            answer, (bytes(4) + len(report).to_bytes(4, "little") + bytes(24) + report).ljust(4000, b"\0")
        )
        return data


class TdxGuest(Files):
    """``/dev/tdx_guest``."""

    def __init__(self, tdreport: Callable[[bytes], bytes]) -> None:
        self.tdreport = tdreport

    def ioctl(self, path: str, request: int, data: bytes, pid: int) -> bytes:
        if request != 0xC4405401:
            raise OSError(errno.ENOTTY, "")
        return data[:64] + self.tdreport(data[:64])


class Nsm(Files):
    """``/dev/nsm``: returns an answer for a request in CBOR."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer

    def ioctl(self, path: str, request: int, data: bytes, pid: int) -> bytes:
        if request != 0xC0200A00:
            raise OSError(errno.ENOTTY, "")
        asked, asked_size, place, size = struct.unpack("<QQQQ", data)
        memory = Memory(pid)
        answer = self.answer(memory.read(asked, asked_size))
        if len(answer) > size:
            raise OSError(errno.EMSGSIZE, "")
        memory.write(place, answer)
        return struct.pack("<QQQQ", asked, asked_size, place, len(answer))


@contextlib.contextmanager
def tpm_device(software: Software) -> Iterator[Path]:
    """A character device in front of a software TPM, as ``/dev/tpmrm0`` is: a raw terminal.

    The kernel copies from and to it, as drivers of devices do. FUSE pins pages instead, which memory that is
    secret refuses.
    """
    master, slave = os.openpty()
    tty.setraw(slave)
    child = os.fork()
    if not child:
        with contextlib.suppress(OSError):
            while True:
                request = os.read(master, 4096)
                while len(request) < 6 or len(request) < int.from_bytes(request[2:6], "big"):
                    request += os.read(master, 4096)
                with software.tpm() as tpm:
                    os.write(master, tpm._transport.exchange(request))
        os._exit(0)
    try:
        yield Path(os.ttyname(slave))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(master)
        os.close(slave)
