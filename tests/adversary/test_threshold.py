"""An image whose own loader or libc is hostile: it runs before the launcher has closed anything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kluis.tee.process import native

# A whole Python represents a hostile loader, started as an image's launcher is. It makes system calls by
# number, as code without a libc would.
HOSTILE = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(number, *arguments)
    return "done" if answer >= 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps({
    "fork": tried(57), "vfork by clone": tried(56, 17, 0, 0, 0, 0), "clone3": tried(435, 0, 0),
    "socket": tried(41, 1, 1, 0), "netlink": tried(41, 16, 3, 0), "connect": tried(42, 0, 0, 0),
    "ptrace": tried(101, 16, 1, 0, 0), "process_vm_readv": tried(310, 1, 0, 0, 0, 0, 0),
    "pidfd_getfd": tried(438, 0, 0, 0), "unshare": tried(272, 0x10000000), "setns": tried(308, 0, 0),
    "mount": tried(165, 0, 0, 0, 0, 0), "move_mount": tried(429, 0, 0, 0, 0, 0), "chroot": tried(161, b"/"),
    "bpf": tried(321, 0, 0, 0), "perf_event_open": tried(298, 0, 0, 0, 0, 0), "io_uring": tried(425, 1, 0),
    "add_key": tried(248, 0, 0, 0, 0, 0), "userfaultfd": tried(323, 0), "kexec": tried(246, 0, 0, 0, 0),
    "init_module": tried(175, 0, 0, 0), "execveat": tried(322, -1, 0, 0, 0, 0), "setuid": tried(105, 0),
    "mremap": tried(25, 0, 0, 0, 0, 0), "personality": tried(135, 0xffffffff),
    "still": tried(39),
}))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What the kernel answered."""
    done = subprocess.run(
        [
            str(native.guardian()),
            "0",
            "0",
            "1048576",
            "secret-memory",
            sys.executable,
            "-I",
            "-S",
            "-c",
            HOSTILE,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_nothing_but_a_start_is_left(answers: dict[str, str]) -> None:
    """No process, socket, namespace, mount, debugger, module or key: from the first instruction."""
    assert answers.pop("still") == "done"
    assert answers.pop("clone3") == "ENOSYS"
    assert answers == dict.fromkeys(answers, "EPERM")
