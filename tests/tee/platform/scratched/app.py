"""An enclave with encrypted scratch, which does to files what programs do to files."""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import shutil
import sqlite3
import tempfile
import threading
import zipfile
from pathlib import Path

from kluis.enclave import Enclave

app = Enclave("scratched", product_id=69, svn=1)
TOP = Path("/scratch")
SIZE = 16 << 20


def _answer(call) -> str:
    """The name of the error that a call ends with."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "nothing"


def _free() -> int:
    there = os.statvfs(TOP)
    return there.f_bavail * there.f_frsize


@app.ecall
def where() -> list[str]:
    """Where temporary files go."""
    return [tempfile.gettempdir(), str(TOP.is_dir()), _answer(lambda: os.mkdir("/elsewhere"))]


@app.ecall
def round_trip() -> list[str]:
    """Bytes of many sizes at many places come back, whatever the buffer."""
    for size in (0, 1, 4095, 4096, 4097, 262_143, 262_144, 300_001):
        for at in (0, 1, 4095, 4096, 70_000):
            data, path = os.urandom(size), TOP / "trip"
            with path.open("wb") as file:
                file.seek(at)
                file.write(data)
            with path.open("rb", buffering=0) as file:
                whole = file.readall()
            assert whole == (bytes(at) + data if data else b""), (size, at)
            assert path.stat().st_size == len(whole)
    (TOP / "trip").unlink()
    return [str(SIZE - _free())]


@app.ecall
def model() -> list[str]:
    """Three thousand steps, chosen by chance, on a file and on bytes in memory: both hold the same."""
    chance, mirror, path = random.Random(20), bytearray(), TOP / "model"
    punch = ctypes.CDLL(None, use_errno=True).fallocate
    punch.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for step in range(3000):
        at = chance.choice((0, 4096, 8192, len(mirror))) + chance.choice(
            (0, 0, 1, -1, chance.randrange(20_000))
        )
        at, size = max(at, 0), chance.choice((1, 4095, 4096, 8192, chance.randrange(1, 300_000)))
        match chance.choice("wwwwrrtpa"):
            case "w":
                data = chance.randbytes(size)
                mirror.extend(bytes(max(0, at - len(mirror))))
                mirror[at : at + size] = data
                assert os.pwrite(fd, data, at) == size
            case "a":
                mirror.extend(b"appended")
                assert os.lseek(fd, 0, os.SEEK_END) == len(mirror) - 8
                assert os.write(fd, b"appended") == 8
            case "t":
                at = min(at, 1 << 20)
                mirror[:] = mirror[:at] + bytes(max(0, at - len(mirror)))
                os.ftruncate(fd, at)
            case "p":
                mirror[at : at + size] = bytes(len(mirror[at : at + size]))
                assert punch(fd, 3, at, size) == 0
        assert os.pread(fd, size, at) == mirror[at : at + size], step
    assert path.read_bytes() == mirror
    os.close(fd)
    path.unlink()
    return [str(step + 1), str(SIZE - _free())]


@app.ecall
def holes() -> list[str]:
    """A hole reads as zeros and costs nothing; cutting and growing leaves no old byte."""
    path = TOP / "holes"
    with path.open("w+b") as file:
        file.seek(100 << 20)
        file.write(b"end")
        file.flush()
        cost = os.fstat(file.fileno()).st_blocks * 512
        assert os.pread(file.fileno(), 5000, 50 << 20) == bytes(5000)
        os.pwrite(file.fileno(), b"x" * 10_000, 0)
        os.ftruncate(file.fileno(), 5000)
        os.ftruncate(file.fileno(), 10_000)
        assert os.pread(file.fileno(), 20_000, 0) == b"x" * 5000 + bytes(5000)
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        full = os.fstat(file.fileno()).st_blocks * 512
        punch = ctypes.CDLL(None, use_errno=True).fallocate
        punch.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
        assert punch(file.fileno(), 3, 1000, 9000) == 0
        assert os.pread(file.fileno(), 11_000, 0) == b"x" * 1000 + bytes(10_000)
    path.unlink()
    return [str(cost), str(full), str(SIZE - _free())]


@app.ecall
def opening() -> list[str]:
    """What opening answers."""
    path, said = TOP / "opened", []
    said.append(_answer(lambda: path.open("rb")))
    path.write_bytes(b"one")
    said.append(_answer(lambda: path.open("xb")))
    with path.open("ab") as first, path.open("ab") as second:
        first.write(b"two"), first.flush()
        second.write(b"three"), second.flush()
    said.append(path.read_text())
    said.append(_answer(lambda: os.open(path, os.O_RDONLY | os.O_DIRECTORY)))
    said.append(_answer(lambda: os.open(TOP, os.O_RDWR)))
    said.append(_answer(lambda: os.open(TOP / "a" / "b", os.O_CREAT | os.O_RDWR)))
    said.append(_answer(lambda: os.open(TOP / ("n" * 256), os.O_CREAT | os.O_RDWR)))
    said.append(_answer(lambda: os.write(os.open(path, os.O_RDONLY), b"x")))
    said.append(_answer(lambda: os.read(os.open(path, os.O_WRONLY), 1)))
    said.append(_answer(lambda: os.symlink("/k", TOP / "link")))
    path.write_text("shorter")
    said.append((TOP / ".." / "scratch" / "." / "opened").read_text())
    nameless = os.open(TOP, os.O_TMPFILE | os.O_RDWR)
    os.write(nameless, b"nameless")
    said.append(os.pread(nameless, 100, 0).decode() + str(os.fstat(nameless).st_nlink))
    os.close(nameless)
    path.unlink()
    return said


@app.ecall
def names() -> list[str]:
    """Directories, renames over files, removal while open; what is listed in between."""
    said = []
    (TOP / "d" / "e").mkdir(parents=True)
    (TOP / "d" / "one").write_text("1")
    (TOP / "d" / "two").write_text("2")
    said.append(",".join(sorted(f"{e.name}{'/' if e.is_dir() else ''}" for e in os.scandir(TOP / "d"))))
    said.append(_answer(lambda: os.rmdir(TOP / "d")))
    said.append(_answer(lambda: os.unlink(TOP / "d")))
    said.append(_answer(lambda: os.rename(TOP / "d", TOP / "d" / "e" / "f")))
    said.append(_answer(lambda: os.rename(TOP / "d" / "one", "/k/one")))
    with (TOP / "d" / "two").open() as still:
        os.replace(TOP / "d" / "one", TOP / "d" / "two")
        said.append(still.read() + (TOP / "d" / "two").read_text())
    folder = os.open(TOP / "d", os.O_RDONLY)
    inside = os.open("three", os.O_CREAT | os.O_WRONLY, dir_fd=folder)
    os.close(inside)
    said.append(",".join(sorted(os.listdir(folder))))
    os.close(folder)
    os.rename(TOP / "d", TOP / "moved")
    shutil.copytree(TOP / "moved", TOP / "copied")
    said.append(",".join(sorted(str(path.relative_to(TOP)) for path in TOP.rglob("*"))))
    for name in ("moved", "copied"):
        shutil.rmtree(TOP / name)
    said.append(str(os.listdir(TOP)))
    return said


@app.ecall
def descriptors() -> list[str]:
    """Duplicates share an offset; a lock keeps another open file out; a map is a copy."""
    path, said = TOP / "fd", []
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.write(fd, b"abcdef" * 2000)
    os.lseek(fd, 0, os.SEEK_SET)
    twin, third = os.dup(fd), os.memfd_create("third")
    os.dup2(fd, third)
    os.close(fd)
    said.append((os.read(twin, 3) + os.read(third, 3)).decode())
    other = os.open(path, os.O_RDWR)
    fcntl.flock(twin, fcntl.LOCK_EX)
    said.append(_answer(lambda: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    fcntl.flock(twin, fcntl.LOCK_UN)
    said.append(_answer(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    fcntl.lockf(other, fcntl.LOCK_EX)
    with mmap.mmap(twin, 0, prot=mmap.PROT_READ) as view:
        said.append(view[5998:6004].decode())
    said.append(_answer(lambda: mmap.mmap(twin, 0)))
    said.append(str(os.lseek(twin, -4, os.SEEK_END)))
    said.append(
        str(os.writev(twin, [b"12", b"", b"345"]) + os.preadv(twin, [bytearray(3), bytearray(9)], 11_999))
    )
    for each in (twin, third, other):
        os.close(each)
    said.append(_answer(lambda: os.read(twin, 1)))
    path.unlink()
    return said


@app.ecall
def full() -> list[str]:
    """A full scratch is ENOSPC, what was written stays, and removing makes room again."""
    said = []
    with (TOP / "big").open("wb", buffering=0) as file:
        wrote = 0

        def fill() -> None:
            nonlocal wrote
            while True:
                wrote += file.write(b"f" * 300_000)

        said.append(_answer(fill))
    said.append(str(wrote))
    said.append(_answer(lambda: (TOP / "more").write_bytes(b"x")))
    assert (TOP / "big").read_bytes() == b"f" * wrote
    (TOP / "big").unlink(), (TOP / "more").unlink()
    said.append(str(_free()))
    return said


@app.ecall
def threads(count: int) -> int:
    """Many threads write, read and remove their own files and one that all share; how many found theirs."""
    found, shared = [], os.open(TOP / "shared", os.O_CREAT | os.O_RDWR)

    def work(number: int) -> None:
        mine = bytes([number]) * 50_000
        for turn in range(20):
            path = TOP / f"{number}-{turn}"
            path.write_bytes(mine)
            os.pwrite(shared, mine[:5000], number * 5000)
            if path.read_bytes() != mine or os.pread(shared, 5000, number * 5000) != mine[:5000]:
                return
            path.unlink()
        found.append(number)

    running = [threading.Thread(target=work, args=(number,)) for number in range(1, count + 1)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    os.close(shared)
    os.unlink(TOP / "shared")
    return len(found)


@app.ecall
def libraries() -> list[str]:
    """The standard library's users of files: tempfile, zipfile, sqlite3, C streams."""
    said = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as nameless:
        nameless.write(b"t" * 100_000)
        nameless.seek(0)
        said.append(f"{folder.startswith('/scratch/')} {len(nameless.read())}")
        shutil.copy2(__file__, folder)
        said.append(str(Path(folder, "app.py").read_bytes() == Path(__file__).read_bytes()))
        with zipfile.ZipFile(f"{folder}/z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner", b"z" * 70_000)
        with zipfile.ZipFile(f"{folder}/z.zip") as archive:
            said.append(str(len(archive.read("inner"))))
        database = sqlite3.connect(f"{folder}/s.db")
        with database:
            database.execute("create table t(a, b)")
            database.executemany("insert into t values(?, ?)", ((n, "x" * 50) for n in range(20_000)))
        said.append(str(database.execute("select count(*), sum(a) from t").fetchone()))
        database.close()
        c = ctypes.CDLL(None)
        c.fopen.restype = c.fdopen.restype = ctypes.c_void_p
        stream = ctypes.c_void_p(c.fopen(f"{folder}/c".encode(), b"w+"))
        c.fputs(b"through a stream", stream)
        c.fseek(stream, 8, 0)
        line = ctypes.create_string_buffer(100)
        c.fgets(line, 100, stream)
        said.append(f"{line.value.decode()} {c.fileno(stream) > 2} {c.fclose(stream)}")
    said.append(str(os.listdir(TOP)))
    return said


@app.ecall
def backing() -> list[str]:
    """What code inside can do with the backing itself: nothing, by the C library or by system calls."""
    raw = ctypes.CDLL(None, use_errno=True).syscall

    def call(number: int, *arguments: int) -> None:
        if raw(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments)) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    calls = {
        "read": (0, 9, 0, 0), "write": (1, 9, 0, 0), "close": (3, 9), "mmap": (9, 0, 4096, 3, 1, 9, 0),
        "dup": (32, 9), "dup2": (33, 0, 9), "fcntl": (72, 9, 0, 20), "ftruncate": (77, 9, 0),
    }  # fmt: skip
    said = [f"{name} {_answer(lambda at=at: call(*at))}" for name, at in calls.items()]
    said.append(_answer(lambda: os.pread(9, 10, 0)) + " " + _answer(lambda: os.pwrite(9, b"x", 0)))
    (TOP / "after").write_text("still here")
    said.append((TOP / "after").read_text())
    (TOP / "after").unlink()
    return said
