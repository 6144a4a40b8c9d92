"""The enclave that the adversary tests attack: it holds a secret in three places, and tries to get out."""

import contextlib
import ctypes
import hashlib
import importlib
import mmap
import os
import socket
import subprocess
import sys
import threading
import time

from kluis.enclave import Enclave, counter, granted_socket, insecure_raw_quote, quote, seal, unseal

app = Enclave("victim", product_id=66, svn=2)
held: list[bytes] = []


class _Passed(ctypes.Structure):
    """Passed by value: the callee's frame holds a copy of it."""

    _fields_ = (("text", ctypes.c_char * 128),)


def secret_of(seed: str) -> bytes:
    """The needle that the attacker looks for: never sent, made on both sides."""
    return b"PLANTED-" + hashlib.sha256(seed.encode()).hexdigest().encode()


def _python_local(seed: str, ready: threading.Event) -> None:
    local = secret_of(seed)
    ready.set()
    time.sleep(3600)
    held.append(local)


def _c_local(seed: str, ready: threading.Event) -> None:
    passed = _Passed(secret_of(seed))
    usleep = ctypes.CDLL(None).usleep
    usleep.argtypes = (ctypes.c_uint, _Passed)
    ready.set()
    while True:
        usleep(500_000, passed)


AT_START = [secret_of("at start") + str(number).encode() for number in range(500)]
"""Held from the import on, so that an attack in the midst of a start has something to find."""


@app.ecall
def plant(seed: str, copies: int) -> int:
    """Keep the secret on the heap, in a local of Python and in a local of a C thread."""
    held.extend(secret_of(seed) + str(number).encode() for number in range(copies))
    for run in (_python_local, _c_local):
        ready = threading.Event()
        threading.Thread(target=run, args=(seed, ready), daemon=True).start()
        ready.wait(300)
    time.sleep(0.05)
    return len(held)


@app.ecall
def escape(how: str) -> str:
    """Try one way out; say what stopped it."""
    try:
        return f"got out: {ESCAPES[how]()!r}"
    except OSError as error:
        return f"{type(error).__name__} {error.errno}"
    except Exception as error:
        return type(error).__name__


def _raw(number: int, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    if got < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return got


def _writable_code() -> object:
    return mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def _data_as_code() -> object:
    data = ctypes.addressof(ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ"))
    return _raw(10, data & ~0xFFF, 4096, 1 | 4)


def _stub() -> int:
    """Where C would call, to call this function."""
    return ctypes.cast(_CALLED, ctypes.c_void_p).value or 0


def _mapped_code() -> object:
    """A memory file that was written, mapped to be run: what libffi does where memory is not both at once."""
    descriptor = os.memfd_create("code")
    os.write(descriptor, bytes(4096))
    return mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)


@app.ecall
def call_written_code() -> int:
    """The same, by system call number: returns what the code returns."""
    descriptor = os.memfd_create("code")
    os.write(descriptor, bytes.fromhex("b82a000000c3").ljust(4096, b"\0"))  # mov eax, 42; ret
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    at = call(*(ctypes.c_long(a) for a in (9, 0, 4096, mmap.PROT_READ | mmap.PROT_EXEC, 1, descriptor, 0)))
    return ctypes.CFUNCTYPE(ctypes.c_int)(at)()


@app.ecall
def fill_memory_file(mebibytes: int) -> int:
    """Bytes that a memory file holds then."""
    descriptor, part = os.memfd_create("large"), bytes(1 << 20)
    try:
        return sum(os.write(descriptor, part) for _ in range(mebibytes))
    finally:
        os.close(descriptor)


_CALLED = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number + 1)
ESCAPES = {
    "write-stub": lambda: _raw(10, _stub() & ~0xFFF, 4096, 3),
    "mapped-code": _mapped_code,
    "heap-as-code": lambda: _raw(10, id(held) & ~0xFFF, 4096, 5),
    "write-urandom": lambda: open("/dev/urandom", "wb"),
    "dev-null": lambda: open("/dev/null", "wb"),
    "dev": lambda: os.listdir("/dev"),
    "socket": lambda: socket.socket(),
    "socket-unix": lambda: socket.socket(socket.AF_UNIX),
    "socket-netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "fork": lambda: os.fork(),
    "vfork": lambda: _raw(58),
    "clone3": lambda: _raw(435, 0, 0),
    "exec": lambda: os.execv("/k/python/bin/kluis-launcher", ["x"]),
    "subprocess": lambda: subprocess.run(["/bin/true"], check=False),
    "ptrace": lambda: _raw(101, 0, 0, 0, 0),
    "ptrace-guardian": lambda: _raw(101, 0x4206, 1, 0, 0),
    "kill-guardian": lambda: os.kill(1, 9),
    "process_vm_readv": lambda: _raw(310, 1, 0, 0, 0, 0, 0),
    "pidfd_open": lambda: _raw(434, 1, 0),
    "host-passwd": lambda: open("/etc/passwd").read(),
    "host-root": lambda: os.listdir("/root"),
    "proc": lambda: os.listdir("/proc/self"),
    "sys": lambda: os.listdir("/sys"),
    "dev-mem": lambda: open("/dev/mem", "rb"),
    "dev-kvm": lambda: open("/dev/kvm", "rb"),
    "write-code": lambda: open("/k/app/app.py", "w"),
    "write-tmp": lambda: open("/tmp/x", "w"),
    "scratch": lambda: os.listdir("/scratch"),
    "write-scratch": lambda: open("/scratch/x", "w"),
    "write-root": lambda: open("/x", "w"),
    "chmod": lambda: os.chmod("/k/app/app.py", 0o777),
    "mount": lambda: _raw(165, 0, 0, 0, 0, 0),
    "unshare": lambda: _raw(272, 0x10000000),
    "setns": lambda: _raw(308, 3, 0),
    "setuid": lambda: os.setuid(0),
    "bpf": lambda: _raw(321, 0, 0, 0),
    "perf_event_open": lambda: _raw(298, 0, 0, -1, -1, 0),
    "io_uring": lambda: _raw(425, 1, 0),
    "keyctl": lambda: _raw(250, 0, 0, 0, 0, 0),
    "userfaultfd": lambda: _raw(323, 0),
    "reboot": lambda: _raw(169, 0, 0, 0, 0),
    "unknown-call": lambda: _raw(999),
    "plain-memory": lambda: _raw(9, 0, 4096, 3, 0x22, -1, 0),
    "reopened-memory": lambda: _raw(10, _raw(9, 0, 4096, 0, 0x22, -1, 0), 4096, 3),
    "brk": lambda: _raw(12, 0),
    "writable-code": _writable_code,
    "data-as-code": _data_as_code,
    "dumpable": lambda: _raw(157, 4, 1, 0, 0, 0),
    "raise-core-limit": lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_CORE, (1, 1)),
}


