"""Import an application and write its interface: a program that the base layer's interpreter runs in a
sandbox.

It imports only the standard library. The outer sandbox is bubblewrap's (:mod:`kluis.tee.image.build.walls`).
Before it imports the application, which may be hostile, this program adds limits for its own process:
resource limits, a separate user id if root builds, and a filter of system calls. As in an enclave, the
process cannot start another process or program, so its own limits bound all of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import resource
import sys
from typing import Any, Final

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X86_64: Final = 0xC000003E
_X32: Final = 0x40000000
_CLONE, _CLONE3, _SOCKET = 56, 435, 41
_THREAD: Final = 0x10000 | 0x800 | 0x100  # CLONE_THREAD, CLONE_SIGHAND, CLONE_VM
_FAMILIES: Final = (1, 2, 10)  # Unix, IPv4, IPv6: VSOCK, for one, leads out of a network namespace
REFUSED: Final = {
    "fork": 57, "vfork": 58, "execve": 59, "execveat": 322,
    "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "memfd_create": 319, "memfd_secret": 447,
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_open": 434,
    "pidfd_getfd": 438, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "setns": 308,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "bpf": 321, "perf_event_open": 298,
    "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "fanotify_init": 300, "syslog": 103, "modify_ldt": 154, "init_module": 175, "finit_module": 313,
}  # fmt: skip
"""System calls on x86-64 that fail with EPERM: new processes, memory that no limit counts, other processes'
memory and keys, new namespaces and mounts, and parts of the kernel that no import needs.
"""


def confine(limits: dict[str, int], own_id: int) -> None:
    """Confine this process irrevocably.

    Args:
        limits: of ``resource``, by name, such as ``RLIMIT_AS``.
        own_id: the user and group id to switch to; 0 keeps the current ones.

    Raises:
        OSError: the kernel refuses a step.
    """
    for name, most in {**limits, "RLIMIT_CORE": 0}.items():
        kind = int(vars(resource)[name])
        hard = resource.getrlimit(kind)[1]
        low = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (low, low))
    if own_id:
        os.setgroups([])
        os.setresgid(own_id, own_id, own_id)
        os.setresuid(own_id, own_id, own_id)
    code = program()
    buffer = ctypes.create_string_buffer(code)
    head = (len(code) // 8).to_bytes(8, "little") + ctypes.addressof(buffer).to_bytes(8, "little")
    filter_ = ctypes.create_string_buffer(head)
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS, which an ordinary user needs to set a filter; PR_SET_SECCOMP, as a filter.
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.addressof(filter_), 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(each) for each in arguments)):
            raise OSError(ctypes.get_errno(), "prctl")


def program() -> bytes:
    """The filter of system calls, as BPF: 8 bytes per instruction."""
    lines = [
        (_LOAD, 0, 0, _MACHINE_AT), (_EQUAL, 1, 0, _X86_64), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL),
        (_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]  # fmt: skip
    for number in REFUSED.values():
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    lines += [
        (_EQUAL, 0, 5, _CLONE), (_LOAD, 0, 0, _FIRST_ARGUMENT_AT), (_AND, 0, 0, _THREAD),
        (_EQUAL, 0, 1, _THREAD), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_EQUAL, 0, len(_FAMILIES) + 2, _SOCKET), (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        *((_EQUAL, len(_FAMILIES) - i, 0, family) for i, family in enumerate(_FAMILIES)),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    return b"".join(
        code.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little")
        for code, yes, no, value in lines
    )


def main() -> None:
    """Confine this process, report that with a byte, import the application, and write its answer."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    out: int = settings["out"]
    confine(settings["limits"], settings["own_id"])
    os.write(out, b"\n")
    os.environ.update(settings["env"])
    sys.argv[1:] = []
    sys.path.extend(settings["paths"])
    answer: dict[str, Any]
    try:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("kluis.missing").install()
        app = getattr(importlib.import_module(settings["module"]), settings["attribute"])
        answer = {
            "interface": app.interface(),
            "name": app.name,
            "product_id": app.product_id,
            "svn": app.svn,
        }
    except Exception as error:
        if type(error).__module__ != "kluis.errors":  # Kluis's own errors already have a hint
            raise
        answer = {"refused": str(error), "hint": getattr(error, "hint", None)}
    with open(out, "w", encoding="utf-8") as f:
        json.dump(answer, f)
    os._exit(0)


if __name__ == "__main__":
    main()