@app.ecall
def exhaust() -> int:
    """Ask for memory until there is none: MemoryError, not death."""
    hoard = []
    while True:
        hoard.append(bytearray(8 << 20))


HOARD = (
    "def hoard():\n    n, kept = 1000, [None] * 20_000_000\n"
    + "    n += 1\n" * 200
    + "    with contextlib.nullcontext():\n        while True:\n            n += 1\n            kept[n] = n\n"
)


@app.ecall
def exhaust_small() -> int:
    """Fill the heap with integers of 32 bytes, the size that CPython needs to unwind far into a function."""
    names: dict[str, object] = {"contextlib": contextlib}
    exec(HOARD, names)
    return int(names["hoard"]())  # type: ignore[operator]


@app.ecall
def alive() -> str:
    """Say that all is well."""
    return "alive"


@app.ecall
def crash() -> None:
    """Die of a bad pointer, as a bug in C would."""
    ctypes.string_at(8)


@app.ecall
def environment() -> dict[str, str]:
    """What the enclave finds in its environment."""
    return dict(os.environ)


@app.ecall
def interpreter() -> list[str]:
    """How the interpreter was started, and where modules come from."""
    flags = sys.flags
    return [f"isolated={flags.isolated}", f"no_site={flags.no_site}", *sys.path]


@app.ecall
def loaded(name: str) -> bool:
    """Whether a module is loaded or could be found."""
    import importlib.util

    return name in sys.modules or importlib.util.find_spec(name) is not None


@app.ecall
def bring(name: str) -> str:
    """Import a module; what it holds under ``FOUND``."""
    return str(getattr(importlib.import_module(name), "FOUND", "nothing"))


@app.ecall
def text_of(path: str) -> str:
    """What a file of the image holds, in short."""
    with open(path) as file:
        return file.read(100)


@app.ecall
def keep(secret: bytes, policy: str) -> bytes:
    """Seal to this code or to its signer."""
    return seal(secret, policy=policy)  # type: ignore[arg-type]


@app.ecall
def give(sealed: bytes) -> bytes:
    """Unseal."""
    return unseal(sealed)


@app.ecall
def count(name: str, up: bool) -> list[str]:
    """Read or raise a counter: its value, and who would notice a rollback."""
    counted = counter(name, policy="signer")
    reading = counted.increment() if up else counted.read()
    return [str(reading.value), reading.witness]


@app.ecall
def serve_one(grant: str) -> bytes:
    """Accept one connection on a granted socket, answer it, and tell what it said."""
    with granted_socket(grant) as listener, listener.accept()[0] as peer:
        said = peer.recv(100)
        peer.sendall(said.upper())
        return said


@app.ecall
def raw_quote(report_data: bytes) -> bytes:
    """Ask for a quote of bytes of the host's choosing."""
    return insecure_raw_quote(report_data)


@app.ecall
def vouch(nonce: bytes, payload: bytes) -> bytes:
    """A quote of purpose ``app``."""
    return quote(payload, nonce=nonce).quote


@app.ecall
def spin(seed: str, seconds: float) -> int:
    """Work on the secret in a C function, so that its stack is full of it."""
    passed = _Passed(secret_of(seed))
    usleep = ctypes.CDLL(None).usleep
    usleep.argtypes = (ctypes.c_uint, _Passed)
    end, turns = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        usleep(0, passed)
        turns += 1
    return turns


@app.ecall
def absolute(number: int) -> int:
    """labs(3) of the C library in the measured image."""
    return int(ctypes.CDLL(None).labs(ctypes.c_long(number)))


@app.ecall
def sort_by_callback(numbers: list[int]) -> list[int]:
    """Have the C library sort, which calls back into Python for every comparison."""
    kind = ctypes.POINTER(ctypes.c_int)
    values = (ctypes.c_int * len(numbers))(*numbers)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, kind, kind)(lambda one, other: one[0] - other[0])
    ctypes.CDLL(None).qsort(values, len(numbers), ctypes.sizeof(ctypes.c_int), compare)
    return list(values)


@app.ecall
def callbacks(count: int) -> list[int]:
    """Make and call so many callbacks at once; then as many again, one after the other."""
    kind = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_int)
    made = [kind(lambda x, n, at=at: x * n + at) for at in range(count)]
    right = sum(one(0.5, 4) == 2 + at for at, one in enumerate(made))
    made.clear()
    return [right, sum(kind(lambda x, n, at=at: x * n + at)(0.5, 4) == 2 + at for at in range(count))]


@app.ecall
def random_file(size: int) -> bytes:
    """Bytes of /dev/urandom."""
    with open("/dev/urandom", "rb") as file:
        return file.read(size)
